"""Problems of specs, and rules of the policy that are broken, as SARIF 2.1.0: what code hosts show beside the line."""

from __future__ import annotations

from typing import Any

from specrun import __version__
from specrun.spec.problems import Problem

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(problems: list[Problem], findings: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One run. A finding is a document of `specrun.reconcile.policy`."""
    results = [_result("error", problem.document()) for problem in problems]
    results += [_result("note" if one["waived"] else "warning", one) for one in findings or []]
    rules = sorted({result["ruleId"] for result in results})
    driver = {"name": "specrun", "version": __version__, "rules": [{"id": rule} for rule in rules]}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(level: str, fact: dict[str, Any]) -> dict[str, Any]:
    parts = (fact["subject"], f"{fact['field']}: {fact['message']}" if fact["field"] else fact["message"], fact["note"])
    region = {"startLine": fact["line"], "startColumn": fact["column"]}
    location = {"physicalLocation": {"artifactLocation": {"uri": fact["file"]}, "region": region}}
    result = {
        "ruleId": fact["code"],
        "level": level,
        "message": {"text": ", ".join(part for part in parts if part)},
        "locations": [location],
    }
    if fact.get("waived"):
        result["suppressions"] = [{"kind": "inSource", "justification": fact["waived"]}]
    return result
