"""sbx: a rootless container sandbox."""

__version__ = "0.1.0"
