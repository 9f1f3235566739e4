"""An apply that is killed while it starts a registry, or starts it anew: the next one ends with one server."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from specrun.registry.service import Service
from tests.support import leaks
from tests.support.host import Host, kill
from tests.support.ports import free_port
from tests.support.pusher import ask

ROUNDS = int(os.environ.get("SPECRUN_KILLS", "3"))
SPEC = """apiVersion: specrun/v1
kind: Registry
metadata: {{name: r}}
spec: {{listen: "127.0.0.1:{port}", keep: false, warning: "number {number}"}}
"""


def test_an_apply_that_is_killed(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    port = free_port()
    for number in range(ROUNDS):
        spec.write_text(SPEC.format(port=port, number=number))
        process = host.spawn("apply", str(spec))
        time.sleep(random.uniform(0.2, 1.5))
        kill(process)
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0
        assert ask(port, "GET", "/v2/")[0] == 200
        servers = leaks.present((str(host.folder),))["processes"]
        assert sorted(" serve " in words for words in servers) == [False, True], servers
    host.ok("delete", str(spec))
    assert leaks.left((str(host.folder),)) == {}


def test_a_keeper_that_a_killed_apply_has_left_on_its_way_is_no_hindrance(tmp_path: Path) -> None:
    service = Service(str(tmp_path))
    options = {"--listen": f"127.0.0.1:{free_port()}", "--storage": str(tmp_path / "images")}
    try:
        for number in range(6):
            if number:
                orphan = [sys.executable, "-P", "-m", "specrun.registry.keeper", str(tmp_path), "0"]
                subprocess.Popen(orphan, stdin=subprocess.DEVNULL).wait()
                time.sleep(number * 0.03)  # it is about to take the lock, or has just taken it
            service.start(options, "token")
            running = service.running()
            assert running and running.listening == [options["--listen"]]
            service.stop()
    finally:
        service.stop()
    assert leaks.left((str(tmp_path),)) == {}
