"""Starting a container and staying with it until it is gone."""
