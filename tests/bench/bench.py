"""`./dev bench [WORD...]`: specrun, and Docker in turn where it is installed, in one run; medians and their ratio.

With words, only those cases of `CASES` and of `builds.CASES` whose names contain one of them, and with one of
`registries.CASES` those of the registry.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench import applying, builds, planning, registries, serving, throughput
from tests.support.private_docker import private_docker

COMMAND = str(Path(sys.executable).with_name("specrun"))
RUNS = 15
BUILDS = 5
CASES = {
    "run --rm --net none busybox true": ["run", "--rm", "--net", "none", "busybox", "true"],
    "run -d and rm -f": ["sh"],
    "run --rm busybox true": ["run", "--rm", "busybox", "true"],
    "run --rm -p 80 busybox true": ["run", "--rm", "-p", "80", "busybox", "true"],
    "network create and rm": ["sh", "$docker network create made && $docker network rm made"],
    "exec": ["exec", "up", "true"],
    "ps -a, 30 containers": ["ps", "-a"],
    "images": ["images"],
    "inspect": ["inspect", "bench"],
    "inspect -f": ["inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", "bench"],
    "volume create and rm": ["sh", "$docker volume create made && $docker volume rm made"],
    "run --rm -v volume": ["run", "--rm", "--net", "none", "-v", "bench:/v", "busybox", "true"],
    "cp 100 MB out": ["sh", "$docker cp bench:/big $folder/big"],
    "cp 100 MB in": ["sh", "$docker cp $folder/big bench:/copied"],
    "diff": ["diff", "bench"],
    "save 100 MB": ["sh", "$docker save -o $folder/saved.tar big"],
    "load 100 MB": [
        "sh",
        "from=$folder/big-docker.tar; [ -e $from ] || from=$folder/big-specrun.tar; "
        "$docker rmi big >/dev/null; $docker load -i $from",
    ],
    "commit 8 MB": ["sh", "$docker commit small committed"],
}
PREPARE = """
$docker run --net none --name bench -v bench:/v busybox dd if=/dev/urandom of=/big bs=1M count=100
$docker commit bench big && $docker save -o $folder/big-$(basename $docker).tar big
$docker run --net none --name small busybox dd if=/dev/urandom of=/f bs=1M count=8
$docker run -d --net none --name up busybox sleep 100000
for number in $(seq 27); do $docker create --net none busybox true; done
"""
"""What the cases find: a container that has written 100 MB and has a volume, its image as an archive, a container that
has written 8 MB, one that runs, and as many more as make 30.
"""


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that one run takes. What was written before is on the disk, so that nobody waits for another's files."""
    os.sync()
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - began


def line(program: str, arguments: list[str], folder: str) -> list[str]:
    """The whole command line of a case."""
    if arguments[0] == "sh" and len(arguments) > 1:
        return ["sh", "-c", f"set -e; docker={program}; folder={folder}; {arguments[1]}"]
    if arguments == ["sh"]:
        return ["sh", "-c", f"{program} rm -f $({program} run -d --net none busybox sleep 60)"]
    return [program, *arguments]


def main() -> int:
    """Print a table; gives the exit status."""
    wanted = sys.argv[1:]
    headers = ["case", "specrun ms", "(least)", "docker ms", "ratio"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="srb-"))
        ours = {**os.environ, "SPECRUN_ROOT": f"{folder}/root", "SPECRUN_RUN": f"{folder}/run"}
        subprocess.run([COMMAND, "image", "assemble", "busybox"], env=ours, check=True, capture_output=True)
        theirs = None
        if shutil.which("dockerd"):
            theirs = stack.enter_context(private_docker(rules=True))
            _give_busybox(theirs, ours)
        rows = []
        for program, environment in ((COMMAND, ours), ("docker", theirs)):
            if environment:
                prepare = line(program, ["sh", PREPARE], folder)
                subprocess.run(prepare, env=environment, check=True, capture_output=True)
                stack.callback(subprocess.run, [program, "rm", "-f", "up"], env=environment, capture_output=True)
        for name, arguments in CASES.items():
            if wanted and not any(word in name for word in wanted):
                continue
            mine, docker = [], []
            for number in range(RUNS + 1):
                sample = measure(line(COMMAND, arguments, folder), ours)
                other = measure(line("docker", arguments, folder), theirs) if theirs else 0.0
                if number:  # the first warms up
                    mine.append(sample * 1000)
                    docker.append(other * 1000)
            row = [name, statistics.median(mine), min(mine)]
            row += (
                [statistics.median(docker), statistics.median(mine) / statistics.median(docker)]
                if theirs
                else ["-", "-"]
            )
            rows.append(row)
        contexts = Path(folder) / "contexts"
        chosen = [case for case in builds.CASES if not wanted or any(word in case.name for word in wanted)]
        if chosen:
            builds.make_contexts(contexts)
            rows += _builds(chosen, ours, theirs, Path(folder))
        if wanted:
            if rows:
                print(_table(rows, headers))
            if registries.available() and any(word in registries.CASES for word in wanted):
                print(registries.table(COMMAND, ours, theirs, Path(folder)))
            subprocess.run([COMMAND, "network", "prune", "-f"], env=ours, check=True)
            return 0
        if shutil.which("docker-compose") or not theirs:
            rows += applying.rows(ours, theirs)
        if shutil.which("docker-registry"):
            rows += serving.rows()
        for count in (100, 1000, 10000):
            took = planning.seconds(count) * 1000
            rows.append([f"plan of {count:,} objects, nothing to do", took, took, "-", "-"])
        print(_table(rows, headers))
        if registries.available():
            print(registries.table(COMMAND, ours, theirs, Path(folder)))
        print(builds.peak_of_a_large_build(COMMAND, ours, contexts))
        if theirs and shutil.which("iperf3"):
            mine_rate, docker_rate = throughput.compare((COMMAND, ours), ("docker", theirs))
            print(
                f"iperf3 through a published port: {mine_rate:.1f} Gbit/s, docker {docker_rate:.1f} Gbit/s,"
                f" ratio {mine_rate / docker_rate:.2f}"
            )
        print(f"private memory of an idle monitor: {_monitor_memory(ours) / 1024:.1f} MiB")
        subprocess.run([COMMAND, "network", "prune", "-f"], env=ours, check=True)
    if shutil.which("runc"):
        from tests.bench.runtime import rows as runtime_rows

        headers = ["the runtime", "specrun ms", "(least)", "runc ms", "ratio"]
        print(_table(runtime_rows(RUNS), headers, 1))
    return 0


def _builds(
    chosen: list[builds.BuildCase], ours: dict[str, str], theirs: dict[str, str] | None, folder: Path
) -> list[list[object]]:
    """The rows of builds, each side's on a disk of its own."""
    rows: list[list[object]] = []
    with ExitStack() as stack:
        disk = stack.enter_context(builds.own_disk(folder / "ours.img"))
        ours = {**ours, "SPECRUN_ROOT": f"{disk}/root", "SPECRUN_RUN": f"{disk}/run"}
        subprocess.run([COMMAND, "image", "assemble", "busybox"], env=ours, check=True, capture_output=True)
        if theirs:
            disk = stack.enter_context(builds.own_disk(folder / "theirs.img"))
            theirs = stack.enter_context(private_docker(below=disk))
            _give_busybox(theirs, ours)
        for case in chosen:
            mine, docker = [], []
            for number in range(BUILDS + 1):
                sample = measure(case.command(COMMAND, folder / "contexts"), ours)
                other = measure(case.command("docker", folder / "contexts"), theirs) if theirs else 0.0
                if number:
                    mine.append(sample * 1000)
                    docker.append(other * 1000)
            ratio: list[object] = ["-", "-"]
            if theirs:
                ratio = [statistics.median(docker), statistics.median(mine) / statistics.median(docker)]
            rows.append([f"{case.name} (at most {case.limit})", statistics.median(mine), min(mine), *ratio])
    return rows


def _give_busybox(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Let Docker have our image `busybox`, and build with the builder that it is compared by."""
    theirs["DOCKER_BUILDKIT"] = "0"
    layer = next(Path(ours["SPECRUN_ROOT"]).glob("layers/*/fs"))
    load = f"tar -C {layer} -c . | docker import -c 'CMD [\"sh\"]' - busybox:latest"
    subprocess.run(["sh", "-c", load], env=theirs, check=True, capture_output=True)


def _table(rows: list[list[object]], headers: list[str], digits: int = 0) -> str:
    from tabulate import tabulate

    # A column that has a dash somewhere is a column of texts, which `floatfmt` leaves as they are.
    formats = ("", f".{digits}f", f".{digits}f", f".{digits}f", ".2f")
    texts = [
        [format(cell, how) if isinstance(cell, float) else cell for cell, how in zip(row, formats, strict=True)]
        for row in rows
    ]
    return str(tabulate(texts, headers, tablefmt="plain", colalign=("left", *["right"] * 4), disable_numparse=True))


def _monitor_memory(environment: dict[str, str]) -> int:
    """KiB that the monitor of a container that sleeps has for itself."""
    started = [COMMAND, "run", "-d", "--net", "none", "busybox", "sleep", "60"]
    identity = subprocess.run(started, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    try:
        inspected = [COMMAND, "inspect", "-f", "{{.State.Pid}}", identity]
        pid = subprocess.run(inspected, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lines = Path(f"/proc/{stat[1]}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    finally:
        subprocess.run([COMMAND, "rm", "-f", identity], env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
