"""The examples of the reference pages are one project, which works."""

from __future__ import annotations

from specrun.cli.reference import EXAMPLES
from tests.support.host import Host


def test_the_examples_work(host: Host) -> None:
    host.environment["WEB_PASSWORD"] = "secret"
    # The image is there already: assembling it is shown elsewhere.
    files = [str(file) for file in sorted(EXAMPLES.glob("*.yaml")) if file.name != "image.yaml"]
    try:
        applied = host.run("apply", *files)
        assert applied.returncode == 0, applied.stdout.decode() + applied.stderr.decode()
        assert "nothing to change: 10 objects" in host.ok("plan", *files)
        assert "4 hold, 0 do not." in host.ok("check", *files)
    finally:
        host.run("delete", *files)
