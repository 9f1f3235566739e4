"""The rules of the policy, and their waivers."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from specrun.reconcile.policy import findings
from specrun.spec.loader import load
from specrun.spec.sarif import sarif

TODAY = date(2026, 6, 1)


def found(folder: Path, spec: str, waivers: str = "[]") -> list[tuple[str, str, str]]:
    path = folder / "s.yaml"
    path.write_text(
        f"apiVersion: specrun/v1\nkind: Container\nmetadata: {{name: web, waivers: {waivers}}}\n"
        f"spec: {{image: 'a:1', resources: {{limits: {{memory: 1m}}}}{spec}}}\n"
    )
    return [(one.rule, one.document()["field"], one.waived) for one in findings(load([str(path)]), TODAY)]


@pytest.mark.parametrize(
    ("spec", "rule", "field"),
    [
        (", security: {privileged: true}", "privileged", "spec.security.privileged"),
        (", network: host", "host-namespace", "spec.network"),
        (", env: {DB_PASSWORD: x}", "secret-in-env", "spec.env.DB_PASSWORD"),
        (", ports: ['80:80']", "published-everywhere", "spec.ports[0]"),
    ],
)
def test_each_rule(tmp_path: Path, spec: str, rule: str, field: str) -> None:
    assert found(tmp_path, spec) == [(rule, field, "")]


@pytest.mark.parametrize(
    ("listen", "more", "count"), [("0.0.0.0:5000", "", 1), ("0.0.0.0:5000", ", htpasswd: u", 0), ("127.0.0.1:1", "", 0)]
)
def test_a_registry_for_everybody(tmp_path: Path, listen: str, more: str, count: int) -> None:
    path = tmp_path / "s.yaml"
    head = "apiVersion: specrun/v1\nkind: Registry\nmetadata: {name: r}\n"
    path.write_text(f"{head}spec: {{listen: '{listen}'{more}}}\n")
    assert [one.rule for one in findings(load([str(path)]), TODAY)] == ["published-everywhere"] * count


def test_nothing_to_say(tmp_path: Path) -> None:
    assert found(tmp_path, ", ports: ['127.0.0.1:80:80'], env: {DB_PASSWORD_FILE: /run/secrets/x}") == []


def test_waivers(tmp_path: Path) -> None:
    waiver = "[{rule: host-namespace, reason: it is a probe, expires: %s}]"
    assert found(tmp_path, ", network: host", waiver % "2026-06-01") == [
        ("host-namespace", "spec.network", "it is a probe")
    ]
    assert [rule for rule, _, waived in found(tmp_path, ", network: host", waiver % "2026-05-31") if not waived] == [
        "host-namespace",
        "waiver",
    ]
    assert found(tmp_path, "", waiver % "2026-06-01") == [("waiver", "metadata.waivers[0]", "")]


def test_latest_and_limits_and_sarif(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("apiVersion: specrun/v1\nkind: Container\nmetadata: {name: web}\nspec: {image: a}\n")
    all_of_it = findings(load([str(path)]), TODAY)
    assert [one.rule for one in all_of_it] == ["no-limits", "latest"]
    results = sarif([], [one.document() for one in all_of_it])["runs"][0]["results"]
    assert [result["level"] for result in results] == ["warning", "warning"]
