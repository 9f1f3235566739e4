"""Kind Image: an image of the store, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specrun.spec.models.base import AbsolutePath, Command, Environment, ImageReference, Labels, Model


class Packages(Model):
    """Where the files of an assembled image come from."""

    ONE_OF = ("include", "recipe")

    suite: str = Field(default="", description="The release that the packages must be of, for example bookworm.")
    include: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="The packages whose files are put in."
    )
    recipe: Literal["busybox", "debian", "python", "registry"] | None = Field(
        default=None, description="A base image as the hub's of that name: its packages, files and configuration."
    )


class ImageConfig(Model):
    """What containers of the image do by default."""

    cmd: Command | None = Field(default=None, description="The default command.")
    entrypoint: Command | None = Field(default=None, description="What stands in front of every command.")
    env: Environment = Field(default_factory=dict, description="Environment variables.")
    workingDir: AbsolutePath | None = Field(default=None, description="The working directory.")
    user: str | None = Field(default=None, description="The user: name or number, with :group if wanted.")
    labels: Labels = Field(default_factory=dict, description="Labels of the image.")


class Pull(Model):
    """An image of a registry."""

    reference: ImageReference = Field(description="What is pulled: a tag is followed, a digest is pinned.")
    policy: Literal["IfNotPresent", "Always"] = Field(
        default="IfNotPresent",
        description="Always asks the registry in every plan, and sees when the tag has moved.",
    )
    platform: str | None = Field(default=None, description="os/architecture[/variant] of an image for several.")


class ImageSpec(Model):
    """An image of the store: pulled, imported, loaded, or assembled from signed packages."""

    ONE_OF = ("packages", "pull", "load", "importFrom")

    tags: Annotated[list[ImageReference], Field(min_length=1)] = Field(description="References to the image.")
    packages: Packages | None = Field(default=None, description="Assemble it of these packages of the distribution.")
    pull: Pull | None = Field(default=None, description="Pull it from a registry.")
    load: str | None = Field(default=None, description="An archive of `specrun save`: a file, beside the spec.")
    importFrom: str | None = Field(
        default=None, description="A root file system as a tar archive: a file, beside the spec."
    )
    config: ImageConfig = Field(
        default_factory=ImageConfig, description="Defaults for its containers, of an assembled or imported image."
    )
