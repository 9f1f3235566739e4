"""YAML specs as values: the loader that knows lines, and the models that know meaning."""
