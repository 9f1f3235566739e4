"""Kind Build: an image built from a Dockerfile."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specrun.spec.models.base import Bytes, Environment, ImageReference, Labels, Model, Name


class BuildSpec(Model):
    """An image built from a Dockerfile; built again when an input has changed."""

    AT_MOST_ONE_OF = ("dockerfile", "dockerfileInline")

    tags: Annotated[list[ImageReference], Field(min_length=1)] = Field(description="References to the image.")
    context: str = Field(default=".", description="The folder whose files COPY takes, beside the spec.")
    dockerfile: str | None = Field(default=None, description="The file, inside the context; Dockerfile by default.")
    dockerfileInline: str | None = Field(default=None, description="The text of the Dockerfile itself.")
    args: Environment = Field(default_factory=dict, description="Build arguments.")
    secrets: dict[str, Name] = Field(
        default_factory=dict, description="Id of RUN --mount=type=secret -> name of a Secret."
    )
    contexts: dict[str, str] = Field(
        default_factory=dict, description="Named contexts for COPY --from: folder or image."
    )
    target: str | None = Field(default=None, description="The stage to stop at.")
    platforms: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="os/architecture; those that can't run on this host are refused."
    )
    labels: Labels = Field(default_factory=dict, description="Labels of the image.")
    network: Literal["default", "none", "host"] | None = Field(default=None, description="The network of RUN steps.")
    extraHosts: dict[str, str] = Field(
        default_factory=dict, description="Host name -> address, for the /etc/hosts of RUN steps."
    )
    shmSize: Bytes | None = Field(default=None, description="The size of /dev/shm of RUN steps, as 64m.")
    noCache: bool = Field(default=False, description="Use no cached step.")
    cacheFrom: list[str] = Field(
        default_factory=list,
        description="Folders, or references of caches and images, that cached steps are taken from.",
    )
    cacheTo: list[str] = Field(
        default_factory=list, description="Folders or references that cached steps are put to, or type=inline."
    )
    pull: bool = Field(default=False, description="Look for newer base images.")
