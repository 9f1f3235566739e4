"""The same command scripts on real Docker and on specrun: the same exit status and the same normalised output."""

from __future__ import annotations

import os
import re

import pytest

from specrun.bdd.bases import Bases
from specrun.bdd.engines import BY_NAME
from specrun.bdd.scene import scene
from specrun.bdd.world import Done, World

pytestmark = pytest.mark.oracle

SCRIPTS = [
    "docker run --rm --network none busybox echo hello world",
    "docker run --rm --network none -e A=1 -e B='x y' -h box busybox env",
    "docker run --rm --network none -w /srv/deep busybox pwd",
    "docker run --rm --network none -u 1000 busybox id",
    "docker run --rm --network none -u nobody busybox id -u",
    "docker run --rm --network none -u 5:6 busybox id",
    "docker run --rm --network none busybox sh -c 'exit 42'",
    "docker run --rm --network none busybox sh -c 'kill -TERM $$; sleep 1; echo alive'",
    "docker run --rm --network none busybox nosuch 2>/dev/null",
    "docker run --rm --network none busybox /etc 2>/dev/null",
    "docker run --rm --network none --entrypoint echo busybox a b",
    "docker run --rm --network none busybox cat /proc/self/oom_score_adj /proc/self/setgroups",
    "docker run --rm --network none busybox sh -c 'umask; pwd; echo $0 $$'",
    "docker run --rm --network none busybox stat -c '%n %a %u %g' /dev /dev/null /dev/shm /dev/pts /proc /sys",
    "docker run --rm --network none busybox ls -1 /dev",
    "docker run --rm --network none busybox cat /etc/hosts",
    "docker run --rm --network none busybox grep -E 'Cap|NoNewPrivs|SigIgn|SigBlk' /proc/self/status",
    "docker run --rm --network none busybox sh -c 'ls -l /proc/self/fd | wc -l'",
    "docker run --rm --network none busybox ps",
    "docker run --rm --network none --name one busybox true; docker ps -a --format '{{.Names}}'",
    "echo hello there | docker run --rm --network none busybox grep hello",
    "echo hello there | docker run --rm --network none -i busybox grep hello",
    "docker run -d --network none --name one busybox sh -c 'echo o; echo e >&2' >/dev/null; "
    "docker wait one; docker logs one",
    "docker run --network none --name one busybox true; docker ps -a --format '{{.Names}} {{.Image}} {{.Command}}'",
    "docker run --network none --name one busybox true; docker run --network none --name one busybox true 2>/dev/null",
    "docker run --network none --name one -l k=v -l e busybox true; docker inspect -f '{{json .Config.Labels}}' one",
    "docker run --network none --name one busybox sh -c 'exit 3'; "
    "docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.Path}} {{.Args}}' one",
    "docker run --network none --name one busybox true; docker inspect -f '{{.Name}} {{join .Config.Cmd \",\"}}' one",
    "docker create --network none --name one busybox echo hi >/dev/null; docker start -a one; docker rm one",
    "docker create --network none --name one busybox true >/dev/null; docker ps -a --format '{{.Status}}'",
    "docker run -d --network none --name one busybox sleep 60 >/dev/null; docker rm one 2>/dev/null; docker rm -f one",
    "docker run -d --network none --name one busybox sleep 60 >/dev/null; docker kill one; docker wait one",
    "docker run -d --network none --name one busybox sleep 60 >/dev/null; docker ps -q --filter name=one | wc -l",
    "docker run -d --network none --name one busybox sleep 60 >/dev/null; docker ps -qf status=exited",
    "docker rm nosuch 2>/dev/null",
    "docker logs nosuch 2>/dev/null",
    "docker inspect nosuch 2>/dev/null",
    "docker wait nosuch 2>/dev/null",
    "docker ps --nosuch 2>/dev/null",
    "docker run 2>/dev/null",
    "docker images --format '{{.Repository}}:{{.Tag}}'",
    "docker image inspect -f '{{.Os}} {{json .Config.Cmd}}' busybox",
    "docker ps -a | head -n 1",
    "docker images | head -n 1 | tr -s ' '",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_do_the_same(script: str, bases: Bases) -> None:
    if "DOCKER_HOST" not in os.environ:
        pytest.skip("run by ./dev compare, which starts a private Docker")
    found = []
    for name in ("docker", "specrun"):
        with scene() as folder:
            engine = BY_NAME[name](folder, bases)
            try:
                engine.image("busybox")
                found.append(_normalised(World(engine).run(script)))
            finally:
                engine.close()
    assert found[1] == found[0]


def _normalised(done: Done) -> tuple[int, str, str]:
    """Without what differs by nature: ids. Error texts are compared by their presence only."""
    output = re.sub(r"\b[0-9a-f]{12,64}\b", "<ID>", done.output)
    return done.status, output, "errors" if done.errors else ""
