"""Kinds Secret and Config: the content of files that containers are given."""

from __future__ import annotations

from pydantic import Field

from specrun.spec.models.base import Model


class SecretSpec(Model):
    """Content that is shown nowhere: a file below /run/secrets of the containers that name it."""

    ONE_OF = ("file", "environment", "content")

    file: str | None = Field(default=None, description="A file that holds it, beside the spec.")
    environment: str | None = Field(default=None, description="The caller's environment variable that holds it.")
    content: str | None = Field(default=None, description="The content itself; better kept out of specs.", repr=False)


class ConfigSpec(Model):
    """Content of a file that containers are given. One changed byte is a change of every container that names it."""

    ONE_OF = ("file", "environment", "content")

    file: str | None = Field(default=None, description="A file that holds it, beside the spec.")
    environment: str | None = Field(default=None, description="The caller's environment variable that holds it.")
    content: str | None = Field(default=None, description="The content itself.")
