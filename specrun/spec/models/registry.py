"""Kinds Registry and Push: a registry of one's own, and images that are to be in one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from specrun.spec import units
from specrun.spec.models.base import Bytes, ImageReference, Model, Name, Seconds, converted
from specrun.spec.models.process import Dependency

Listen = Annotated[
    str,
    converted(units.endpoint, "bad-endpoint", "is not an address and a port", "HOST:PORT, as 127.0.0.1:5000"),
    WithJsonSchema({"type": "string", "pattern": ":[0-9]{1,5}$"}),
]


class RegistryTls(Model):
    """The registry's certificate."""

    certificate: str = Field(description="A PEM file, beside the spec.")
    key: str = Field(description="The PEM file of its key, beside the spec.")


class RegistryToken(Model):
    """The token server that says who may do what."""

    realm: str = Field(description="Its address.")
    service: str = Field(description="What the tokens must be for.")
    issuer: str = Field(description="Who must have issued them.")
    key: str = Field(description="A PEM file of the public keys, or certificates, that they are signed with.")


class RegistryProxy(Model):
    """The registry that this one is a pull-through cache of."""

    remote: str = Field(description="Its address: https://HOST[:PORT], http://HOST[:PORT], or docker.io.")
    ttl: Seconds | None = Field(
        default=None, description="For how long what a tag stands for is not asked again; a minute."
    )
    verify: bool = Field(default=True, description="Verify its certificate.")
    user: str | None = Field(default=None, description="Who the cache is there; what specrun login has kept if not.")
    secret: Name | None = Field(default=None, description="The Secret of these specs that holds the password.")

    @model_validator(mode="after")
    def _both(self) -> RegistryProxy:
        if bool(self.user) != bool(self.secret):
            found = f"names {'user' if self.user else 'secret'} alone"
            raise PydanticCustomError("not-both", "{found}", {"found": found, "expected": "user and secret"})
        return self

    @classmethod
    def schema_rules(cls) -> list[dict[str, Any]]:
        """Neither goes without the other."""
        given = {
            name: {"required": [name], "properties": {name: {"type": "string", "minLength": 1}}}
            for name in ("user", "secret")
        }
        return [{"if": given[one], "then": given[other]} for one, other in (("user", "secret"), ("secret", "user"))]


class RegistrySpec(Model):
    """A registry server of specrun's own, kept running."""

    AT_MOST_ONE_OF = ("htpasswd", "token")

    listen: Listen = Field(default="127.0.0.1:5000", description="Address and port.")
    storage: str | None = Field(default=None, description="The folder of its images; one of the project's by default.")
    keep: bool = Field(
        default=True, description="Its images stay when it is deleted from the specs; those in `storage` always do."
    )
    htpasswd: str | None = Field(default=None, description="A file of users with bcrypt hashes, beside the spec.")
    token: RegistryToken | None = Field(default=None, description="Let in who has a token.")
    tls: RegistryTls | None = Field(default=None, description="Serve over TLS.")
    readOnly: bool = Field(default=False, description="Refuse pushes and deletions.")
    allowDelete: bool = Field(default=True, description="Let clients delete tags, manifests and blobs.")
    mount: Literal["any", "named", "none"] = Field(
        default="any", description="Where blobs may be mounted from: any repository, the named one, or none."
    )
    quota: Bytes | None = Field(default=None, description="How much it may hold, as 10g.")
    warning: str | None = Field(default=None, description="What clients show to whoever pulls or pushes.")
    proxy: RegistryProxy | None = Field(default=None, description="Be a pull-through cache of another registry.")


class PushSpec(Model):
    """An image that is to be in a registry. Nothing is done when its digest is there already."""

    image: ImageReference = Field(description="The image of the store.")
    to: ImageReference | None = Field(
        default=None,
        description="Where it goes; by default the image's own name. Without a host it is at `registry`, if given.",
    )
    registry: Name | None = Field(default=None, description="The Registry of these specs that it goes to.")
    dependsOn: list[Dependency] = Field(default_factory=list, description="What must be there first.")
