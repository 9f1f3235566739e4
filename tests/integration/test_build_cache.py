"""Caches of builds that go from one store to another: through a folder, and through a registry."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.build.exchange import Place
from specrun.errors import UsageError
from tests.integration.test_registry import serving
from tests.support.host import Host, own_host
from tests.support.oci import until
from tests.support.pusher import ask, digest_of, put_blob

TEXT = (
    "FROM busybox AS tools\nRUN head -c 8 /dev/urandom | md5sum > /tool\n"
    "FROM busybox AS base\nRUN head -c 8 /dev/urandom | md5sum > /base\nENV A=1\n"
    "FROM base\nCOPY file /file\nCOPY --from=tools /tool /tool\nRUN true\nWORKDIR /made\n"
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").write_text("of the context\n")
    return folder


@pytest.fixture
def other(busybox_store: Path) -> Iterator[Host]:
    """Another machine's store, which has the base image only."""
    with own_host(busybox_store) as host:
        yield host


def build(host: Host, context: Path, *options: str, text: str = TEXT) -> str:
    (context / "Dockerfile").write_text(text)
    return host.ok("build", "--network=none", "-t", "image", *options, str(context))


@pytest.mark.parametrize("form", ["type=registry,ref={},mode=max", "{}"])
def test_an_empty_store_builds_all_from_a_registry(host: Host, other: Host, context: Path, form: str) -> None:
    with serving(host) as address:
        name = f"{address}/app:cache"
        build(host, context, "--cache-to", form.format(name))
        output = build(other, context, "--cache-from", form.format(name), "--explain")
        assert output.count("Using cache") == 7 and "not cached" not in output
        assert other.ok("inspect", "-f", "{{.Id}}", "image") == host.ok("inspect", "-f", "{{.Id}}", "image")
        read = ("run", "--rm", "--network=none", "image", "cat", "/tool", "/base", "/file")
        assert other.ok(*read) == host.ok(*read)
        build(host, context, "--cache-to", name)  # it takes the tag over, and sends nothing that is there
        (context / "file").write_text("changed\n")
        output = build(other, context, "--cache-from", name)
        assert output.count("Using cache") == 3
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}/v2/app/manifests/cache", headers=accept)
        ) as answer:
            manifest = json.load(answer)
        assert manifest["config"]["mediaType"] == "application/vnd.specrun.buildcache.v1+json"
        assert len(manifest["layers"]) == len({layer["digest"] for layer in manifest["layers"]}) >= 5
        assert other.run("image", "verify").returncode == 0 and other.run("pull", name).returncode == 1


def test_an_image_that_is_a_cache_too(host: Host, other: Host, context: Path) -> None:
    """`type=inline`: the records of the image's steps go where it goes, and are found where it is named."""
    with serving(host) as address:
        name = f"{address}/app:v1"
        build(host, context, "--cache-to", "type=inline", "-t", name)
        again = host.ok("inspect", "-f", "{{.Id}}", "image")
        build(host, context, "--cache-to", "type=inline")
        assert host.ok("inspect", "-f", "{{.Id}}", "image") == again
        host.ok("push", name)
        output = build(other, context, "--cache-from", name)
        assert output.count("Using cache") == 3 and "[Warning]" not in output  # not the stage that is copied from
        assert other.ok("run", "--rm", "--network=none", "image", "cat", "/base") == host.ok(
            "run", "--rm", "--network=none", "image", "cat", "/base"
        )
        # An image that is based on it does not pass for it.
        (context / "Dockerfile").write_text(f"FROM {name}\nRUN touch /more\n")
        host.ok("build", "--network=none", "-t", f"{address}/app:v2", str(context))
        output = build(other, context, "--no-cache", text="FROM busybox\nRUN true\n")
        host.ok("push", f"{address}/app:v2")
        output = build(other, context, "--cache-from", f"{address}/app:v2", text="FROM busybox\nRUN touch /z\n")
        assert "nor an image with one in it (--cache-to type=inline)" in output
    done = host.run("build", "--cache-from", "type=inline", str(context))
    assert done.returncode == 125 and b"type=inline is for --cache-to" in done.stderr


@pytest.mark.parametrize("form", ["index", "manifest", "image"])
def test_buildkits_caches_are_refused_by_name(host: Host, context: Path, form: str) -> None:
    kind, text = "application/vnd.oci.image", "FROM busybox\nRUN touch /z\n"
    with serving(host) as address:
        port = int(address.rpartition(":")[2])
        buildkit = "application/vnd.buildkit.cacheconfig.v0"
        body = json.dumps({"layers": [], "records": []} if form != "image" else {
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []},
            "moby.buildkit.cache.v0": "eyJsYXllcnMiOltdfQ==",
        }).encode()  # fmt: skip
        assert put_blob(port, "app", body)[0] == 201
        media_type = f"{kind}.config.v1+json" if form == "image" else buildkit
        config = {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}
        top = {"schemaVersion": 2, "mediaType": f"{kind}.{'index' if form == 'index' else 'manifest'}.v1+json"}
        manifest = {**top, **({"manifests": [config]} if form == "index" else {"config": config, "layers": []})}
        headers = {"Content-Type": top["mediaType"]}
        done = ask(port, "PUT", "/v2/app/manifests/cache", json.dumps(manifest).encode(), headers)
        assert done[0] == 201, done
        output = build(host, context, "--cache-from", f"{address}/app:cache", text=text)
        assert "is not used: " in output and "BuildKit's own" in output
        assert ("moby.buildkit.cache.v0" if form == "image" else buildkit) in output
        # Our server has it for BuildKit: an index may name blobs, which no collection of garbage takes away then.
        storage = str(host.folder / "storage")
        assert " 0 blobs" in host.ok("registry", "gc", "--storage", storage, "--grace", "0", "--untagged")
        assert ask(port, "GET", f"/v2/app/blobs/{digest_of(body)}") == (200, body)
        assert host.ok("registry", "fsck", "--storage", storage).endswith(" 0 problems\n")


def test_only_what_the_image_consists_of(host: Host, other: Host, context: Path, tmp_path: Path) -> None:
    build(host, context, "--cache-to", f"type=local,dest={tmp_path}/min,mode=min", "--cache-to", f"{tmp_path}/max")
    records = [len(os.listdir(tmp_path / name / "steps")) for name in ("min", "max")]
    assert records == [6, 7]
    output = build(
        other, context, "--cache-from", f"type=local,src={tmp_path}/min", "--cache-from", str(tmp_path / "max")
    )
    assert output.count("Using cache") == 7


def test_a_cache_that_is_not_there_is_no_reason_to_fail(host: Host, context: Path) -> None:
    with serving(host) as address:
        output = build(host, context, "--cache-from", f"{address}/app:none")
        assert output.count("[Warning] the cache") == 1 and "manifest unknown" in output
        host.ok("tag", "image", f"{address}/app:v1")
        host.ok("push", f"{address}/app:v1")
        output = build(host, context, "--cache-from", f"{address}/app:v1", text="FROM busybox\nRUN touch /x\n")
        assert "is no cache that specrun has written" in output
    output = build(host, context, "--cache-from", f"{address}/app:v1", text="FROM busybox\nRUN touch /y\n")
    assert "cannot be reached" in output


def test_a_cache_that_cannot_be_written(host: Host, context: Path) -> None:
    with serving(host) as address:
        pass
    (context / "Dockerfile").write_text("FROM busybox\nRUN true\n")
    words = ("build", "--network=none", "-t", "image")
    done = host.run(*words, "--cache-to", f"{address}/app:cache", str(context))
    assert done.returncode == 1 and b"the image is built, but its cache could not be exported" in done.stderr
    assert host.ok("inspect", "image")
    lenient = f"type=registry,ref={address}/app:cache,ignore-error=true"
    assert "[Warning] the image is built, but" in host.ok(*words, "--cache-to", lenient, str(context))


def test_a_registry_that_lies_is_caught(host: Host, other: Host, context: Path) -> None:
    text = "FROM busybox\nRUN echo right > /f\n"
    with serving(host) as address:
        build(host, context, "--cache-to", f"{address}/app:cache", text=text)
        storage = host.folder / "storage"
        blob = next(path for path in storage.rglob("*") if path.is_file() and b"right\n" in path.read_bytes())
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes().replace(b"right\n", b"wrong\n"))
        output = build(other, context, "--cache-from", f"{address}/app:cache", text=text)
        assert "is not used" in output and "Using cache" not in output
        assert other.ok("run", "--rm", "--network=none", "image", "cat", "/f") == "right\n"


def test_names_of_places(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()

    def resolve(path: str) -> str:
        return str(tmp_path / path)

    folders = {text: Place(text, resolve).folder for text in ("here", "./new", "/abs", "type=local,src=x")}
    assert folders == {
        "here": resolve("here"),
        "./new": resolve("./new"),
        "/abs": "/abs",
        "type=local,src=x": resolve("x"),
    }
    reference = Place("user/app:cache").reference
    assert reference and reference.canonical == "docker.io/user/app:cache"
    for text, words in {
        "type=s3,bucket=x": "type s3", "type=local": "where is", "type=registry,ref=a,mode=some": "mode=some",
        "type=registry,ref=a,compression=zstd": "compression", "type=inline,mode=max": "the key mode",
        "type=gha": "type gha",
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=words):
            Place(text)


SEEDED = (
    "FROM busybox AS seed\nRUN mkdir /s; i=0; while [ $i -lt 400 ]; do echo $i > /s/$i; i=$((i+1)); done\n"
    + "".join(
        f"FROM busybox AS s{n}\nRUN --mount=type=cache,id=a,target=/c,from=seed,source=/s ls /c | wc -l > /n{n}\n"
        for n in range(6)
    )
    + "FROM busybox\n"
    + "".join(f"COPY --from=s{n} /n{n} /\n" for n in range(6))
)


def test_stages_that_share_a_new_cache_mount_begin_with_one_whole_folder(host: Host, context: Path) -> None:
    for _ in range(5):
        build(host, context, "--no-cache", text=SEEDED)
        assert host.ok("run", "--rm", "--network=none", "image", "sh", "-c", "cat /n?") == "400\n" * 6
        host.ok("builder", "prune", "-f")


def test_private_cache_mounts_that_others_hold_are_a_folder_each(host: Host, context: Path) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=a,target=/a --mount=type=cache,id=b,target=/b sleep 20\n"
    private = ",sharing=private --mount=type=cache,id=".join(("RUN --mount=type=cache,id=a,target=/a", "b,target=/b"))
    (context / "Dockerfile").write_text(text)
    with host.spawn("build", "--network=none", str(context)) as holder:
        until(lambda: len(list(host.root.glob("build/caches/*"))) == 2)
        build(host, context, text=f"FROM busybox\n{private},sharing=private touch /a/one; ls /b > /listed\n")
        holder.terminate()
    assert host.ok("run", "--rm", "--network=none", "image", "cat", "/listed") == ""


def test_what_builds_keep_is_counted_and_pruned(host: Host, context: Path) -> None:
    text = (
        "FROM busybox AS made\n"
        "RUN --mount=type=cache,target=/c head -c 20000 /dev/zero > /c/kept && echo 1 | tee /one > /two\n"
        "FROM busybox\nCOPY --from=made /one /one\n"
    )
    build(host, context, text=text)
    row = host.ok("system", "df", "--format", "{{.TotalCount}} {{.Size}} {{.Reclaimable}}").splitlines()[-1]
    assert row == "2 20kB 20kB (100%)"
    listed = host.ok("system", "df", "-v").partition("Build cache usage: ")[2]
    assert "exec.cachemount" in listed and "regular" in listed
    assert build(host, context, text=text).count("Using cache") == 2
    output = host.ok("builder", "prune", "-f")
    assert len(output.splitlines()) == 5 and output.endswith("\nTotal reclaimed space: 20kB\n")
    assert build(host, context, text=text).count("Using cache") == 1  # the image's own layer, if its inputs come back
    assert "Deleted build cache objects:" in host.ok("system", "prune", "-f")
    host.ok("builder", "prune", "-af")
    assert build(host, context, text=text).count("Using cache") == 0
