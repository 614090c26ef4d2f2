"""What sbx needs of this machine, each thing looked at or tried, with the command that mends it.

A file per subject; `checks.run_all` runs them. They see the host as the user does, so they do not
run in the storage user namespace, and they change nothing: what is tried is tried in a child with
namespaces of its own.
"""
