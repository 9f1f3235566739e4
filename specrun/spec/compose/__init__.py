"""Compose files in, and out again. What specrun has no counterpart of is an error that names the key."""
