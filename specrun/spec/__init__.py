"""YAML specs as values: the loader that knows lines, and the models that know meaning."""

import os

# pydantic would look through all installed packages for plugins, which takes longer than reading a spec.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
