"""Talking to registries (OCI distribution specification 1.1): httpx on trio."""
