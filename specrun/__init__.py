"""specrun: containers, builds and registries from YAML specs, without a daemon."""

__version__ = "0.1.0"
