"""Kind Network: a network that containers join."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from specrun.spec.models.base import Address, Model, Subnet


class Pool(Model):
    """A range of addresses."""

    subnet: Subnet = Field(description="The addresses, as 10.1.0.0/24.")
    gateway: Address | None = Field(default=None, description="The bridge's own address; the first by default.")
    ipRange: Subnet | None = Field(default=None, description="The part that containers are given.")


class Ipam(Model):
    """Where its addresses come from."""

    config: list[Pool] = Field(default_factory=list, description="The ranges; a free one is chosen by default.")


class NetworkSpec(Model):
    """A network on this host."""

    driver: Literal["bridge", "macvlan"] = Field(default="bridge", description="How containers are joined.")
    internal: bool = Field(default=False, description="No way out of it.")
    enableIPv6: bool = Field(default=False, description="IPv6 as well.")
    ipam: Ipam = Field(default_factory=Ipam, description="Where its addresses come from.")
    mtu: int | None = Field(default=None, ge=68, le=65535, description="The largest packet, in bytes.")
    options: dict[str, str] = Field(
        default_factory=dict, description="The driver's options (docker network create -o)."
    )
