"""Registries: where a name's blobs are, and with which credentials (no network in here)."""
