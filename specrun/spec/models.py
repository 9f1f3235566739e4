"""The kinds of specrun/v1. A field that is not here is an error in a spec, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.paths import NAME, is_name

API_VERSION = "specrun/v1"


def _name(text: str) -> str:
    if not is_name(text):
        raise PydanticCustomError(
            "bad-name", "{found} is not a name", {"found": repr(text), "expected": f"{NAME}, at most 128 characters"}
        )
    return text


def _reference(text: str) -> str:
    try:
        Reference.parse(text)
    except SpecrunError as error:
        raise PydanticCustomError(
            "bad-reference",
            "{found} is not an image reference",
            {"found": repr(text), "expected": "[host[:port]/]name[:tag][@digest]"},
        ) from error
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise PydanticCustomError(
            "bad-path",
            "{found} is not an absolute path",
            {"found": repr(text), "expected": "a path that begins with /"},
        )
    return text


def _environment(values: dict[str, str]) -> dict[str, str]:
    for key in values:
        if not key or "=" in key or "\0" in key:
            raise PydanticCustomError(
                "bad-variable", "{found} is not the name of a variable", {"found": repr(key), "expected": "no = in it"}
            )
    return values


Name = Annotated[str, AfterValidator(_name)]
ImageReference = Annotated[str, AfterValidator(_reference)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Environment = Annotated[dict[str, str], AfterValidator(_environment)]
Command = Annotated[list[str], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Metadata(_Model):
    """What every object has."""

    name: Name = Field(description="Unique within the kind; containers and jobs are called so.")
    labels: dict[str, str] = Field(default={}, description="Shown by inspect, and used by filters.")


class Packages(_Model):
    """Where the files of an assembled image come from."""

    suite: str = Field(default="", description="The release that the packages must be of, for example bookworm.")
    include: Annotated[list[str], Field(min_length=1)] = Field(description="The packages whose files are put in.")


class ImageConfig(_Model):
    """What containers of the image do by default."""

    cmd: Command | None = Field(default=None, description="The default command.")
    entrypoint: Command | None = Field(default=None, description="What stands in front of every command.")
    env: Environment = Field(default={}, description="Environment variables.")
    workingDir: AbsolutePath | None = Field(default=None, description="The working directory.")
    user: str | None = Field(default=None, description="The user: name or number, with :group if wanted.")
    labels: dict[str, str] = Field(default={}, description="Labels of the image.")


class ImageSpec(_Model):
    """An image assembled on this machine from signed packages."""

    tags: Annotated[list[ImageReference], Field(min_length=1)] = Field(description="References to the image.")
    packages: Packages = Field(description="The packages that it is made of.")
    config: ImageConfig = Field(default=ImageConfig(), description="Defaults for its containers.")


class Dependency(_Model):
    """Something that must be there first: exactly one of image, container and job."""

    image: Name | None = Field(default=None, description="An Image of these specs.")
    container: Name | None = Field(default=None, description="A Container of these specs.")
    job: Name | None = Field(default=None, description="A Job of these specs.")
    condition: Literal["started", "completed"] | None = Field(
        default=None, description="started for containers, completed for jobs, which are the defaults."
    )

    @model_validator(mode="after")
    def _one(self) -> Dependency:
        named = [kind for kind in ("image", "container", "job") if getattr(self, kind)]
        if len(named) != 1:
            raise PydanticCustomError(
                "bad-dependency", "{found}", {"found": "names nothing" if not named else f"names {' and '.join(named)}",
                                              "expected": "exactly one of image, container, job"}
            )  # fmt: skip
        fitting = {"image": None, "container": "started", "job": "completed"}[named[0]]
        if self.condition not in (None, fitting):
            raise PydanticCustomError(
                "bad-dependency",
                "{found}",
                {"found": f"a {named[0]} is never {self.condition}", "expected": f"condition {fitting or 'left out'}"},
            )
        return self

    @property
    def key(self) -> str:
        """`kind/name` of what is depended on."""
        for kind in ("image", "container", "job"):
            if name := getattr(self, kind):
                return f"{kind}/{name}"
        return ""


class Security(_Model):
    """As whom it runs."""

    user: str | None = Field(default=None, description="The user: name or number, with :group if wanted.")


class ProcessSpec(_Model):
    """What Container and Job have in common."""

    image: ImageReference = Field(description="The image: of an Image spec, or in the store.")
    command: Command | None = Field(default=None, description="Replaces the image's command (Docker's CMD).")
    entrypoint: Command | None = Field(default=None, description="Replaces the image's entrypoint, and its command.")
    workingDir: AbsolutePath | None = Field(default=None, description="The working directory.")
    env: Environment = Field(default={}, description="Environment variables, over the image's.")
    hostname: str | None = Field(default=None, description="The host name; the id's first 12 digits by default.")
    network: Literal["none", "host"] = Field(default="none", description="none: only loopback; host: the host's.")
    security: Security = Field(default=Security(), description="As whom it runs.")
    dependsOn: list[Dependency] = Field(default=[], description="What must be there first.")


class ContainerSpec(ProcessSpec):
    """A process that is kept running."""


class JobSpec(ProcessSpec):
    """A process that is run to completion, once for each version of its spec."""


KINDS: dict[str, type[_Model]] = {"Image": ImageSpec, "Container": ContainerSpec, "Job": JobSpec}


class Envelope(_Model):
    """The outside of every document; `spec` is judged by its kind."""

    apiVersion: Literal["specrun/v1"]
    kind: Literal["Image", "Container", "Job"]
    metadata: Metadata
    spec: Any
