"""The kinds of specrun/v1, a module each. A field that is not here is an error in a spec, never ignored.

They are imported when they are first named: pydantic takes longer to import than a host takes to look at.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specrun.spec.models.base import Model
    from specrun.spec.models.build import BuildSpec
    from specrun.spec.models.check import CheckSpec
    from specrun.spec.models.files import ConfigSpec, SecretSpec
    from specrun.spec.models.image import ImageSpec
    from specrun.spec.models.metadata import Envelope, Metadata, Waiver
    from specrun.spec.models.network import NetworkSpec
    from specrun.spec.models.process import ContainerSpec, JobSpec, ProcessSpec
    from specrun.spec.models.registry import PushSpec, RegistrySpec
    from specrun.spec.models.volume import VolumeSpec

    KINDS: dict[str, type[Model]]

API_VERSION = "specrun/v1"

_KINDS = ("Image", "Build", "Container", "Job", "Network", "Volume", "Secret", "Config", "Registry", "Push", "Check")
_MODULES = {
    "Model": "base",
    "BuildSpec": "build",
    "CheckSpec": "check",
    "ConfigSpec": "files",
    "SecretSpec": "files",
    "ImageSpec": "image",
    "Envelope": "metadata",
    "Metadata": "metadata",
    "Waiver": "metadata",
    "NetworkSpec": "network",
    "ContainerSpec": "process",
    "JobSpec": "process",
    "ProcessSpec": "process",
    "PushSpec": "registry",
    "RegistrySpec": "registry",
    "VolumeSpec": "volume",
}


def __getattr__(name: str) -> Any:
    if name == "KINDS":
        found: Any = {kind: __getattr__(f"{kind}Spec") for kind in _KINDS}
    elif name in _MODULES:
        found = getattr(import_module(f"specrun.spec.models.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


__all__ = [
    "API_VERSION",
    "KINDS",
    "BuildSpec",
    "CheckSpec",
    "ConfigSpec",
    "ContainerSpec",
    "Envelope",
    "ImageSpec",
    "JobSpec",
    "Metadata",
    "Model",
    "NetworkSpec",
    "ProcessSpec",
    "PushSpec",
    "RegistrySpec",
    "SecretSpec",
    "VolumeSpec",
    "Waiver",
]
