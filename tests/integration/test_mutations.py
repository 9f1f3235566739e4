"""The workshop's features notice what is broken: for each mutation of the engine a scenario that it makes fail.

A mutation changes one place of a copy of the package. One whose place is not there any more, or there twice, fails:
it has to follow the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from specrun.bdd.bases import Bases
from specrun.bdd.sentences import find
from tests.support.mutants import copy_of, replace_once, run_features


class Mutation(NamedTuple):
    """What is broken: in `file`, `before` becomes `after`; `scenario` of the section `feature` has to notice."""

    name: str
    file: str
    before: str
    after: str
    feature: str
    scenario: str


MUTATIONS = [
    Mutation(
        "CAP_NET_ADMIN is kept",
        "specrun_runtime/constants.py",
        '"KILL AUDIT_WRITE"',
        '"KILL AUDIT_WRITE NET_ADMIN"',
        "10_capabilities",
        "without_net_admin_nobody_manages_network_interfaces",
    ),
    Mutation(
        "processes are the host's",
        "specrun/engine/security.py",
        '("pid", pid == "host")',
        '("pid", True)',
        "04_sneak_peek",
        "the_command_is_the_first_and_only_process_and_root",
    ),
    Mutation(
        "-e is ignored",
        "specrun/engine/settings.py",
        'bundle.environment_of(base.get("Env") or [], request.env)',
        'bundle.environment_of(base.get("Env") or [], [])',
        "03_environment_variables",
        "a_variable_more",
    ),
    Mutation(
        "the build cache is never used",
        "specrun/build/cache.py",
        "if record is not None and (record.layer is None or self.store.has(record.layer)):",
        "if False:",
        "23_build_cache",
        "nothing_is_done_twice_unless_it_is_asked_for",
    ),
    Mutation(
        "rmi removes an image that is in use",
        "specrun/engine/removal.py",
        "return [container for container in self.engine.list(all=True) if container.image_id == image.id]",
        "return []",
        "25_removing_images",
        "an_image_in_use_stays_whole_and_nothing_keeps_it_afterwards",
    ),
    Mutation(
        "read-only mounts can be written to",
        "specrun/engine/mounting.py",
        '[] if point["RW"] else ["ro"',
        '[] if True else ["ro"',
        "05_host_mounts",
        "a_readonly_mount_cant_be_written_to",
    ),
    Mutation(
        "the hostname is not set",
        "specrun/engine/bundle.py",
        'if "uts" in namespaces else {}',
        "if False else {}",
        "08_namespaces",
        "uts_gives_a_hostname_of_its_own",
    ),
    Mutation(
        "memory is not limited",
        "specrun/engine/resources.py",
        '"limit": host.get("Memory"),',
        '"limit": None,',
        "09_control_groups",
        "memory",
    ),
    Mutation(
        "the exit status is swallowed",
        "specrun/cli/commands/run.py",
        "    return running.wait(stdin)",
        "    return 0 * running.wait(stdin)",
        "01_hello_world",
        "the_exit_status_is_the_commands",
    ),
    Mutation(
        "logs give what was written to stderr as stdout",
        "specrun/cli/commands/logs.py",
        'context.write(1 if stream == "stdout" else 2, prefix + data)',
        "context.write(1, prefix + data)",
        "12_inspecting",
        "its_log_is_what_it_has_written",
    ),
    Mutation(
        "ports are published elsewhere",
        "specrun/network/ports.py",
        '"HostPort": str(begin + step)',
        '"HostPort": str(begin + step + 1)',
        "07_networking_example",
        "where_a_port_is_published",
    ),
    Mutation(
        "names are not unique",
        "specrun/engine/record.py",
        "            if holder and is_there(root, holder):",
        "            if False:",
        "15_starting_and_stopping",
        "a_name_stands_for_one_container",
    ),
    Mutation(
        "a volume is lost with its first container",
        "specrun/engine/mounting.py",
        'container="" if named else container',
        "container=container",
        "05_host_mounts",
        "a_named_volume_outlives_its_containers_and_begins_with_what_the_image_has_there",
    ),
    Mutation(
        "latest moves by itself",
        "specrun/build/executor.py",
        "for tag in self.request.tags]",
        'for name in self.request.tags for tag in (name, name.partition(":")[0])]',
        "19_versioning",
        "a_new_version_does_not_become_the_latest_by_itself",
    ),
    Mutation(
        "the image's entry point is ignored",
        "specrun/engine/bundle.py",
        'entry = image.get("Entrypoint") or []',
        "entry = []",
        "20_entry_point",
        "arguments_go_to_the_entry_point",
    ),
    Mutation(
        "stop kills at once",
        "specrun/engine/existing.py",
        'return signal_number(container.config.get("StopSignal") or "SIGTERM")',
        "return 9",
        "15_starting_and_stopping",
        "the_stop_signal_comes_first",
    ),
    Mutation(
        "--rm keeps the container",
        "specrun/engine/settings.py",
        "auto_remove=request.auto_remove,",
        "auto_remove=False,",
        "02_where_is_my_container",
        "rm_removes_it_as_soon_as_it_ends",
    ),
    Mutation(
        "--user is ignored",
        "specrun/engine/settings.py",
        '"User": request.user or base.get("User") or ""',
        '"User": ""',
        "08_namespaces",
        "user_lets_processes_be_somebody_else",
    ),
]


def mutate(code: Path, mutation: Mutation) -> None:
    replace_once(code / mutation.file, mutation.before, mutation.after)


def run(code: Path, folder: Path, bases: Bases, scenarios: list[Mutation]) -> tuple[int, list[dict[str, Any]], str]:
    """Run the scenarios with the packages in `code`."""
    names = sorted({(one.feature, one.scenario) for one in scenarios})
    chosen = " or ".join(f"({feature} and test_{scenario})" for feature, scenario in names)
    return run_features(code, folder, bases, [feature for feature, _ in names], chosen)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_noticed(mutation: Mutation, tmp_path: Path, bases: Bases) -> None:
    code = copy_of(tmp_path / "code")
    mutate(code, mutation)
    status, scenarios, said = run(code, tmp_path, bases, [mutation])
    assert status == 1 and scenarios, f"{mutation.name}: no scenario failed\n{said}"
    failing = [one["steps"][-1]["text"] for one in scenarios if one["status"] == "failed" and one["steps"]]
    assert failing, said
    for text in failing:
        find("then", text)  # a claim has failed: raises LookupError when it was something else


def test_without_a_mutation_they_hold(tmp_path: Path, bases: Bases) -> None:
    """A copy is as good as the package. That all scenarios hold on the package is what the features themselves show."""
    code = copy_of(tmp_path / "code")
    some = MUTATIONS[:4]
    status, scenarios, said = run(code, tmp_path, bases, some)
    assert status == 0, said
    assert len(scenarios) == len(some)


def test_a_mutation_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "specrun_runtime").mkdir()
    (tmp_path / MUTATIONS[0].file).write_text("DEFAULT = ()\n")
    with pytest.raises(AssertionError, match="0 times, expected once"):
        mutate(tmp_path, MUTATIONS[0])
