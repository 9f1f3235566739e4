"""Builds of strangers' Dockerfiles, contexts and images: nothing outside the image is read or written.

The mechanisms are those of CVE-2024-1753, -9675, -23651, -23652, -23653, -9407, -24557, CVE-2019-13139 and of
contexts whose links lead out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.host import Host, kill


class Canary:
    """Files of the host that no build may see or change, and a context."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.secret = folder / "outside" / "secret"
        self.secret.parent.mkdir()
        self.secret.write_text("canary")
        self.context = folder / "context"
        self.context.mkdir()
        (self.context / "file").write_text("file")

    def build(self, text: str, *options: str) -> tuple[int, str]:
        """Build as `image`; gives the status and all that was printed."""
        (self.context / "Dockerfile").write_text(text)
        done = self.host.run("build", "--no-cache", "-t", "image", *options, str(self.context))
        return done.returncode, (done.stdout + done.stderr).decode()

    def inside(self, command: str) -> str:
        """What a shell in the image prints."""
        return self.host.ok("run", "--rm", "--network", "none", "image", "sh", "-c", command)


@pytest.fixture
def canary(host: Host, tmp_path: Path) -> Iterator[Canary]:
    made = Canary(host, tmp_path)
    before = sorted(os.listdir(made.secret.parent))
    yield made
    assert made.secret.read_text() == "canary"
    assert sorted(os.listdir(made.secret.parent)) == before


@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_a_link_in_the_context_leads_no_further_than_the_context(canary: Canary, link: str) -> None:
    target = str(canary.secret) if link == "absolute" else "../../../../../../../../.." + str(canary.secret)
    os.symlink(target, canary.context / "link")
    os.symlink(os.path.dirname(target), canary.context / "folder")
    for source in ("link", "folder/secret", "fold*/secret", "l?nk"):
        status, output = canary.build(f"FROM busybox\nCOPY {source} /taken\n")
        assert status == 1 and "canary" not in output, source
    status, _ = canary.build("FROM busybox\nCOPY . /all/\n")  # the links themselves may be copied
    assert status == 0
    assert "canary" not in canary.inside("cat /all/link /all/folder/secret 2>&1; true")


def test_a_dockerfile_that_is_a_link_is_read_inside_the_context(canary: Canary) -> None:
    canary.secret.write_text("FROM busybox\n")
    os.symlink(canary.secret, canary.context / "Dockerfile")
    done = canary.host.run("build", str(canary.context))
    assert done.returncode == 1 and b"Dockerfile" in done.stderr
    canary.secret.write_text("canary")


def test_nothing_above_the_context_is_copied(canary: Canary) -> None:
    for source in ("../outside/secret", "a/../../outside/secret", "/../outside/secret"):
        status, output = canary.build(f"FROM busybox\nCOPY {source} /taken\n")
        assert status == 1 and "canary" not in output


def test_destinations_stay_in_the_image(canary: Canary) -> None:
    outside = canary.secret.parent
    status, _ = canary.build(
        f"FROM busybox\nRUN ln -s {outside} /lnk && ln -s {canary.secret} /over && ln -s {outside}/new /dangling\n"
        "COPY file /lnk/file\nCOPY file /over\nCOPY file /dangling\nADD file /lnk/\nWORKDIR /lnk/deep\n"
        "COPY --link file /lnk/x\n"
    )
    assert status in (0, 1)


def test_a_mount_of_an_image_leads_no_further_than_the_image(canary: Canary) -> None:
    status, output = canary.build(
        f"FROM busybox AS evil\nRUN ln -s / /root-link && ln -s {canary.secret.parent} /out\nFROM busybox\n"
        f"RUN --mount=type=bind,from=evil,source=/out,target=/x,rw cat /x/secret\n"
    )
    assert status == 1 and "canary" not in output.replace("canary.secret", "")
    status, output = canary.build(
        f"FROM busybox AS evil\nRUN ln -s / /root-link\nFROM busybox\n"
        f"RUN --mount=type=bind,from=evil,source=/root-link,target=/x,rw ls /x{canary.secret.parent}; touch /x/made\n"
    )
    assert status == 0 and not os.path.exists("/made")


def test_the_context_is_mounted_read_only_or_forgotten(canary: Canary) -> None:
    status, _ = canary.build(
        "FROM busybox\nRUN --mount=target=/c ! touch /c/new\nRUN --mount=target=/c,rw touch /c/new && rm /c/file\n"
    )
    assert status == 0
    assert sorted(os.listdir(canary.context)) == ["Dockerfile", "file"]


@pytest.mark.parametrize("name", ["../../../../outside", "/etc", "a/../../..", "-x", ".."])
def test_the_id_of_a_cache_is_no_path(canary: Canary, name: str) -> None:
    status, _ = canary.build(f"FROM busybox\nRUN --mount=type=cache,id={name},target=/c touch /c/made\n")
    assert status == 0
    assert all(len(entry) == 64 for entry in os.listdir(canary.host.root / "build" / "caches"))


def test_what_a_mount_was_mounted_on_is_removed_in_the_image_only(canary: Canary) -> None:
    status, _ = canary.build(
        f"FROM busybox\nRUN --mount=type=tmpfs,target=/stub/inner rm -rf /nothing; ls /stub\n"
        f"RUN --mount=type=tmpfs,target=/s2/inner umount /s2/inner 2>/dev/null; ln -sfn {canary.secret.parent} /s3\n"
    )
    assert status == 0
    assert canary.inside("ls -d /stub /s2 2>&1; true").count("No such file") == 2


@pytest.mark.parametrize(
    "flags",
    [
        "--security=insecure",
        "--device=/dev/mem",
        "--mount=type=bind,bind-propagation=shared,target=/x",
        "--mount=type=bind,target=/x,upperdir=/etc",
        "--mount=type=overlay,target=/x",
        "--mount=type=tmpfs,target=/x,options=suid",
        "--mount=type=bind,source=/,target=/proc/self",
        "--mount=type=tmpfs,target=/sys",
        "--network=container:x",
    ],
)
def test_no_more_rights_are_to_be_had(canary: Canary, flags: str) -> None:
    status, _ = canary.build(f"FROM busybox\nRUN {flags} true\n")
    assert status not in (0, 125)


def test_a_step_has_the_profile_of_run(canary: Canary) -> None:
    wanted = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/cgroup | wc -l; ls /dev | sort"
    status, _ = canary.build(f"FROM busybox\nRUN ({wanted}) > /profile\n")
    assert status == 0
    assert canary.inside("cat /profile") == canary.inside(wanted)


def test_an_image_that_claims_a_history_is_no_cache(canary: Canary) -> None:
    """An image whose history equals the Dockerfile's, with other content, is never taken for the result of a step."""
    (canary.context / "Dockerfile").write_text("FROM busybox\nRUN echo evil > /f\n")
    canary.host.ok("build", "-t", "evil", str(canary.context))
    history = json.loads(canary.host.ok("inspect", "evil"))
    assert history
    text = "FROM busybox\nLABEL x=1\nRUN echo good > /f\n"
    (canary.context / "Dockerfile").write_text(text)
    assert b"Using cache" not in canary.host.run("build", "-t", "image", str(canary.context)).stdout
    assert canary.inside("cat /f") == "good\n"


def test_a_damaged_cache_is_refused(canary: Canary, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN echo right > /f\n"
    canary.build(text, "--cache-to", str(tmp_path / "cache"))
    blob = next(path for path in (tmp_path / "cache" / "blobs").iterdir())
    data = bytearray(blob.read_bytes())
    data[data.index(b"right")] = ord("w")
    blob.write_bytes(bytes(data))
    for path in (canary.host.root / "build/steps").iterdir():
        path.unlink()
    (canary.host.root / "oci/blobs/sha256" / blob.name).unlink()
    for path in (canary.host.root / "layers").iterdir():
        if (path / "fs" / "f").exists():
            (path / "committed").unlink()
    (canary.context / "Dockerfile").write_text(text)
    done = canary.host.run("build", "-t", "image", "--cache-from", str(tmp_path / "cache"), str(canary.context))
    assert done.returncode == 1 and b"damaged" in done.stderr


def test_an_archive_of_add_does_not_leave_its_folder(canary: Canary) -> None:
    import io
    import tarfile  # noqa: TID251 (an archive of our own making)

    for name, link in (("../../../../../../escaped", ""), ("lnk/escaped", "lnk"), ("/escaped", "")):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            if link:
                member = tarfile.TarInfo(link)
                member.type, member.linkname = tarfile.SYMTYPE, str(canary.secret.parent)
                archive.addfile(member)
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        (canary.context / "evil.tar").write_bytes(content.getvalue())
        status, _ = canary.build("FROM busybox\nADD evil.tar /into/\n")
        assert status in (0, 1)
        assert not os.path.exists("/escaped")


def test_secrets_are_nowhere(canary: Canary) -> None:
    status, output = canary.build(
        "FROM busybox\nRUN --mount=type=secret,id=s test -s /run/secrets/s\n"
        'RUN --mount=type=secret,id=s,env=S test -n "$S"\n',
        "--secret",
        f"id=s,src={canary.secret}",
    )
    assert status == 0, output
    for folder, _, names in os.walk(canary.host.folder):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    assert b"canary" not in file.read(), path


def test_a_killed_build_leaves_no_secret(canary: Canary, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("never on a disk")
    text = "FROM busybox\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s; sleep 1000\n"
    (canary.context / "Dockerfile").write_text(text)
    words = ("build", "--network=none", "--secret", f"id=s,src={tmp_path}/secret", str(canary.context))
    process = canary.host.spawn(*words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while b"15" not in process.stdout.readline().split():
        assert process.poll() is None
    kill(process)
    process.stdout.close()
    found = subprocess.run(["grep", "-rl", "never on a disk", str(canary.host.folder)], capture_output=True, text=True)
    assert found.stdout == ""
    assert canary.host.run("build", "-q", "--network=none", "-t", "image", "-", input=b"FROM busybox\n").returncode == 0
    assert canary.host.containers() == []


def test_a_mount_of_a_trigger_stays_in_the_build(canary: Canary) -> None:
    canary.build("FROM busybox\nONBUILD RUN --mount=type=bind,target=/ctx cat /ctx/Dockerfile > /seen\n")
    canary.host.ok("tag", "image", "base")
    canary.build("FROM base\n")
    assert canary.inside("cat /seen") == "FROM base\n"
    assert leaks.left(leaks.marks_of(canary.host.root), 1).get("mounts") is None


def test_no_step_makes_a_whiteout_by_its_name(canary: Canary) -> None:
    (canary.context / ".wh.etc").write_text("x")
    for text in ("COPY .wh.etc /", "RUN touch /.wh..wh..opq", "COPY file /.wh.bin"):
        status, output = canary.build(f"FROM busybox\n{text}\n")
        assert status == 1 and "can't be in a layer" in output
