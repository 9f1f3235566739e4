"""Acceptance tests in Gherkin over real commands: a pytest plugin with a step library (docs/features.md).

`.feature` files are collected as they are, no Python is needed. In every scenario `docker` is the engine under test:
specrun, a real Docker or podman. With specrun each scenario has a state folder and a network of its own.
"""
