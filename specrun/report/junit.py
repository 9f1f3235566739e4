"""A report as JUnit XML, as CI systems read it: a test suite for each section and engine."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from specrun.report.model import Outcome, Report, Scenario, Section, Verdict


def render(report: Report) -> str:
    """The document."""
    top = Element("testsuites")
    for section in report.sections:
        for engine in report.engines:
            chosen = [(row, row.outcomes[engine]) for row in section.scenarios if engine in row.outcomes]
            if chosen:
                top.append(_suite(report, section, engine, chosen, len(top)))
    indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(top, encoding="unicode") + "\n"


def _suite(
    report: Report, section: Section, engine: str, chosen: list[tuple[Scenario, Outcome]], number: int
) -> Element:
    verdicts = [outcome.verdict for _, outcome in chosen]
    suite = Element(
        "testsuite",
        name=f"{section.name} ({engine})",
        package=section.file,
        id=str(number),
        timestamp=report.started.removesuffix("Z"),
        hostname="localhost",
        tests=str(len(chosen)),
        failures=str(sum(not verdict.holds for verdict in verdicts)),
        errors="0",
        skipped=str(sum(verdict in (Verdict.SKIPPED, Verdict.WAIVED) for verdict in verdicts)),
        time=f"{sum(outcome.seconds for _, outcome in chosen):.3f}",
    )
    properties = SubElement(suite, "properties")
    for key, value in report.configurations[engine].items():
        SubElement(properties, "property", name=key, value=_clean(value))
    for scenario, outcome in chosen:
        suite.append(_case(section, scenario, outcome))
    SubElement(suite, "system-out")
    SubElement(suite, "system-err")
    return suite


def _case(section: Section, scenario: Scenario, outcome: Outcome) -> Element:
    case = Element(
        "testcase", name=_clean(scenario.title), classname=_clean(section.name), time=f"{outcome.seconds:.3f}"
    )
    verdict, reason = outcome.verdict, _clean(outcome.reason)
    if not verdict.holds:
        first = reason.splitlines()[0] if reason else verdict.value
        SubElement(case, "failure", message=first, type=verdict.value).text = reason
    elif verdict is Verdict.SKIPPED:
        SubElement(case, "skipped", message=reason)
    elif verdict is Verdict.WAIVED and outcome.waiver:
        waiver = outcome.waiver
        SubElement(case, "skipped", message=_clean(f"waived until {waiver.expires} by {waiver.owner}: {waiver.reason}"))
    return case


def _clean(text: str) -> str:
    """Without the control characters that XML 1.0 has no form of."""
    return "".join(
        char if char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff" else "�"
        for char in text
    )
