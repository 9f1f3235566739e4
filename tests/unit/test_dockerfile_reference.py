"""The Dockerfile reference, heading by heading: which tests show that what stands there is so.

A test is `file::function`, or `case:name` of the Dockerfiles that Docker, buildah and specrun build alike. What is
named here has to be there, and every instruction and flag that the front end knows has its heading.
"""

from __future__ import annotations

import ast
from pathlib import Path

from specrun.build import mounts
from specrun.build.instructions import _FLAGS, KEYWORDS
from specrun.build.parser import DIRECTIVES
from tests.support.dockerfiles import CASES

TESTS = Path(__file__).parents[1]
BUILD = "integration/test_build.py"
CORPORA = "unit/test_build_corpora.py"
HEADINGS = {
    "Format": f"{CORPORA}::test_lines_become_the_same_nodes case:continued-lines case:case-of-keywords",
    "Parser directives": f"{CORPORA}::test_lines_become_the_same_nodes",
    "Parser directives / syntax": f"{CORPORA}::test_lines_become_the_same_nodes",
    "Parser directives / escape": "case:escape-directive",
    "Parser directives / check": f"{CORPORA}::test_checks_warn_of_the_same_lines "
    f"{BUILD}::test_check_warns_without_building",
    "Environment replacement": f"{CORPORA}::test_variables_become_the_same_text case:env-forms",
    ".dockerignore file": f"{CORPORA}::test_patterns_of_dockerignore_match_the_same_paths "
    f"{BUILD}::test_dockerignore_hides_files",
    "Shell and exec form": "case:run-exec-form case:cmd-shell case:cmd-exec case:shell",
    "FROM": f"{BUILD}::test_from_with_stages_arguments_and_scratch case:scratch",
    "FROM --platform": f"{BUILD}::test_mistakes_are_shown_where_they_stand",
    "FROM / How ARG and FROM interact": "case:arg-before-from",
    "RUN": f"{BUILD}::test_run_forms_shell_and_here_documents case:run-makes case:run-removes",
    "RUN / Cache invalidation": f"{BUILD}::test_the_cache_knows_what_a_step_depends_on",
    "RUN --device": f"{CORPORA}::test_instructions_come_to_the_same_image",
    "RUN --mount": f"{BUILD}::test_mounts_of_run_leave_nothing_behind",
    "RUN --mount=type=bind": f"{BUILD}::test_mounts_of_run_leave_nothing_behind",
    "RUN --mount=type=cache": f"{BUILD}::test_mounts_of_run_leave_nothing_behind "
    "integration/test_build_reference.py::test_caches_are_locked_and_private",
    "RUN --mount=type=tmpfs": f"{BUILD}::test_mounts_of_run_leave_nothing_behind",
    "RUN --mount=type=secret": f"{BUILD}::test_mounts_of_run_leave_nothing_behind "
    "attack/test_builds.py::test_secrets_are_nowhere",
    "RUN --mount=type=ssh": "integration/test_build_ssh.py::test_a_step_asks_the_agent_and_nothing_of_it_stays",
    "RUN --network": f"{BUILD}::test_mounts_of_run_leave_nothing_behind "
    "integration/test_build_reference.py::test_networks_of_a_step",
    "RUN --security": "attack/test_builds.py::test_no_more_rights_are_to_be_had",
    "CMD": "case:cmd-shell case:cmd-exec",
    "LABEL": "case:label-forms",
    "MAINTAINER": f"{BUILD}::test_the_configuration_that_instructions_make",
    "EXPOSE": "case:expose-volume",
    "ENV": "case:env-forms case:env-overrides",
    "ADD": "case:add-file case:add-tar case:add-tar-gz case:add-tar-bz2 case:add-tar-xz case:add-not-a-tar",
    "ADD --keep-git-dir": "integration/test_build_reference.py::test_a_repository_with_its_history",
    "ADD --checksum": f"{BUILD}::test_add_unpacks_fetches_and_clones",
    "ADD --chown": "integration/test_build_reference.py::test_flags_of_add",
    "ADD --chmod": "integration/test_build_reference.py::test_flags_of_add",
    "ADD --link": "integration/test_build_reference.py::test_flags_of_add",
    "ADD --exclude": "integration/test_build_reference.py::test_flags_of_add",
    "ADD --unpack": f"{BUILD}::test_add_unpacks_fetches_and_clones",
    "COPY": "case:copy-file case:copy-many case:copy-wildcard case:copy-folder case:copy-inner-links",
    "COPY --from": f"case:stages case:from-image {BUILD}::test_named_contexts",
    "COPY --chown": "case:copy-chown-names case:copy-chown-numbers case:from-chown",
    "COPY --chmod": f"{BUILD}::test_copy_with_all_its_flags",
    "COPY --link": f"{BUILD}::test_copy_with_all_its_flags",
    "COPY --parents": f"{BUILD}::test_copy_with_all_its_flags",
    "COPY --exclude": f"{BUILD}::test_copy_with_all_its_flags",
    "ENTRYPOINT": "case:entrypoint-shell case:entrypoint-and-cmd",
    "ENTRYPOINT / Understand how CMD and ENTRYPOINT interact": "case:entrypoint-resets-cmd case:entrypoint-and-cmd",
    "VOLUME": "case:expose-volume",
    "USER": "case:user-stopsignal case:run-as-user",
    "WORKDIR": "case:workdir-made case:workdir-variable case:workdir-through-link case:workdir-as-user",
    "ARG": "case:arg-forms",
    "ARG / Scope": f"{CORPORA}::test_instructions_come_to_the_same_image",
    "ARG / Predefined ARGs": f"{BUILD}::test_an_argument_that_nothing_consumes_is_warned_of "
    "integration/test_build_reference.py::test_arguments_that_are_there_by_themselves",
    "ARG / Automatic platform ARGs": "integration/test_build_reference.py::test_arguments_that_are_there_by_themselves",
    "ARG / BuildKit built-in build args": f"{CORPORA}::test_checks_warn_of_the_same_lines "
    f"{BUILD}::test_two_builds_give_one_digest",
    "ARG / Impact on build caching": f"{BUILD}::test_the_cache_knows_what_a_step_depends_on",
    "ONBUILD": f"case:onbuild {BUILD}::test_the_configuration_that_instructions_make",
    "STOPSIGNAL": "case:user-stopsignal",
    "HEALTHCHECK": "case:healthcheck case:healthcheck-exec case:healthcheck-none",
    "HEALTHCHECK --interval": "case:healthcheck",
    "HEALTHCHECK --timeout": "case:healthcheck",
    "HEALTHCHECK --start-period": "case:healthcheck",
    "HEALTHCHECK --start-interval": f"{CORPORA}::test_instructions_come_to_the_same_image",
    "HEALTHCHECK --retries": "case:healthcheck",
    "SHELL": "case:shell",
    "Here-Documents": f"{BUILD}::test_run_forms_shell_and_here_documents",
}


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_what_is_named_is_there() -> None:
    for heading, tests in HEADINGS.items():
        for test in tests.split():
            if test.startswith("case:"):
                assert test[5:] in CASES, (heading, test)
            else:
                file, _, function = test.partition("::")
                assert function in _functions(TESTS / file), (heading, test)


def test_everything_that_the_front_end_knows_has_its_heading() -> None:
    wanted = {*KEYWORDS, *(f"Parser directives / {name}" for name in DIRECTIVES)}
    wanted |= {f"{keyword} --{flag}" for keyword, flags in _FLAGS.items() for flag in flags}
    wanted |= {f"RUN --mount=type={kind}" for kind in mounts.TYPES}
    assert wanted - set(HEADINGS) == set()
