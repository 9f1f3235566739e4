"""Registries: the protocol that client and server share, the client, and a server of our own."""
