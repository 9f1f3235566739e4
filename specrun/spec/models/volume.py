"""Kind Volume: files that outlive containers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from specrun.spec.models.base import Model


class VolumeSpec(Model):
    """A named volume. It is removed by `delete` and `--prune` only when it is not to be kept."""

    driver: Literal["local"] = Field(default="local", description="What keeps the files.")
    keep: bool = Field(default=True, description="Its files stay when the object is deleted from the specs.")
    options: dict[str, str] = Field(default_factory=dict, description="The driver's options: type, device, o.")
