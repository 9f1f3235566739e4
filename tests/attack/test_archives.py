"""Hostile archives for `load`: nothing is taken for what it says to be, and nothing of them is left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from specrun.errors import SpecrunError
from specrun.oci.digest import of
from specrun.paths import Root, open_root
from specrun.store import tar
from specrun.store.archives import load
from specrun.store.images import ImageStore
from specrun.store.tar import Entry


def member(name: str, data: bytes = b"", kind: str = tar.REGULAR, link: str = "") -> bytes:
    entry = Entry(name, kind)
    entry.size, entry.link = len(data), link
    return tar.header(entry) + data + bytes(-len(data) % tar.BLOCK)


LAYER = member("etc/motd", b"hello\n") + bytes(1024)
CONFIG: dict[str, Any] = {
    "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [of(LAYER)]}
}  # fmt: skip


def docker(config: dict[str, Any] = CONFIG, layer: bytes = LAYER, **listing: object) -> bytes:
    """An archive in Docker's form."""
    one = {"Config": "config.json", "RepoTags": ["evil:1"], "Layers": ["layer.tar"], **listing}
    files = [
        member("layer.tar", layer), member("config.json", json.dumps(config).encode()),
        member("manifest.json", json.dumps([one]).encode()),
    ]  # fmt: skip
    return b"".join(files) + bytes(1024)


def oci(**changes: Any) -> bytes:
    """An archive in OCI's form; `changes` are of the layer's descriptor."""
    config = json.dumps(CONFIG).encode()
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": of(LAYER), "size": len(LAYER), **changes
    }  # fmt: skip
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": of(config),
                "size": len(config),
            },
            "layers": [layer],
        }
    ).encode()
    described = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": of(manifest), "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/evil:1"},
    }  # fmt: skip
    blobs = [member(f"blobs/sha256/{of(data)[7:]}", data) for data in (LAYER, config, manifest)]
    index = member("index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
    return b"".join([*blobs, index, member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), bytes(1024)])


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(str(tmp_path / "root"))


def test_the_honest_ones_are_loaded(root: Root) -> None:
    store = ImageStore(root)
    for archive in (docker(), oci()):
        [(image, references)] = load(store, [archive], lambda text: None)
        assert [reference.familiar for reference in references] == ["evil:1"]
        assert Path(store.lower_directories(image)[0], "etc/motd").read_text() == "hello\n"
    assert store.verify() == []


_EMPTY = {"type": "layers", "diff_ids": []}
HOSTILE = {
    "a layer that is not the promised one": docker(layer=member("x", b"other") + bytes(1024)),
    "more layers than diff ids": docker(Layers=["layer.tar", "layer.tar"]),
    "fewer layers than diff ids": docker(Layers=[]),
    "a configuration that leads out": docker(Config="../../etc/shadow"),
    "an absolute configuration": docker(Config="/etc/shadow"),
    "a layer that leads out": docker(Layers=["../../../etc/passwd"]),
    "a name that is none": docker(RepoTags=["../../x"]),
    "a name with capitals": docker(RepoTags=["Evil:1"]),
    "a listing that is none": b"".join([member("manifest.json", b'"x"'), bytes(1024)]),
    "a listing that is deep": b"".join([member("manifest.json", b"[" * 100_000), bytes(1024)]),
    "a configuration without layers": docker({**CONFIG, "rootfs": _EMPTY}),
    "a diff id that is a path": docker({**CONFIG, "rootfs": {"type": "layers", "diff_ids": ["sha256:../../x"]}}),
    "variables that would be the host's": docker({**CONFIG, "config": {"Env": ["HOME"]}}),
    "volumes that are a list": docker({**CONFIG, "config": {"Volumes": ["/x"]}}),
    "a size that is too small": oci(size=1),
    "a size that is too large": oci(size=1 << 40),
    "a size that is negative": oci(size=-1),
    "a digest that is a path": oci(digest="sha256:../../../etc/passwd"),
    "a digest of something else": oci(digest=of(b"x")),
    "a media type that is none": oci(mediaType="x"),
    "a layer that leaves its folder": docker(
        {**CONFIG, "rootfs": {"type": "layers", "diff_ids": [of(member("../x") + bytes(1024))]}},
        member("../x") + bytes(1024),
    ),
    "links in a circle": b"".join(
        [member("a", kind=tar.SYMLINK, link="b"), member("b", kind=tar.SYMLINK, link="a"),
         member("manifest.json", b'[{"Config": "a", "Layers": []}]'), bytes(1024)]
    ),
    "a link to the host": b"".join(
        [member("config.json", kind=tar.SYMLINK, link="/etc/passwd"),
         member("manifest.json", b'[{"Config": "config.json", "Layers": []}]'), bytes(1024)]
    ),
    "a member that leads out": b"".join([member("../../x", b"y"), bytes(1024)]),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(case: str, root: Root) -> None:
    store = ImageStore(root)
    with pytest.raises(SpecrunError):
        load(store, [HOSTILE[case]], lambda text: None)
    assert store.all() == []
    store.collect()
    assert os.listdir(root.layers) == []
    assert os.listdir(store.blobs.folder) == []


def test_a_cut_archive_is_refused_wherever_it_is_cut(root: Root) -> None:
    whole = oci()
    store = ImageStore(root)
    for length in range(0, len(whole) - 1024, 509):
        with pytest.raises(SpecrunError):
            load(store, [whole[:length]], lambda text: None)
    assert store.all() == []
    assert [name for name in os.listdir(store.blobs.folder) if name.startswith(".")] == []
