"""Builds for the bench: contexts, and what is measured on each, by `docker build` and `specrun build`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHED = 'FROM busybox\nCOPY files /files\nRUN echo one > /one\nENV A=1\nCMD ["sh"]\n'
RUNS = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n"
COPY = "FROM busybox\nCOPY files /files\n"


def make_contexts(folder: Path) -> None:
    """The contexts below `folder`: few files, 5,000 small ones, and one of 128 MiB."""
    for name in ("few", "many", "large"):
        (folder / name / "files").mkdir(parents=True)
    for number in range(20):
        (folder / "few/files" / f"{number}").write_text(f"file {number}\n")
    for number in range(5000):
        path = folder / "many/files" / f"{number // 100}"
        path.mkdir(exist_ok=True)
        (path / f"{number}").write_text(f"file {number}\n")
    with open(folder / "large/files/blob", "wb") as file:
        for _ in range(128):
            file.write(os.urandom(1 << 20))


class BuildCase:
    """One line of the bench: a Dockerfile over a context, with the cache or without."""

    def __init__(self, name: str, context: str, text: str, *, cached: bool, limit: float) -> None:
        self.name = name
        self.context = context
        self.text = text
        self.cached = cached
        self.limit = limit
        """The ratio that it must stay below."""

    def command(self, program: str, folder: Path) -> list[str]:
        """The command line."""
        file = folder / f"{self.context}.Dockerfile"
        file.write_text(self.text)
        flags = [] if self.cached else ["--no-cache"]
        return [program, "build", "-q", "-t", "bench", *flags, "-f", str(file), str(folder / self.context)]


CASES = [
    BuildCase("build, all cached", "few", CACHED, cached=True, limit=0.8),
    BuildCase("build, two RUN", "few", RUNS, cached=False, limit=0.3),
    BuildCase("build, COPY 5,000 files", "many", COPY, cached=False, limit=0.3),
    BuildCase("build, COPY 128 MiB", "large", COPY, cached=False, limit=0.6),
]


@contextmanager
def own_disk(image: Path) -> Iterator[str]:
    """The folder of a file system of its own, in the file `image`.

    Docker makes and removes some 10,000 files in a build of 5,000, and ext4 searches long for a place for a new file
    where many were removed in the last five minutes: on one file system either would wait for what the other has done.
    """
    folder = image.with_suffix("")
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(8 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield str(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def peak_of_a_large_build(command: str, environment: dict[str, str], folder: Path) -> str:
    """The memory that 40 layers and 100,000 files take (MiB), in a sentence."""
    context = folder / "huge"
    for number in range(40):
        part = context / f"part{number}"
        part.mkdir(parents=True)
        for index in range(2500):
            (part / f"{index}").write_text(f"{number} {index}\n")
    text = "FROM scratch\n" + "".join(f"COPY part{number} /part{number}\n" for number in range(40))
    (context / "Dockerfile").write_text(text)
    script = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024); sys.exit(status)"
    )
    words = ["python3", "-c", script, command, "build", "-t", "huge", str(context)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return f"building 40 layers and 100,000 files took {done.stdout.strip()} MiB at most (limit 400)"
