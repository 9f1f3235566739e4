"""Specs become containers, and nothing happens twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import leaks
from tests.support.host import COMMAND, Host

HELLO = Path(__file__).parents[2] / "specs/workshop/01-hello-world.yaml"
WHERE = Path(__file__).parents[2] / "specs/workshop/02-where-is-my-container.yaml"


def write(folder: Path, text: str, name: str = "spec.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def job(command: str = "[echo, hi]", name: str = "one", more: str = "") -> str:
    return (
        f"apiVersion: specrun/v1\nkind: Job\nmetadata: {{name: {name}}}\n"
        f"spec:\n  image: busybox\n  command: {command}\n{more}---\n"
    )


def listing(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for path, names, files in os.walk(folder):
        for name in names + files:
            info = os.lstat(os.path.join(path, name))
            found.append((os.path.join(path, name), info.st_mtime_ns, info.st_size))
    return sorted(found)


def test_the_whole_way_on_an_empty_host(empty_host: Host) -> None:
    spec = str(HELLO)
    assert empty_host.run("plan", spec).returncode == 2
    assert not empty_host.root.exists()
    assert "\nhello world\n" in empty_host.ok("apply", spec)
    assert empty_host.run("plan", spec).returncode == 0
    assert "nothing to change" in empty_host.ok("apply", spec)
    assert empty_host.ok("logs", "hello-world") == "hello world\n"
    assert empty_host.ok("status", spec).split()[-4:-1] == ["Job", "hello-world", "completed"]
    empty_host.ok("delete", spec)
    assert empty_host.leftovers() == []
    assert os.listdir(empty_host.root / "oci/blobs/sha256") == []
    assert os.listdir(empty_host.root / "layers") == []
    assert os.listdir(empty_host.root / "projects") == []
    assert empty_host.run("plan", spec).returncode == 2


def test_a_container_is_kept_running(host: Host) -> None:
    spec = str(WHERE)
    host.ok("apply", spec)
    assert host.ok("ps", "--format", "{{.Names}}").split() == ["running"]
    host.ok("kill", "running")
    host.ok("wait", "running")
    plan = host.run("plan", spec)
    assert plan.returncode == 2
    assert b"~ container/running" in plan.stdout
    host.ok("apply", spec)
    assert host.ok("ps", "--format", "{{.Names}}").split() == ["running"]
    host.ok("delete", spec)
    assert host.leftovers() == []


def test_planning_writes_nothing(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job())
    for arguments in (["plan", spec], ["validate", spec], ["status", spec], ["plan", spec, "--output", "json"]):
        marks = leaks.marks_of(host.root)
        state, machine = listing(host.root), leaks.present(marks)
        host.run(*arguments)
        assert listing(host.root) == state, arguments
        assert leaks.present(marks) == machine


def test_a_changed_spec_replaces_with_its_reason(host: Host, tmp_path: Path) -> None:
    host.ok("apply", write(tmp_path, job()))
    changed = write(tmp_path, job("[echo, ho]"))
    plan = host.run("plan", changed).stdout.decode()
    assert "± job/one" in plan
    assert 'command[1]: "hi" -> "ho"' in plan
    assert f"{changed}:6:19" in plan
    assert "\nho\n" in host.ok("apply", changed)


def test_order_and_comments_are_no_change(host: Host, tmp_path: Path) -> None:
    host.ok("apply", write(tmp_path, job(more="  env: {A: a, B: b}\n")))
    text = "# a comment\n" + job("\n  - echo\n  - hi", more="  env:\n    B: b   # second\n    A: a\n")
    assert host.run("plan", write(tmp_path, text)).returncode == 0


def test_a_failed_job_is_said_and_run_again(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job("[sh, -c, 'echo why; exit 3']") + job(name="two", more="  dependsOn: [{job: one}]\n"))
    done = host.run("apply", spec)
    assert done.returncode == 1
    assert b"job/one: the command ended with exit status 3" in done.stderr
    assert b"why" in done.stderr
    plan = json.loads(host.run("plan", spec, "--output", "json").stdout)
    assert [change["action"] for change in plan["changes"]] == ["replace", "create"]


def test_a_stranger_s_container_is_not_touched(host: Host, tmp_path: Path) -> None:
    identity = host.ok("create", "--name", "one", "busybox", "true").strip()
    done = host.run("apply", write(tmp_path, job()))
    assert done.returncode == 1
    assert identity[:12] in done.stderr.decode()
    assert host.containers() == [identity]


def test_a_label_does_not_make_a_container_ours(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job())
    host.ok("apply", spec)
    host.ok("rm", "one")
    host.ok("create", "--name", "one", "-l", "io.specrun.token=guess", "busybox", "true")
    host.ok("delete", spec)
    assert host.ok("ps", "-a", "--format", "{{.Names}}") == "one\n"


def test_a_missing_image_is_said_at_its_place(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job().replace("busybox", "nix"))
    done = host.run("plan", spec)
    assert done.returncode == 1
    assert f"{spec}:5:10".encode() in done.stderr
    assert b"[no-such-image]" in done.stderr


def test_standard_input_and_folders(host: Host, tmp_path: Path) -> None:
    assert "\nhi\n" in host.ok("apply", "-", input=job().encode())
    write(tmp_path, job(name="x"), "a.yaml")
    write(tmp_path, job(name="y"), "b.yml")
    write(tmp_path, "not yaml: [", "c.txt")
    assert host.ok("validate", str(tmp_path)).startswith("2 objects, all valid: job/x, job/y")


@pytest.mark.parametrize("verb", ["validate", "plan", "apply", "status", "delete"])
def test_errors_as_json(host: Host, tmp_path: Path, verb: str) -> None:
    done = host.run(verb, write(tmp_path, job(more="  memroy: 1\n")), "--output", "json")
    assert done.returncode == 1
    problem = json.loads(done.stdout)["errors"][0]
    assert (problem["code"], problem["line"], problem["field"]) == ("unknown-field", 7, "spec.memroy")


def test_one_apply_at_a_time(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job("[sleep, '1.5']"))
    first = host.spawn("apply", spec, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()
    second = host.run("apply", spec)
    first.stdout.close()
    assert first.wait(20) in (0, 141)
    assert second.returncode == 1
    assert f"pid {first.pid}, user root, since 20".encode() in second.stderr


def test_dependencies_come_first(host: Host, tmp_path: Path) -> None:
    text = job("[echo, second]", "b", "  dependsOn: [{job: a}]\n") + job("[echo, first]", "a")
    lines = host.ok("apply", write(tmp_path, text)).splitlines()
    assert lines.index("first") < lines.index("second")


def test_security_of_a_job(host: Host, tmp_path: Path) -> None:
    more = "  network: none\n  security: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}\n"
    text = job("[sh, -c, 'grep CapEff /proc/1/status; touch /file || echo read-only']", more=more)
    done = host.ok("apply", write(tmp_path, text))
    assert "CapEff:\t0000000000000000" in done
    assert "\nread-only\n" in done


def test_a_saved_plan_is_applied_as_it_was_or_refused(host: Host, tmp_path: Path) -> None:
    spec, saved = write(tmp_path, job()), str(tmp_path / "saved.plan")
    assert host.run("plan", spec, "-o", saved).returncode == 2
    assert "\nhi\n" in host.ok("apply", saved)
    done = host.run("apply", saved)
    assert done.returncode == 1
    assert b'job/one: found.state was absent and is "exited"' in done.stderr
    host.run("plan", spec, "-o", saved)
    write(tmp_path, job("[echo, ho]"))
    done = host.run("apply", saved)
    assert b'job/one: spec.command[1] was "hi" and is "ho"' in done.stderr
    assert host.run("plan", "-", "-o", saved, input=job().encode()).returncode == 1
    assert host.run("plan", spec, "-o", "json").returncode == 125


def test_targets_and_pruning(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job(name="a") + job(name="b", more="  dependsOn: [{job: a}]\n") + job(name="c"))
    host.ok("apply", "--target", "job/b", spec)
    assert sorted(host.ok("ps", "-a", "--format", "{{.Names}}").split()) == ["a", "b"]
    host.ok("apply", "--parallel", "1", spec)
    write(tmp_path, job(name="a"))
    assert host.run("plan", spec).returncode == 0
    plan = host.run("plan", "--prune", spec)
    assert plan.returncode == 2
    assert plan.stdout.count(b"delete   no longer in these specs") == 2
    host.ok("apply", "--prune", spec)
    assert host.ok("ps", "-a", "--format", "{{.Names}}") == "a\n"


KEPT = """apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  network: none
  command: [sh, -c, "trap 'exit 0' TERM; sleep 0.5; touch /ready; while :; do sleep 0.1; done"]
  restart: on-failure:3
  resources: {limits: {memory: %s, cpus: 0.5, pids: 40}}
  healthcheck: {test: [CMD, test, -e, /ready], interval: 200ms, retries: 20}
---
apiVersion: specrun/v1
kind: Job
metadata: {name: after}
spec:
  image: busybox
  network: none
  command: [echo, after]
  dependsOn: [{container: web, condition: healthy}]
"""


def test_limits_change_in_place_and_health_is_waited_for(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, KEPT % "64m")
    lines = host.ok("apply", "--wait", "--timeout", "30", spec).splitlines()
    assert "after" in lines
    assert "healthy" in host.ok("status", spec)
    assert host.run("drift", spec).returncode == 0
    before = json.loads(host.ok("inspect", "web"))[0]
    write(tmp_path, KEPT % "96m")
    plan = host.run("plan", spec).stdout.decode()
    assert "~ container/web" in plan
    assert "resources.limits.memory: 67108864 -> 100663296" in plan
    host.ok("apply", spec)
    after = json.loads(host.ok("inspect", "web"))[0]
    assert after["State"]["Pid"] == before["State"]["Pid"]
    assert after["HostConfig"]["Memory"] == 96 << 20
    assert host.run("drift", spec).returncode == 0
    host.ok("stop", "web")
    host.ok("apply", spec)
    assert host.run("drift", spec).returncode == 0


def test_what_was_there_before_stays(host: Host, tmp_path: Path) -> None:
    text = (
        "apiVersion: specrun/v1\nkind: Image\nmetadata: {name: busybox}\n"
        "spec: {tags: [busybox], packages: {include: [busybox]}}\n---\n"
        "apiVersion: specrun/v1\nkind: Volume\nmetadata: {name: mine}\nspec: {keep: false}\n"
    )
    host.ok("volume", "create", "mine")
    spec = write(tmp_path, text)
    host.ok("apply", spec)
    done = host.ok("delete", spec)
    assert "volume/mine   kept: it was there before" in done
    assert host.ok("volume", "ls", "-q").split() == ["mine"]
    host.ok("volume", "rm", "mine")


def test_applying_again_and_again_does_nothing(host: Host, tmp_path: Path) -> None:
    spec = write(tmp_path, job() + KEPT % "64m")
    host.ok("apply", spec)
    before = [one["State"]["StartedAt"] for one in json.loads(host.ok("inspect", "one", "web", "after"))]
    for _ in range(5):
        assert "nothing to change" in host.ok("apply", spec)
    assert [one["State"]["StartedAt"] for one in json.loads(host.ok("inspect", "one", "web", "after"))] == before


SETTLED = """apiVersion: specrun/v1
kind: Container
metadata: {{name: web, labels: {{tier: "{tier}"}}}}
spec:
  image: busybox
  network: none
  stopTimeout: {stop}
  command: [sh, -c, "trap 'exit 3' TERM; while :; do [ -e /loud ] && seq 300; sleep 0.1; done"]
  restart: "{restart}"
  resources: {{limits: {limits}}}
  logging: {{maxSize: {size}, maxFile: {files}}}
  healthcheck: {{test: [CMD, "{test}"], interval: {interval}, retries: 1}}
"""
BEFORE = {"tier": "a", "stop": "9", "restart": "no", "limits": "{memory: 64m, pids: 40}", "size": "10m", "files": "3"}
BEFORE |= {"test": "true", "interval": "1h"}


def _apply_in_place(host: Host, folder: Path, **changes: str) -> dict[str, Any]:
    """Apply other settings, and see that the process is the same and nothing is left to do."""
    before = json.loads(host.ok("inspect", "web"))[0]
    spec = write(folder, SETTLED.format(**{**BEFORE, **changes}))
    plan = json.loads(host.run("plan", spec, "--output", "json").stdout)
    assert [change["action"] for change in plan["changes"]] == ["update"]
    assert "in place" in plan["changes"][0]["reason"]
    host.ok("apply", spec)
    assert host.run("plan", spec).returncode == 0
    after: dict[str, Any] = json.loads(host.ok("inspect", "web"))[0]
    assert after["State"]["Pid"] == before["State"]["Pid"] != 0
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    return after


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_settings_change_in_place_and_are_obeyed(host: Host, tmp_path: Path) -> None:
    host.ok("apply", write(tmp_path, SETTLED.format(**BEFORE)))
    changes = {"tier": "b", "interval": "100ms"}
    assert _apply_in_place(host, tmp_path, **changes)["Config"]["Labels"]["tier"] == "b"
    _until(lambda: "healthy" in host.ok("status", str(tmp_path / "spec.yaml")))  # the interval was an hour
    changes["test"] = "false"
    _apply_in_place(host, tmp_path, **changes)
    _until(lambda: "unhealthy" in host.ok("ps"))
    changes |= {"limits": "{memory: 96m}", "stop": "1"}
    found = _apply_in_place(host, tmp_path, **changes)
    assert (found["HostConfig"]["Memory"], found["Config"]["StopTimeout"]) == (96 << 20, 1)
    changes |= {"size": "4k", "files": "2"}
    _apply_in_place(host, tmp_path, **changes)
    host.ok("exec", "web", "touch", "/loud")
    folder = host.root / "containers" / found["Id"]
    _until(lambda: (folder / "log.1").exists())
    host.ok("exec", "web", "rm", "/loud")
    assert not (folder / "log.2").exists()
    assert (folder / "log.1").stat().st_size < 16 << 10
    changes["restart"] = "always"
    _apply_in_place(host, tmp_path, **changes)
    since = str(time.time())
    host.ok("exec", "web", "kill", "-TERM", "1")
    _until(lambda: json.loads(host.ok("inspect", "web"))[0]["RestartCount"] == 1)
    assert json.loads(host.ok("inspect", "web"))[0]["HostConfig"]["Memory"] == 96 << 20
    assert host.run("drift", str(tmp_path / "spec.yaml")).returncode == 0, "limits of the new life"
    _until(lambda: "unhealthy" in host.ok("ps"))
    assert "tier=b" in host.ok("events", "--since", since, "--until", str(time.time()), "--filter", "event=die")
    changes["restart"] = "no"
    _apply_in_place(host, tmp_path, **changes)
    host.ok("exec", "web", "kill", "-TERM", "1")
    _until(lambda: json.loads(host.ok("inspect", "web"))[0]["State"]["Status"] == "exited")
    host.ok("delete", str(tmp_path / "spec.yaml"))
    assert host.leftovers() == []


def test_other_settings_of_a_stopped_container_keep_its_files(host: Host, tmp_path: Path) -> None:
    host.ok("apply", write(tmp_path, SETTLED.format(**BEFORE)))
    host.ok("exec", "web", "touch", "/kept")
    host.ok("stop", "-t", "0", "web")
    spec = write(tmp_path, SETTLED.format(**{**BEFORE, "interval": "100ms", "limits": "{pids: 30}"}))
    host.ok("apply", spec)
    host.ok("exec", "web", "test", "-e", "/kept")
    assert host.run("plan", spec).returncode == 0
    _until(lambda: "healthy" in host.ok("status", spec))


def test_all_that_differs_is_settled_at_once(host: Host, tmp_path: Path) -> None:
    """Another setting in the spec, another name, policy and limit behind its back."""
    spec = write(tmp_path, SETTLED.format(**BEFORE))
    host.ok("apply", spec)
    host.ok("update", "--restart", "always", "--pids-limit", "50", "web")
    host.ok("rename", "web", "other")
    drift = host.run("drift", spec)
    assert drift.returncode == 2
    for text in ('name: wanted "web", found "other"', 'restart: wanted "no", found "always"', "wanted 40, found 50"):
        assert text in drift.stdout.decode()
    write(tmp_path, SETTLED.format(**{**BEFORE, "tier": "c"}))
    host.ok("apply", spec)
    assert host.run("plan", spec).returncode == 0
    assert host.ok("ps", "--format", "{{.Names}}").split() == ["web"]


GIVEN = """apiVersion: specrun/v1
kind: Config
metadata: {name: page}
spec: {file: page.txt}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  network: none
  command: [sh, -c, "while :; do sleep 0.1; done"]
  stopTimeout: 0
  env: {WHO: "${WHO:-nobody}"}
  configs: [page]
  volumes: ["./bound.txt:/bound.txt:ro"]
"""


def test_plan_and_drift_share_what_is_settled_and_hide_nothing(host: Host, tmp_path: Path) -> None:
    host.ok("tag", "busybox", "busybox:1")
    text = GIVEN.replace("busybox", "busybox:1\n  resources: {limits: {memory: 64m}}")  # so that no rule is broken
    write(tmp_path, text)
    write(tmp_path, "a", "page.txt")
    write(tmp_path, "a", "bound.txt")
    folder = str(tmp_path)

    def both() -> tuple[int, int, bool]:
        """The exit statuses of plan and drift, and whether one of them has read the specs."""
        done = [
            subprocess.run(
                [sys.executable, "-X", "importtime", str(COMMAND), verb, folder],
                capture_output=True,
                env=host.environment,
                check=False,
            )
            for verb in ("plan", "drift")
        ]
        return done[0].returncode, done[1].returncode, any(b" pydantic\n" in one.stderr for one in done)

    host.ok("apply", folder)
    assert both() == (0, 0, False)
    said = host.ok("plan", folder), host.ok("plan", folder, "--output", "json"), host.ok("drift", folder)
    (host.root / "projects" / f"{tmp_path.name}.settled").unlink()
    assert said == (host.ok("plan", folder), host.ok("plan", folder, "--output", "json"), host.ok("drift", folder))
    host.ok("apply", folder)
    for change, status in (
        (("update", "--pids-limit", "77", "web"), (2, 2)),
        (("rm", "-f", "web"), (2, 2)),
    ):
        host.ok(*change)
        assert both() == (*status, True), change
        host.ok("apply", folder)
        assert both() == (0, 0, False)
    write(tmp_path, "b", "page.txt")
    assert both() == (2, 0, True)
    write(tmp_path, text.replace("busybox:1", "busybox"))
    host.ok("apply", folder)
    assert "[latest]" in host.ok("plan", folder), "what the policy says of it is not kept"


def test_what_is_settled_is_found_so_without_reading_the_specs_and_any_change_is_seen(
    host: Host, tmp_path: Path
) -> None:
    write(tmp_path, GIVEN)
    write(tmp_path, "a", "page.txt")
    write(tmp_path, "a", "bound.txt")
    folder = str(tmp_path)
    arguments = ["-X", "importtime", str(COMMAND), "apply", folder]

    def reads_specs() -> bool:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, env=host.environment, check=True)
        assert b"nothing to change" in done.stdout
        return b" pydantic\n" in done.stderr

    def changed(count: int = 1) -> None:
        done = host.ok("apply", folder)
        assert f"{count} to change" in done, done
        assert not reads_specs()

    host.ok("apply", folder)
    assert not reads_specs()
    write(tmp_path, "b", "page.txt")
    changed(2)
    write(tmp_path, "b", "bound.txt")
    changed()
    write(tmp_path, "WHO=me\n", ".env")
    changed()
    host.environment["WHO"] = "you"
    changed()
    write(tmp_path, job(name="more"), "more.yaml")
    changed()
    (tmp_path / "more.yaml").unlink()
    assert "3 objects are as" in host.ok("apply", folder), "one of them is no longer in the specs"
    assert "1 delete" in host.ok("apply", "--prune", folder)
    host.ok("kill", "web")
    host.ok("wait", "web")
    changed()
    host.ok("update", "--pids-limit", "77", "web")
    changed()
    write(tmp_path, GIVEN.replace("page.txt}", "page.txt"))
    assert b"[bad-yaml]" in host.run("apply", folder).stderr
    write(tmp_path, "# a comment\n" + GIVEN)
    assert "nothing to change" in host.ok("apply", folder)
    assert not reads_specs()
    host.ok("delete", folder)
    assert os.listdir(host.root / "projects") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "--profile", "debgu"], "--profile debgu: no object has it"),
        (["apply", "--timeout", "-1"], "--timeout -1: expected seconds"),
        (["apply", "--watch", "--interval", "0"], "--interval 0: expected at least 1 second"),
        (["convert", "--from", "compose", "--to", "compose"], "one of --from and --to is needed, not both"),
    ],
)
def test_options_that_make_no_sense_are_refused(host: Host, tmp_path: Path, words: list[str], said: str) -> None:
    done = host.run(*words, write(tmp_path, job()))
    assert done.returncode == 125 and said in done.stderr.decode(), done.stderr
    assert host.containers() == []


def test_a_compose_file_is_recognised(host: Host, tmp_path: Path) -> None:
    done = host.run("apply", write(tmp_path, "services: {web: {image: busybox}}\n"))
    assert done.returncode == 1
    assert b"is a Compose file, not a spec" in done.stderr and b"specrun convert --from compose" in done.stderr
