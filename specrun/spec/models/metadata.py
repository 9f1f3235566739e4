"""The outside of every document: its version, kind, name and labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from specrun.spec.models.base import Labels, Model, Name, Texts, checked


def _is_date(text: str) -> bool:
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


Date = Annotated[str, checked("bad-date", "is not a date", "year-month-day, as 2027-01-31", _is_date)]


class Waiver(Model):
    """A rule of the policy that this object may break for a while."""

    rule: str = Field(description="The rule's name, as plan prints it.")
    reason: str = Field(min_length=1, description="Why it has to be so.")
    expires: Date | None = Field(default=None, description="The last day of the waiver, as 2027-01-31.")


class Metadata(Model):
    """What every object has."""

    name: Name = Field(description="Unique within the kind; containers and jobs are called so.")
    labels: Labels = Field(default_factory=dict, description="Shown by inspect, and used by filters.")
    profiles: Texts | None = Field(
        default=None, description="The object is there only when one of these is chosen with --profile."
    )
    waivers: list[Waiver] = Field(default_factory=list, description="Rules of the policy that this object may break.")


class Envelope(Model):
    """The outside of every document; `spec` is judged by its kind."""

    apiVersion: Literal["specrun/v1"] = Field(description="The version of this format.")
    kind: Literal[
        "Image", "Build", "Container", "Job", "Network", "Volume", "Secret", "Config", "Registry", "Push", "Check"
    ] = Field(description="What kind of object it is.")
    metadata: Metadata = Field(description="Name and labels.")
    spec: Any = Field(description="What it is to be; its fields depend on the kind.")
