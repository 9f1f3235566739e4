"""The kinds of specrun/v1, a module each. A field that is not here is an error in a spec, never ignored."""

from __future__ import annotations

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

API_VERSION = "specrun/v1"

KINDS: dict[str, type[Model]] = {
    "Image": ImageSpec,
    "Build": BuildSpec,
    "Container": ContainerSpec,
    "Job": JobSpec,
    "Network": NetworkSpec,
    "Volume": VolumeSpec,
    "Secret": SecretSpec,
    "Config": ConfigSpec,
    "Registry": RegistrySpec,
    "Push": PushSpec,
    "Check": CheckSpec,
}

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
