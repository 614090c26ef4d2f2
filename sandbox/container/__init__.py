"""The container itself: its root file system, its identity, its first process."""
