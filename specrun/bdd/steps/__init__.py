"""The step library, by what the sentences are about. docs/steps.md lists them all."""

from specrun.bdd.steps import claims, commands, containers, files, web

__all__ = ["claims", "commands", "containers", "files", "web"]
