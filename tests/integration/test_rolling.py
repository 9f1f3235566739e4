"""A rolling replacement behind a published port loses no request, and one that is not well is rolled back."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path

from tests.support.host import Host

SPEC = """apiVersion: specrun/v1
kind: Config
metadata: {name: page}
spec: {content: "%s"}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  command: %s
  configs: [{source: page, target: /www/index.html}]
  ports: ["127.0.0.1:%s:80"]
  stopTimeout: 1
  update: {order: %s, monitor: 500ms}
"""
SERVE = '[httpd, -f, -p, "80", -h, /www]'


def get(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/index.html")
    return connection.getresponse().read().decode()


class Requests:
    """Asks again and again, and keeps the answers."""

    def __init__(self, port: int) -> None:
        self.port, self.answers, self.failures = port, [""], [""]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.answers.append(get(self.port))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Requests:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def test_no_request_is_lost(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC % ("one", SERVE, 18090, "start-first"))
    host.ok("apply", str(spec))
    assert get(18090) == "one"
    with Requests(18090) as requests:
        for content in ("two", "three"):
            spec.write_text(SPEC % (content, SERVE, 18090, "start-first"))
            host.ok("apply", str(spec))
    assert requests.failures == [""]
    assert set(requests.answers[1:]) == {"one", "two", "three"}
    assert get(18090) == "three"
    assert host.ok("ps", "-a", "--format", "{{.Names}}").split() == ["web"]
    assert host.run("plan", str(spec)).returncode == 0
    assert host.run("drift", str(spec)).returncode == 0


def test_what_is_not_well_is_rolled_back(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    for port, order in ((18091, "start-first"), (18092, "stop-first")):
        good = SPEC % ("good", SERVE, port, order)
        spec.write_text(good)
        host.ok("apply", str(spec))
        identity = host.containers()
        for bad in ('["false"]', "[no-such-program]"):
            spec.write_text(SPEC % ("good", bad, port, order))
            done = host.run("apply", str(spec))
            assert done.returncode == 3, done.stderr
            assert b"rolled-back" in done.stderr or b"rolled back" in done.stderr
            assert get(port) == "good"
            assert host.containers() == identity
            plan = host.run("plan", str(spec))
            assert b"command" in plan.stdout
        spec.write_text(good)
        assert host.run("plan", str(spec)).returncode == 0
        host.ok("delete", str(spec))
        assert host.leftovers() == []
