"""An apply that is killed while it starts a registry, or starts it anew: the next one ends with one server."""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path

from tests.support import leaks
from tests.support.host import Host, kill
from tests.support.pusher import ask

ROUNDS = int(os.environ.get("SPECRUN_KILLS", "3"))
SPEC = """apiVersion: specrun/v1
kind: Registry
metadata: {{name: r}}
spec: {{listen: "127.0.0.1:{port}", keep: false, warning: "number {number}"}}
"""


def test_an_apply_that_is_killed(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
