"""The isolation engine: an OCI runtime on the standard library alone."""
