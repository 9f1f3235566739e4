"""Hostile images and containers: the host's files, its interpreter and its processes stay as they are."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.oci.digest import of, sha256
from specrun.oci.reference import Reference
from specrun.paths import open_root
from specrun.store.compression import compress
from specrun.store.images import ImageStore
from specrun.store.layers import LAYER_GZIP, Layer
from specrun.store.packing import Packer
from specrun_runtime.launch import base_interpreter
from tests.support.host import Host


@pytest.fixture
def tree(host: Host, tmp_path: Path) -> Iterator[Path]:
    """A copy of the busybox image's files, to be spoiled and made an image by `make`."""
    layer = next(path for path in Path(host.root, "layers").iterdir() if not path.name.startswith("."))
    copy = tmp_path / "tree"
    shutil.copytree(layer / "fs", copy, symlinks=True)
    yield copy


def make(host: Host, tree: Path, **config: object) -> None:
    """Let the files of `tree` be the image `evil`."""
    root = open_root(str(host.root))
    store = ImageStore(root)
    plain = b"".join(Packer(str(tree), time=0, owned_by_root=True))
    digest, size = store.blobs.put_stream(compress([plain]))
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"], **config},
        "rootfs": {"type": "layers", "diff_ids": [of(plain)]},
    }
    store.add([Layer(digest, size, LAYER_GZIP, of(plain), len(plain))], document, [Reference.parse("evil")])


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_text("untouched")
    yield folder
    assert os.listdir(folder) == ["secret"]
    assert (folder / "secret").read_text() == "untouched"


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc"])
def test_a_link_in_place_of_a_mount_point_leads_nowhere(host: Host, tree: Path, canary: Path, name: str) -> None:
    shutil.rmtree(tree / name)
    (tree / name).symlink_to(canary)
    make(host, tree)
    assert host.ok("run", "--rm", "evil", "sh", "-c", f"stat -c %F /{name}; ls /dev/null /proc/self/status").startswith(
        "directory"
    )


def test_a_working_directory_behind_a_link_stays_inside(host: Host, tree: Path, canary: Path) -> None:
    (tree / "w").symlink_to(canary)
    make(host, tree, WorkingDir="/w/made")
    done = host.run("run", "--rm", "evil", "pwd")
    assert done.returncode in (0, 125)


@pytest.mark.parametrize("kind", ["fifo", "device", "link", "huge"])
def test_a_passwd_that_is_no_file_neither_hangs_nor_reads_the_host(
    host: Host, tree: Path, canary: Path, kind: str
) -> None:
    passwd = tree / "etc/passwd"
    passwd.unlink()
    if kind == "link":
        passwd.symlink_to(canary / "secret")
        make(host, tree)
        assert host.ok("run", "--rm", "evil", "id", "-u").strip() == "0"
        return
    make(host, tree)  # the archive has no such member; put it into the unpacked layer
    assert host.run("run", "--rm", "evil", "true").returncode == 0
    for layer in Path(host.root, "layers").iterdir():
        path = layer / "fs/etc/passwd"
        if not path.exists():
            if kind == "fifo":
                os.mkfifo(path)
            elif kind == "device":
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
            else:
                path.write_bytes(b"x" * (2 << 20))
    done = host.run("run", "--rm", "evil", "true", timeout=10)
    assert done.returncode == 125
    assert b"/etc/passwd" in done.stderr


def test_a_variable_without_a_value_does_not_bring_the_host_s(host: Host, tree: Path) -> None:
    host.environment["SECRET_OF_THE_HOST"] = "leaked"
    make(host, tree, Env=["SECRET_OF_THE_HOST", "=x", "A=1"])
    lines = host.ok("run", "--rm", "evil", "env").splitlines()
    assert "A=1" in lines
    assert not any("SECRET" in line or "leaked" in line for line in lines)


@pytest.mark.parametrize("user", ["1_0", "-1", "+5", " 5", "4294967296", "99999999999999999999", "٢"])
def test_a_number_that_is_none_is_no_user(host: Host, user: str) -> None:
    done = host.run("run", "--rm", f"--user={user}", "busybox", "id")
    assert (done.returncode, done.stdout) == (125, b"")


def test_a_name_made_of_digits_is_looked_up_before_it_is_a_number(host: Host, tree: Path) -> None:
    (tree / "etc/passwd").write_text("1000:x:7:8::/home/x:/bin/sh\n")
    make(host, tree)
    assert host.ok("run", "--rm", "-u", "1000", "evil", "sh", "-c", "id -u; id -g").split() == ["7", "8"]


def test_the_interpreter_cannot_be_reached_or_overwritten(host: Host, tree: Path) -> None:
    """CVE-2019-5736: the container executes /proc/self/exe, or keeps a descriptor of what started it."""
    binaries = [os.path.realpath(sys.executable), *_libraries()]
    before = [sha256(Path(path).read_bytes()).hexdigest() for path in binaries]
    script = tree / "bin/evil"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    make(host, tree)
    first = host.run("run", "--rm", "evil", "/bin/evil", timeout=20)
    second = host.run("run", "--rm", "evil", "/proc/self/exe", timeout=20)
    assert first.returncode != 0
    assert second.returncode != 0
    assert [sha256(Path(path).read_bytes()).hexdigest() for path in binaries] == before


def _libraries() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8") as file:
        return sorted({line.split()[-1] for line in file if "libpython" in line})


def test_the_monitor_s_program_is_sealed(host: Host) -> None:
    host.ok("run", "-d", "--name", "one", "busybox", "sleep", "60")
    text = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
    parent = next(line for line in Path(f"/proc/{text}/status").read_text().splitlines() if line.startswith("PPid"))
    program = f"/proc/{parent.split()[1]}/exe"
    assert os.readlink(program) == f"/{os.path.basename(base_interpreter())}"
    with pytest.raises(OSError, match="Read-only"):
        open(program, "r+b").close()


def test_code_of_the_image_is_never_imported(host: Host, tree: Path) -> None:
    """CVE-2019-14271 for Python: what the image calls the standard library."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(sys.base_prefix) / "lib" / version
    for name in ("encodings", "os.py", "re", "json", "traceback.py", "warnings.py"):
        fake = tree / str(folder).lstrip("/") / name
        fake.parent.mkdir(parents=True, exist_ok=True)
        text = "import os; os.system('echo EXECUTED >&2')\n"
        if name.endswith(".py"):
            fake.write_text(text)
        else:
            fake.mkdir()
            (fake / "__init__.py").write_text(text)
    (tree / "etc/nsswitch.conf").write_text("passwd: evil\n")
    make(host, tree)
    for arguments in (["-u", "nobody", "evil", "true"], ["evil", "/etc"], ["-u", "nosuch", "evil", "true"]):
        done = host.run("run", "--rm", *arguments)
        assert b"EXECUTED" not in done.stdout + done.stderr


def test_nothing_of_ours_is_visible_inside(host: Host) -> None:
    text = host.ok(
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "ls -l /proc/1/fd /proc/1/exe /proc/1/root /proc/1/cwd; cat /proc/net/unix",
    )
    assert "python" not in text
    assert "specrun" not in text


def test_the_state_folder_is_closed_to_others(host: Host) -> None:
    host.ok("run", "--name", "one", "busybox", "true")
    for folder in ("", "containers", "layers", "oci", "names"):
        assert stat.S_IMODE(os.stat(host.root / folder).st_mode) & 0o077 == 0 or folder == "", folder
    assert stat.S_IMODE(os.stat(host.root).st_mode) & 0o077 == 0
    container = next(Path(host.root, "containers").iterdir())
    for name in ("container.json", "state.json", "log"):
        assert stat.S_IMODE(os.stat(container / name).st_mode) & 0o077 == 0, name


def test_a_damaged_image_is_refused(host: Host) -> None:
    for blob in Path(host.root, "oci/blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(bytes(data))
    shutil.rmtree(host.root / "layers")
    (host.root / "layers").mkdir()
    done = host.run("run", "--rm", "busybox", "true")
    assert done.returncode == 125
    assert b"damaged" in done.stderr


def test_a_start_that_cannot_begin_leaves_nothing(host: Host) -> None:
    shutil.rmtree(host.root / "layers")
    (host.root / "layers").mkdir()
    for blob in Path(host.root, "oci/blobs/sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.unlink()
    done = host.run("run", "--name", "one", "busybox", "true")
    assert done.returncode == 125
    assert b"missing from the store" in done.stderr
    assert host.leftovers() == []
