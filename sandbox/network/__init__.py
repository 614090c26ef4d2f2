"""A container's network: what it may reach, and what reaches it.

none      only its own loopback
private   its own network namespace, connected to the outside by pasta(1), else slirp4netns(1)
host      the host's network namespace: nothing to connect, and nothing kept apart

resolver, hosts   the texts of /etc/resolv.conf and /etc/hosts (pure; before the start)
interior          what the container's init does inside its namespace
ports             published ports, checked before anything is started
process           a program that ends with the supervisor and says when it is ready
pasta, slirp4netns  the two programs' command lines
connection        all of it together: start, wait_ready, close
"""
