"""`specrun logout`: forget who we are at a registry."""

from specrun.cli.commands.login import logout as run

__all__ = ["run"]
