"""The same Dockerfiles by Docker's classic builder and by specrun: the same file tree, the same configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from specrun.bdd.bases import Bases
from specrun.bdd.engines import BY_NAME, Engine
from specrun.bdd.scene import scene
from specrun.bdd.world import World
from tests.support.dockerfiles import CASES, config_of, make_context, tree_of

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The context of all cases."""
    return make_context(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="module")
def engines(bases: Bases) -> Iterator[list[Engine]]:
    """Both engines, with busybox."""
    if "DOCKER_HOST" not in os.environ:
        pytest.skip("run by ./dev compare, which starts a private Docker")
    with ExitStack() as stack:
        made = []
        for name in ("docker", "specrun"):
            engine = BY_NAME[name](stack.enter_context(scene()), bases)
            stack.callback(engine.close)
            engine.image("busybox")
            engine.environment["DOCKER_BUILDKIT"] = "0"
            made.append(engine)
        yield made


@pytest.mark.parametrize("name", CASES)
def test_both_build_the_same_image(name: str, engines: list[Engine], files: Path, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(CASES[name])

    def build(engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
        archive = tmp_path / f"{engine.name}.tar"
        script = (
            f"docker build -q -t case -f {dockerfile} {files} >/dev/null && docker inspect case && "
            f"c=$(docker create case x) && docker export $c > {archive}; docker rm $c >/dev/null"
        )
        done = World(engine).run(script, timeout=60)
        assert done.status == 0, f"{engine.name}: {done.errors}"
        return json.loads(done.output)[0]["Config"], tree_of(archive)

    for leftover in (engine.folder / "work" for engine in engines):
        if leftover.exists():
            leftover.rename(leftover.with_name(f"work-{os.urandom(4).hex()}"))
    with ThreadPoolExecutor(2) as pool:
        (their_config, their_tree), (config, tree) = pool.map(build, engines)
    assert config_of(config) == config_of(their_config)
    assert tree == their_tree
