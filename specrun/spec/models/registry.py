"""Kinds Registry and Push: a registry of one's own, and images that are to be in one."""

from __future__ import annotations

from pydantic import Field

from specrun.spec.models.base import Bytes, ImageReference, Model, Name
from specrun.spec.models.process import Dependency


class RegistryTls(Model):
    """The registry's certificate."""

    certificate: str = Field(description="A PEM file, beside the spec.")
    key: str = Field(description="The PEM file of its key, beside the spec.")


class RegistrySpec(Model):
    """A registry server of specrun's own, kept running."""

    listen: str = Field(default="127.0.0.1:5000", description="Address and port.")
    storage: str | None = Field(default=None, description="The folder of its images; one of the project's by default.")
    htpasswd: str | None = Field(default=None, description="A file of users with bcrypt hashes, beside the spec.")
    tls: RegistryTls | None = Field(default=None, description="Serve over TLS.")
    readOnly: bool = Field(default=False, description="Refuse pushes and deletions.")
    quota: Bytes | None = Field(default=None, description="How much it may hold, as 10g.")
    proxy: str | None = Field(default=None, description="The registry that it is a pull-through cache of.")


class PushSpec(Model):
    """An image that is to be in a registry. Nothing is done when its digest is there already."""

    image: ImageReference = Field(description="The image of the store.")
    to: ImageReference | None = Field(default=None, description="Where it goes; the image's own name by default.")
    registry: Name | None = Field(default=None, description="The Registry of these specs that must run first.")
    dependsOn: list[Dependency] = Field(default_factory=list, description="What must be there first.")
