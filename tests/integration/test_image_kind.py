"""Kind Image: loaded from an archive, imported from a root file system, and made by a recipe."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.host import Host

NONE = ("--network", "none")


def spec(folder: Path, source: str, tag: str = "it:1") -> str:
    path = folder / "image.yaml"
    path.write_text(
        f"apiVersion: specrun/v1\nkind: Image\nmetadata: {{name: it}}\nspec:\n  tags: ['{tag}']\n  {source}\n"
    )
    return str(path)


def planned(host: Host, path: str) -> str:
    """The plan of a spec that asks for a change."""
    done = host.run("plan", path)
    assert done.returncode == 2, done.stderr
    return done.stdout.decode()


def test_an_archive_beside_the_spec_is_loaded(host: Host, tmp_path: Path) -> None:
    (tmp_path / "saved.tar").write_bytes(host.run("save", "busybox").stdout)
    host.ok("rmi", "busybox")
    path = spec(tmp_path, "load: saved.tar")
    assert "from saved.tar, tags it:1" in planned(host, path)
    host.ok("apply", path)
    assert host.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "it:1\n"
    assert host.ok("run", *NONE, "--rm", "it:1", "echo", "loaded") == "loaded\n"
    assert host.run("plan", path).returncode == 0
    (tmp_path / "saved.tar").write_bytes((tmp_path / "saved.tar").read_bytes() + bytes(512))
    assert "is an image of another archive" in planned(host, path)
    host.ok("delete", path)
    assert host.ok("images", "-aq") == ""


def test_a_root_file_system_is_imported(host: Host, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("welcome\n")
    subprocess.run(["tar", "-C", str(tree), "-czf", str(tmp_path / "root.tar.gz"), "."], check=True)
    path = spec(tmp_path, "importFrom: root.tar.gz\n  config: {cmd: [/bin/true], env: {A: b}}")
    host.ok("apply", path)
    [document] = json.loads(host.ok("image", "inspect", "it:1"))
    assert document["Config"]["Cmd"] == ["/bin/true"]
    assert document["Config"]["Env"] == ["A=b"]
    assert host.run("plan", path).returncode == 0
    host.ok("delete", path)


def test_a_missing_archive_is_named_at_its_place(host: Host, tmp_path: Path) -> None:
    done = host.run("plan", spec(tmp_path, "load: nothere.tar"))
    assert done.returncode != 0
    assert b"image.yaml:6:" in done.stderr
    assert b"nothere.tar cannot be read" in done.stderr


def test_a_recipe_by_name(host: Host, tmp_path: Path) -> None:
    path = spec(tmp_path, "packages: {recipe: registry}", "registry:2")
    assert "by the recipe registry" in planned(host, path)
    host.ok("apply", path)
    [document] = json.loads(host.ok("image", "inspect", "registry:2"))
    assert document["Config"]["Entrypoint"] == ["/entrypoint.sh"]
    assert host.run("plan", path).returncode == 0


def test_a_blob_that_is_cut_short_is_seen_and_mended(host: Host, tmp_path: Path) -> None:
    path = spec(tmp_path, "packages: {recipe: busybox}", "busybox:latest")
    host.ok("apply", path)
    largest = max((host.root / "oci/blobs/sha256").iterdir(), key=lambda one: one.stat().st_size)
    largest.write_bytes(b"")
    assert "missing or cut short" in planned(host, path)
    host.ok("apply", path)
    assert host.ok("image", "verify") == ""
