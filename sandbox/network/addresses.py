"""The addresses inside a private network: the same with every program, in every container."""

from __future__ import annotations

# A private network (RFC 1918) that few use. Where somebody does, only CONTAINER and what the
# program itself answers to are hidden by it: the rest is reached as if it were on the link.
NETWORK = "10.111.111.0"
PREFIX = 24
GATEWAY = "10.111.111.2"  # this and the next are the places that slirp4netns(1) gives them
CONTAINER = "10.111.111.100"

# What the container asks for names when the host's own resolver is out of its reach: pasta hands
# on what is sent to port 53 there. Link local (RFC 3927), so that it hides no real host.
FORWARDER = "169.254.1.1"
