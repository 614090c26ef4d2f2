"""A union file system in user space: several read-only lowers, one upper, one merged view.

What the file system is lives in `whiteout`, `layers`, `inodes`, `lookup`, `copy_up` and the modules
of operations beside them; `entries`, `content`, `directories` and `operations` are only adapters to
the kernel's requests, `server` the entry point for programs, `main` the command line. The package
does not know what a sandbox is.
"""
