"""Which overlay serves a container's root, and how it is set up."""
