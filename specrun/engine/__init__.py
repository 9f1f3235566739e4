"""Containers as Docker knows them, over the isolation runtime. Takes Python values, never YAML."""
