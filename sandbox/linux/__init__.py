"""The kernel's interfaces: one thin wrapper per call, nothing that knows of containers.

The only package (with fuse_overlay) that uses ctypes.
"""
