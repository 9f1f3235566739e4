"""Images change hands: what specrun saves others load and run, what others save specrun loads and runs.

Also the store itself: a valid OCI image layout, which other tools read as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.host import Host

pytestmark = pytest.mark.oracle
NONE = ("--network", "none")


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return str(done.stdout)


@pytest.fixture
def archive(host: Host, tmp_path: Path) -> Path:
    """`busybox` saved by specrun, with a second name."""
    host.ok("tag", "busybox", "traveller:1")
    path = tmp_path / "ours.tar"
    host.ok("save", "-o", str(path), "traveller:1")
    return path


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


def test_docker_loads_ours_and_we_load_dockers(host: Host, archive: Path, tmp_path: Path) -> None:
    if "DOCKER_HOST" not in os.environ:
        pytest.skip("run by ./dev compare, which starts a private Docker")
    image = host.ok("images", "-q", "--no-trunc", "traveller").strip()
    assert run("docker", "load", "-i", str(archive)) == "Loaded image: traveller:1\n"
    try:
        assert run("docker", "images", "-q", "--no-trunc", "traveller").strip() == image
        assert run("docker", "run", "--rm", *NONE, "traveller:1", "echo", "there") == "there\n"
        theirs = tmp_path / "theirs.tar"
        run("docker", "save", "-o", str(theirs), "traveller:1")
    finally:
        run("docker", "rmi", "traveller:1")
    host.ok("rmi", "traveller:1", "busybox")
    assert host.ok("load", "-i", str(theirs)) == "Loaded image: traveller:1\n"
    assert host.ok("images", "-q", "--no-trunc", "traveller").strip() == image
    assert host.ok("run", "--rm", *NONE, "traveller:1", "echo", "back") == "back\n"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_loads_ours_and_we_load_podmans(host: Host, archive: Path, tmp_path: Path, form: str) -> None:
    need("podman")
    # podman wants short paths for what it runs
    podman = ["podman", "--root", f"{host.folder}/p", "--runroot", f"{host.folder}/r", "--storage-driver", "vfs"]
    run(*podman, "load", "-i", str(archive))
    [name] = run(*podman, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert name.endswith("traveller:1")
    theirs = tmp_path / "theirs.tar"
    run(*podman, "save", "--format", form, "-o", str(theirs), name)
    host.ok("rmi", "traveller:1", "busybox")
    assert host.ok("load", "-i", str(theirs)).startswith("Loaded image: ")
    image = host.ok("images", "-q").split()[0]
    assert host.ok("run", "--rm", *NONE, image, "echo", "back") == "back\n"


def test_skopeo_reads_the_store_and_both_forms(host: Host, archive: Path, tmp_path: Path) -> None:
    need("skopeo")
    digest = host.ok("images", "--digests", "--format", "{{.Digest}}", "busybox").strip()
    for source in (f"oci:{host.root}/oci:docker.io/library/busybox:latest", f"oci-archive:{archive}"):
        assert json.loads(run("skopeo", "inspect", source))["Digest"] == digest
    run("skopeo", "inspect", f"docker-archive:{archive}")
    copied = tmp_path / "copied.tar"
    run("skopeo", "copy", "-q", f"oci:{host.root}/oci:docker.io/library/busybox:latest", f"oci-archive:{copied}:sk:1")
    assert host.ok("load", "-i", str(copied)) == "Loaded image: sk:1\n"


def test_umoci_unpacks_the_store(host: Host, tmp_path: Path) -> None:
    need("umoci")
    run("umoci", "unpack", "--image", f"{host.root}/oci:docker.io/library/busybox:latest", str(tmp_path / "bundle"))
    ours = next((host.root / "layers").glob("*/fs"))
    names = run("find", ".", "-printf", "%P %y %m %l\n", cwd=ours)
    assert sorted(run("find", ".", "-printf", "%P %y %m %l\n", cwd=tmp_path / "bundle/rootfs").splitlines()) == sorted(
        names.splitlines()
    )
