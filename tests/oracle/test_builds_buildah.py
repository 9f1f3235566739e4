"""The same Dockerfiles by Debian's buildah and by specrun: the same file tree, the same configuration."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.dockerfiles import CASES, config_of, make_context, tree_of
from tests.support.host import COMMAND, Host, own_host

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed"),
]
OTHERWISE = {
    "copy-through-linked-file": "a link that leads nowhere becomes a folder",
    "run-devices": "chroot isolation has the host's devices, and podman's capabilities",
    "workdir-as-user": "the folder is the user's; Docker's and ours is root's",
    "expose-volume": "a range of ports is kept as it is written",
    "shell": "CMD does not use what SHELL says",
}
"""What buildah 1.28 does otherwise than Docker, and specrun with it."""
LIKE_OTHERS = (
    "copy-class copy-relative-workdir copy-parent add-tar-gz add-tar-bz2 run-exec-form arg-forms case-of-keywords "
    "run-nothing"
).split()
"""Cases that show little more than others do, and agree: they are left out for the time they take."""
MADE = {"etc", "run"}
"""Folders that buildah makes for RUN, and specrun for a container: no difference where they are empty."""


class Buildah:
    """Buildah over a store of its own, with the base image of `host`."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self.words = [
            "buildah",
            "--root",
            f"{folder}/root",
            "--runroot",
            f"{folder}/run",
            "--storage-driver",
            "overlay",
        ]
        host.ok("save", "-o", f"{folder}/busybox.tar", "busybox")
        self.ok("pull", "-q", f"docker-archive:{folder}/busybox.tar")

    def ok(self, *words: str) -> str:
        done = subprocess.run([*self.words, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"buildah {' '.join(words)}: {done.stderr}"
        return done.stdout

    def build(self, dockerfile: Path, context: Path, archive: Path) -> dict[str, Any]:
        """Build and archive; gives the image's configuration."""
        self.ok(
            "bud", "-q", "--layers", "--isolation", "chroot", "--format", "docker", "--pull-never", "--network", "host",
            "--identity-label=false", "-o", f"type=tar,dest={archive}", "-t", "case", "-f", str(dockerfile),
            str(context),
        )  # fmt: skip
        found: dict[str, Any] = json.loads(self.ok("inspect", "--type", "image", "case"))["Docker"]["config"]
        return found


@pytest.fixture(scope="module")
def host(busybox_store: Path) -> Iterator[Host]:
    with own_host(busybox_store) as host:
        yield host


@pytest.fixture(scope="module")
def buildah(host: Host) -> Iterator[Buildah]:
    folder = Path(tempfile.mkdtemp(prefix="srb-"))
    try:
        yield Buildah(folder, host)
    finally:
        subprocess.run(["umount", f"{folder}/root/overlay"], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The context of all cases."""
    return make_context(tmp_path_factory.mktemp("context"))


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*OTHERWISE, *LIKE_OTHERS)])
def test_both_build_the_same_image(name: str, buildah: Buildah, host: Host, files: Path, tmp_path: Path) -> None:
    dockerfile, theirs, ours = (tmp_path / part for part in ("Dockerfile", "buildah.tar", "specrun.tar"))
    dockerfile.write_text(CASES[name])
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(buildah.build, dockerfile, files, theirs)
        script = (
            f"{COMMAND} build -q --network none -t case -f {dockerfile} {files} >/dev/null && "
            f"c=$({COMMAND} create case x) && {COMMAND} export $c > {ours} && {COMMAND} rm $c >/dev/null && "
            f"{COMMAND} inspect case"
        )
        done = subprocess.run(["sh", "-c", script], env=host.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        their_config = building.result()
    assert config_of(json.loads(done.stdout)[0]["Config"]) == config_of(their_config)
    our_tree, their_tree = tree_of(ours), tree_of(theirs)
    for name in MADE:
        for one, other in ((our_tree, their_tree), (their_tree, our_tree)):
            if name not in other and not any(path.startswith(f"{name}/") for path in one):
                one.pop(name, None)
    assert our_tree == their_tree
