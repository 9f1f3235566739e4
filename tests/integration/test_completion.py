"""Completion: real shells ask for candidates, and get the commands, options and names that there are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host


def complete(host: Host, *words: str) -> list[str]:
    return host.ok("completion", "--", *words).split()


def test_candidates(host: Host) -> None:
    host.ok("create", "--name", "web", "--network", "none", "busybox")
    host.ok("volume", "create", "data")
    assert {"commit", "completion", "container", "cp", "create"} <= set(complete(host, "c"))
    assert complete(host, "volume", "p") == ["prune"]
    assert complete(host, "container", "ren") in ([], ["rename"])
    assert "--volumes-from" in complete(host, "run", "--vol")
    assert complete(host, "run", "--rm", "--name", "x", "bu") == ["busybox:latest"]
    assert complete(host, "run", "busybox", "l") == []
    assert complete(host, "rm", "w") == ["web"]
    assert complete(host, "inspect", "") == ["web"]
    assert complete(host, "volume", "rm", "") == ["data"]
    assert complete(host, "nosuch", "verb", "") == []
    assert "--root" in complete(host, "--ro")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_takes(host: Host, shell: str, tmp_path: Path) -> None:
    script = host.ok("completion", shell)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    subprocess.run([program, "-n", str(tmp_path / "script")], check=True)


def test_bash_completes(host: Host, tmp_path: Path) -> None:
    host.ok("create", "--name", "web", "--network", "none", "busybox")
    (tmp_path / "script").write_text(host.ok("completion", "bash"))
    ask = (
        f"PATH={Path(COMMAND).parent}:$PATH; . {tmp_path}/script; COMP_WORDS=(specrun rm w); COMP_CWORD=2; _specrun; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], env=host.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "web\n"


def test_an_unknown_shell_is_refused(host: Host) -> None:
    done = host.run("completion", "tcsh")
    assert done.returncode == 125 and b"bash, zsh, fish" in done.stderr
