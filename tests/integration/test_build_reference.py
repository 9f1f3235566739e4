"""Headings of the Dockerfile reference that no other test shows."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.host import Host


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def build(host: Host, context: Path, text: str, *options: str) -> str:
    (context / "Dockerfile").write_text(text)
    return host.ok("build", "--network=none", "-t", "image", *options, str(context))


def inside(host: Host, command: str) -> str:
    return host.ok("run", "--rm", "--network=none", "image", "sh", "-c", command)


def test_flags_of_add(host: Host, context: Path) -> None:
    for name in ("d/a", "d/b.log", "one"):
        (context / name).parent.mkdir(exist_ok=True)
        (context / name).write_text(name)
    build(
        host, context,
        "FROM busybox\nADD --chown=www-data:5 --chmod=640 one /owned\nADD --exclude=*.log d /without\n"
        "ADD --link one /linked/one\n",
    )  # fmt: skip
    assert inside(host, "stat -c '%a %u %g' /owned; ls /without; cat /linked/one") == "640 33 5\na\none"


def test_a_repository_with_its_history(host: Host, context: Path, tmp_path: Path) -> None:
    repository = tmp_path / "r.git"
    repository.mkdir()
    (repository / "file").write_text("cloned\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["update-server-info"]):
        subprocess.run([*git, *words], check=True)
    serve = (
        "import http.server as h; s = h.ThreadingHTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); "
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    web = subprocess.Popen(
        ["python3", "-c", serve], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert web.stdout
        address = f"http://127.0.0.1:{web.stdout.readline().strip()}/r.git/.git"
        build(host, context, f"FROM busybox\nADD {address} /plain\nADD --keep-git-dir=true {address} /kept\n")
    finally:
        web.kill()
        web.wait()
        web.stdout.close()
    assert inside(host, "cat /plain/file /kept/file; ls -A /plain; ls -d /kept/.git") == (
        "cloned\ncloned\nfile\n/kept/.git\n"
    )


def test_arguments_that_are_there_by_themselves(host: Host, context: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS last\nARG TARGETPLATFORM\nARG TARGETARCH BUILDOS TARGETSTAGE\n"
        'RUN echo "$TARGETPLATFORM $TARGETARCH $BUILDOS [$BUILDARCH] $TARGETSTAGE $HTTP_PROXY" > /said\n'
    )
    build(host, context, text, "--build-arg=HTTP_PROXY=http://proxy.example", "--target=last")
    assert inside(host, "cat /said") == f"linux/{machine} {machine} linux [] last http://proxy.example\n"
    assert "proxy.example" not in host.ok("history", "--no-trunc", "image") + host.ok("inspect", "image")


def test_networks_of_a_step(host: Host, context: Path) -> None:
    seen = "RUN --network={0} ls /sys/class/net > /{0}; readlink /proc/self/ns/net > /namespace.{0}\n"
    build(host, context, "FROM busybox\n" + seen.format("none") + seen.format("host"))
    # By its namespace: other tests make and remove links of the host meanwhile.
    here = os.readlink("/proc/self/ns/net")
    assert inside(host, "cat /none") == "lo\n" and inside(host, "cat /namespace.host") == f"{here}\n"
    assert inside(host, "cat /namespace.none") != f"{here}\n"


def test_caches_are_locked_and_private(host: Host, context: Path) -> None:
    def stages(sharing: str) -> str:
        run = f"RUN --mount=type=cache,id=c,target=/c,sharing={sharing} sleep 0.7"
        text = "".join(f"FROM busybox AS {name}\n{run}; echo {name} >> /c/f; cp /c/f /f\n" for name in ("a", "b"))
        return text + "FROM busybox\n" + "".join(f"COPY --from={name} /f /{name}\n" for name in ("a", "b"))

    began = time.monotonic()
    build(host, context, stages("locked"))
    assert time.monotonic() - began >= 1.4  # one after the other
    assert inside(host, "wc -l < /a; wc -l < /b").split() in (["1", "2"], ["2", "1"])
    build(host, context, stages("private"))
    assert 1 in {int(count) for count in inside(host, "wc -l < /a; wc -l < /b").split()}
