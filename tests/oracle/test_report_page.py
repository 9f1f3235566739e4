"""The HTML report in a real browser: it asks for nothing, says nothing on the console, and everybody can read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile  # noqa: TID251 (a package of npm's, of which one known member is read)
from pathlib import Path
from typing import Any

import pytest

from specrun.report import html, model
from specrun.report.waivers import Waiver

pytestmark = pytest.mark.oracle

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=20000"
).split()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", "axe-core"], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(archive) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def report() -> model.Report:
    command = {"line": "docker ps", "status": 0, "output": "CONTAINER ID\n", "errors": "", "seconds": 0.1}

    def scenario(name: str, status: str) -> dict[str, Any]:
        step = {"keyword": "When", "text": "I run `docker ps`", "status": status, "seconds": 0.1, "error": ""}
        step |= {"commands": [command], "error": "expected it\nto work" if status == "failed" else ""}
        return {
            "feature": "Hello", "file": "features/01_hello.feature", "scenario": name, "rule": "a rule", "line": 3,
            "example": "", "tags": [], "engine": "specrun", "steps": [step], "planned": ["When I run `docker ps`"],
            "id": name, "status": status, "seconds": 0.5, "error": "",
        }  # fmt: skip

    scenarios = [scenario("good", "passed"), scenario("bad", "failed"), scenario("known", "failed")]
    scenarios.append({**scenario("off", "skipped"), "error": "Skipped: no network"})
    odd, even = scenario("odd", "failed"), scenario("odd", "passed")
    configuration = {"engine": "specrun 1", "kernel": "Linux"}
    runs = [
        {"engine": "specrun", "started": "2026-11-24T09:00:00Z", "configuration": configuration, "scenarios": found}
        for found in ([*scenarios, odd], [even])
    ]
    waiver = Waiver("*", "known", "*", "a known difference", "me", "2030-01-01", "waivers.yaml:1")
    made = model.build(runs, [waiver])
    made.changes = [model.Change("Hello: good", "specrun", "failed", "passed")]
    return made


def browse(page: Path, *options: str) -> tuple[str, str]:
    """The page's elements after its scripts have run, and what was said on the console."""
    home = page.parent / "home"
    command = ["chromium", *OPTIONS, f"--user-data-dir={home}", *options, "--dump-dom", f"file://{page}"]
    environment = {**os.environ, "HOME": str(page.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_it(tmp_path: Path, axe: str, dark: bool, width: int) -> None:
    text = html.render(report())
    if dark:
        text = text.replace('<html lang="en">', '<html lang="en" data-theme="dark">')
    check = (
        "<script>document.querySelectorAll('details').forEach(d => d.open = true);"
        "axe.run(document, {resultTypes: ['violations']}).then(r => { const e = document.createElement('pre');"
        " e.id = 'axe'; e.textContent = JSON.stringify({violations: r.violations, passes: r.passes.length});"
        " document.body.appendChild(e); });</script>"
    )
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", f"<script>{axe}</script>{check}</body>"))
    elements, console = browse(page, f"--window-size={width},900")
    found = re.search(r'<pre id="axe">(.*?)</pre>', elements, re.DOTALL)
    assert found, "axe did not run"
    result = json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert result["passes"] > 20
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in result["violations"]] == []
    assert console == ""


def requests_of(page: Path) -> tuple[set[str], str, str]:
    """What the page itself asked for (the browser's own requests have no origin), its elements and its console."""
    log = page.parent / "net.json"
    elements, console = browse(page, f"--log-net-log={log}")
    asked = set()
    for line in log.read_text().splitlines():
        if '"initiator":' in line:
            values = json.loads(line.rstrip(","))["params"]
            if values.get("initiator") != "not an origin":
                asked.add(values["url"])
    return asked, elements, console


def test_it_asks_for_nothing_and_filters(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    choose = """<script>addEventListener("load", () => {
        const verdict = document.getElementById("verdict");
        verdict.value = "failed";
        verdict.dispatchEvent(new Event("input", {bubbles: true}));
    });</script>"""
    text = html.render(report())
    page.write_text(text.replace("</body>", f"{choose}</body>"))
    requests, elements, console = requests_of(page)
    assert (requests, console) == (set(), "")
    rows = re.findall(r'<tr class="row"[^>]*>', elements)
    assert len(rows) == 5 and sum("hidden" not in row for row in rows) == 1
    assert "1 shown" in elements
    # A page that does ask, and does complain, is seen to.
    page.write_text(
        text.replace(
            "</body>", '<img alt="" src="http://127.0.0.1:9/x.png"><script>console.error("no")</script></body>'
        )
    )
    requests, _, console = requests_of(page)
    assert requests == {"http://127.0.0.1:9/x.png"}
    assert "CONSOLE" in console


def test_a_picture_can_be_taken_of_it(tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(html.render(report()))
    browse(page, f"--screenshot={picture}")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    if folder := os.environ.get("SPECRUN_PICTURES"):
        shutil.copy(picture, folder)
