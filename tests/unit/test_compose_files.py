"""Compose files out of several: `extends` and `include`, their paths and what is wrong with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from specrun.spec.compose.reading import read_compose
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.yamltext import read


def converted(folder: Path, **files: str) -> dict[str, Any]:
    """The specs of main.yaml by kind and name; `a__b` is the file b.yaml in the folder a."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    main = str(folder / "main.yaml")
    documents = read_compose(*read(main), {"TAG": "7"}, "p")
    return {f"{one['kind']}/{one['metadata']['name']}".lower(): one["spec"] for one in documents}


def problems(folder: Path, **files: str) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecProblems) as raised:
        converted(folder, **files)
    return [(_place(folder, one), one.code, one.field) for one in raised.value.problems]


def _place(folder: Path, problem: Problem) -> str:
    return str(problem.place).removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("base", "over", "field", "expected"),
    [
        ("command: [a, b]", "command: [c]", "command", ["c"]),
        ("entrypoint: [a]", "command: [c]", "entrypoint", ["a"]),
        ("environment: {A: 1, B: 2}", "environment: [B=3, C=4]", "env", {"A": "1", "B": "3", "C": "4"}),
        ("environment: [A=1]", "environment: {A: 2}", "env", {"A": "2"}),
        ("cap_add: [NET_ADMIN]", "cap_add: [SYS_TIME, NET_ADMIN]", "security",
         {"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"]}}),
        ("dns: 192.0.2.1", "dns: [192.0.2.2]", "dns", {"servers": ["192.0.2.1", "192.0.2.2"]}),
        ("env_file: a.env", "env_file: [b.env, {path: a.env}]", "envFiles", ["a.env", "b.env"]),
        ("expose: [1]", "expose: ['2', 1]", "expose", ["1", "2"]),
        ("extra_hosts: ['a:192.0.2.1', 'b:192.0.2.2']", "extra_hosts: {a: 192.0.2.3}", "extraHosts",
         {"a": "192.0.2.3", "b": "192.0.2.2"}),
        ("healthcheck: {test: [CMD, a], retries: 3}", "healthcheck: {test: [CMD, b]}", "healthcheck",
         {"test": ["CMD", "b"], "retries": 3}),
        ("logging: {driver: local, options: {max-size: 1m}}", "logging: {driver: json-file, options: {max-file: 2}}",
         "logging", {"maxFile": 2}),
        ("logging: {driver: local, options: {max-size: 1m}}", "logging: {options: {max-file: 2}}",
         "logging", {"maxSize": "1m", "maxFile": 2}),
        ("deploy: {resources: {limits: {memory: 1m, cpus: 1}}}", "deploy: {resources: {limits: {memory: 2m}}}",
         "resources", {"limits": {"memory": "2m", "cpus": 1}}),
        ("devices: ['/dev/null:/dev/a', '/dev/zero']", "devices: ['/dev/full:/dev/a:r']", "devices",
         ["/dev/full:/dev/a:r", "/dev/zero"]),
        ("ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}", "ulimits: {nofile: 9}", "ulimits",
         {"nproc": 5, "nofile": 9}),
        ("restart: always", "restart: null", "restart", "always"),
        ("stop_signal: INT", "stop_signal: TERM", "stopSignal", "TERM"),
        ("tmpfs: /run:size=1m", "tmpfs: ['/run:size=2m', /tmp]", "volumes",
         [{"type": "tmpfs", "target": "/run", "size": "2m"}, {"type": "tmpfs", "target": "/tmp"}]),
        ("volumes: ['/a:/x', '/b:/y']", "volumes: [{type: bind, source: /c, target: /x}]", "volumes",
         [{"type": "bind", "source": "/c", "target": "/x"},
          {"type": "bind", "source": "/b", "target": "/y", "createHostPath": True}]),
        ("volumes: ['/a:/x', '/b:/y']", "volumes: !override ['/c:/z']", "volumes",
         [{"type": "bind", "source": "/c", "target": "/z", "createHostPath": True}]),
        ("command: [a]", "command: !reset null", "command", None),
        ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "env", {"B": "2"}),
    ],
)  # fmt: skip
def test_a_service_is_laid_over_the_one_that_it_extends(
    tmp_path: Path, base: str, over: str, field: str, expected: object
) -> None:
    made = converted(
        tmp_path, main=f"services:\n  base:\n    image: a\n    {base}\n  web:\n    extends: base\n    {over}\n"
    )
    assert made["container/web"].get(field) == expected
    assert made["container/web"]["image"] == "a"


def test_a_port_that_both_publish_is_published_once(tmp_path: Path) -> None:
    text = """services:
  base: {image: a, ports: ["8080:80", "127.0.0.1:9:9"]}
  web:
    extends: {service: base}
    ports: [{target: 80, published: "8080", protocol: tcp}, "8081:80"]
"""
    ports = converted(tmp_path, main=text)["container/web"]["ports"]
    assert [(one["hostPort"], one["containerPort"]) for one in ports] == [(8080, 80), (9, 9), (8081, 80)]


def test_names_of_networks_and_needs_are_joined_in_both_forms(tmp_path: Path) -> None:
    text = """services:
  one: {image: a}
  two: {image: a}
  base: {image: a, networks: [front], depends_on: [one]}
  web:
    extends: base
    networks: {back: {aliases: [b]}}
    depends_on: {two: {condition: service_healthy}}
networks: {front: {}, back: {}}
"""
    web = converted(tmp_path, main=text)["container/web"]
    assert [one["name"] for one in web["networks"]] == ["p_front", "p_back"]
    assert web["dependsOn"] == [
        {"container": "one", "condition": "started"},
        {"container": "two", "condition": "healthy"},
    ]


BASE = """services:
  base:
    extends: {file: ../deeper.yaml, service: root}
    build: {context: ./app, additional_contexts: [lib=../lib, up=docker-image://busybox]}
    env_file: [base.env, {path: /abs.env}]
    volumes: ["./data:/data:ro", "named:/named", {type: bind, source: more, target: /more}, "~/home:/home"]
"""
DEEPER = "services:\n  root:\n    env_file: root.env\n    volumes: ['./root:/root']\n    labels: {tag: '${TAG}'}\n"


def test_paths_are_those_beside_the_file_that_names_them(tmp_path: Path) -> None:
    text = """services:
  web:
    extends: {file: some/folder/base.yaml, service: base}
    volumes: ["./own:/own"]
volumes: {named: {}}
"""
    made = converted(tmp_path, main=text, some__folder__base=BASE, some__deeper=DEEPER)
    web, build = made["container/web"], made["build/web"]
    assert web["envFiles"] == ["./some/root.env", "./some/folder/base.env", "/abs.env"]
    assert [one.get("source") for one in web["volumes"]] == [
        "./some/root", "./some/folder/data", "p_named", "./some/folder/more", "~/home", "./own",
    ]  # fmt: skip
    assert build["context"] == "./some/folder/app"
    assert build["contexts"] == {"lib": "./some/lib", "up": "docker-image://busybox"}


def test_a_file_above_is_seen_from_the_first(tmp_path: Path) -> None:
    main = "services: {web: {extends: {file: ../../base.yaml, service: base}}}\n"
    (tmp_path / "a/b").mkdir(parents=True)
    made = converted(tmp_path / "a/b", main=main, **{"..__..__base": "services: {base: {build: app}}\n"})
    assert made["build/web"]["context"] == "../../app"


def test_a_problem_of_what_is_extended_is_shown_in_its_file(tmp_path: Path) -> None:
    base = "services:\n  base:\n    image: a\n    links: [x]\n"
    found = problems(tmp_path, main="services:\n  web:\n    extends: {file: base.yaml, service: base}\n", base=base)
    assert found == [("base.yaml:4:5", "not-supported", "services.web.links")]


@pytest.mark.parametrize(
    ("main", "base", "expected"),
    [
        ("services:\n  a:\n    extends: b\n  b:\n    extends: a\n", "",
         ("main.yaml:5:14", "cycle", "services.b.extends")),
        ("services:\n  a:\n    image: x\n    extends: a\n", "", ("main.yaml:4:14", "cycle", "services.a.extends")),
        ("services:\n  a:\n    extends: {file: base.yaml, service: b}\n",
         "services:\n  b:\n    extends: {service: a, file: main.yaml}\n",
         ("base.yaml:3:14", "cycle", "services.b.extends")),
        ("services:\n  a:\n    extends: {file: none.yaml, service: b}\n", "",
         ("main.yaml:3:21", "missing-file", "services.a.extends.file")),
        ("services:\n  a:\n    extends: {file: base.yaml, service: bb}\n", "services: {b: {image: a}}\n",
         ("main.yaml:3:41", "no-such-spec", "services.a.extends")),
        ("services:\n  a:\n    extends: {file: base.yaml}\n", "",
         ("main.yaml:3:14", "wrong-type", "services.a.extends")),
        ("services:\n  a:\n    extends: {service: b, only: c}\n  b: {image: a}\n", "",
         ("main.yaml:3:27", "not-supported", "services.a.extends.only")),
        ("services:\n  a:\n    extends: b\n    ports: 80\n  b: {image: a, ports: ['80']}\n", "",
         ("main.yaml:4:12", "wrong-type", "services.a.ports")),
        ("include: [base.yaml]\nservices:\n  a: {image: a}\n", "services: {a: {image: b}}\n",
         ("main.yaml:3:3", "duplicate-name", "services.a")),
        ("include: [base.yaml]\n", "include: [main.yaml]\n", ("base.yaml:1:11", "cycle", "include")),
        ("include: [none.yaml]\n", "", ("main.yaml:1:11", "missing-file", "include")),
        ("include:\n- path: [base.yaml, main.yaml]\n", "services: {}\n",
         ("main.yaml:2:3", "not-supported", "include")),
        ("include:\n- path: base.yaml\n  if: x\n", "services: {}\n", ("main.yaml:3:3", "not-supported", "include.if")),
        ("include: [base.yaml]\n", "services: {}\nother: 1\n", ("base.yaml:2:1", "not-supported", "other")),
        ("services:\n  a:\n    image: !reset [b\n", "", ("main.yaml:4:1", "bad-yaml", "")),
        ("services:\n  a:\n    image: a\n    command: [!reset b]\n", "", ("main.yaml:4:15", "bad-tag", "")),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place(tmp_path: Path, main: str, base: str, expected: tuple[str, str, str]) -> None:
    assert problems(tmp_path, main=main, **({"base": base} if base else {})) == [expected]


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(SpecProblems) as raised:
        converted(tmp_path, main="services:\n  web:\n    extends: bsae\n  base: {image: a}\n")
    assert "did you mean base?" in str(raised.value)
    assert "extends itself" not in str(raised.value)


INCLUDED = """include: [inner/compose.yaml]
services:
  db: {image: "db:${VERSION}", volumes: ["./data:/data"], configs: [page]}
configs: {page: {file: page.html}}
"""


def test_an_included_file_brings_its_objects_with_its_own_paths_and_variables(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part/.env").write_text("VERSION=3\nTAG=not this one\n")
    made = converted(
        tmp_path,
        main="include: [part/compose.yaml]\nservices: {web: {image: 'web:${TAG}', depends_on: [db]}}\n",
        part__compose=INCLUDED,
        part__inner__compose="services: {deep: {build: ., image: 'deep:${TAG}'}}\n",
    )
    assert made["container/db"]["image"] == "db:3"
    assert made["container/db"]["volumes"][0]["source"] == "./part/data"
    assert made["config/page"] == {"file": "./part/page.html"}
    assert made["build/deep"] == {"tags": ["deep:7"], "context": "./part/inner"}


def test_a_project_directory_is_what_paths_are_relative_to(tmp_path: Path) -> None:
    main = "include:\n- {path: part/compose.yaml, project_directory: other, env_file: set.env}\n"
    (tmp_path / "set.env").write_text("VERSION=4\n")
    made = converted(tmp_path, main=main, part__compose=INCLUDED.partition("\n")[2])
    assert made["container/db"]["image"] == "db:4"
    assert made["container/db"]["volumes"][0]["source"] == "./other/data"


def test_services_that_grow_by_extending_are_bounded(tmp_path: Path) -> None:
    lines = ["services:", "  s0: {image: a, cap_add: [c0]}"]
    lines += [f"  s{n}: {{extends: s{n - 1}, cap_add: [c{n}]}}" for n in range(1, 3000)]
    begun = time.process_time()
    found = problems(tmp_path, main="\n".join(lines))
    assert {code for _, code, _ in found} == {"too-large"}
    assert time.process_time() - begun < 60
