"""What goes out to Compose and Kubernetes is right there, and what would be lost is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from specrun.spec.compose.reading import read_compose
from specrun.spec.compose.writing import to_compose
from specrun.spec.kubernetes import to_kubernetes
from specrun.spec.loader import Specs, from_values, load
from specrun.spec.problems import SpecProblems
from specrun.spec.writing import dump, escaped

SPEC = """apiVersion: specrun/v1
kind: Config
metadata: {name: page}
spec: {content: hello}
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: password}
spec: {content: hunter2}
---
apiVersion: specrun/v1
kind: Volume
metadata: {name: data}
spec: {}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web, labels: {tier: front}}
spec:
  image: busybox
  command: [httpd, -f, "$(date)$(A)"]
  env: {A: "1"}
  ports: ["127.0.0.1:8080:80"]
  volumes: ["data:/data", {type: tmpfs, target: /tmp, size: 1m}, "/srv:/srv:ro"]
  configs: [{source: page, target: /www/index.html}]
  secrets: [password]
  restart: always
  resources: {limits: {memory: 64m, cpus: 0.5}}
  healthcheck: {test: [CMD, "true"], interval: 5s, retries: 2}
  security: {user: "1000:1000", readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: specrun/v1
kind: Job
metadata: {name: once}
spec: {image: busybox, command: [echo, hi], timeout: 1m}
"""


def specs(folder: Path, text: str = SPEC) -> Specs:
    (folder / "spec.yaml").write_text(text)
    return load([str(folder / "spec.yaml")])


def test_kubernetes_objects_are_valid(tmp_path: Path) -> None:
    objects = to_kubernetes(specs(tmp_path))
    assert [one["kind"] for one in objects] == ["ConfigMap", "Secret", "PersistentVolumeClaim", "Pod", "Job"]
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    pod = objects[3]["spec"]
    assert pod["restartPolicy"] == "Always"
    container = pod["containers"][0]
    assert container["args"] == ["httpd", "-f", "$(date)$$(A)"]
    assert container["resources"]["limits"] == {"memory": "67108864", "cpu": "500m"}
    assert container["securityContext"]["runAsUser"] == 1000
    assert {"name": "secret-0", "mountPath": "/run/secrets", "readOnly": True} in container["volumeMounts"]
    index = {"name": "config-1", "mountPath": "/www/index.html", "subPath": "page", "readOnly": True}
    assert index in container["volumeMounts"], "nobody knows what else is in /www"


FILES = """apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  configs: [{source: page, target: /www/index.html, mode: "0440"}, {source: page, target: /www/other.html}]
  secrets: [password, key, {source: key, target: /etc/key}]
---
apiVersion: specrun/v1
kind: Config
metadata: {name: page}
spec: {content: hello}
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: password}
spec: {content: hunter2}
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: key}
spec: {content: abc}
"""


def test_files_of_one_folder_are_a_volume(tmp_path: Path) -> None:
    objects = to_kubernetes(specs(tmp_path, FILES), lambda image, folder: folder != "/etc")
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    assert [one["kind"] for one in objects][-1] == "Pod"
    by_name = {one["metadata"]["name"]: one for one in objects}
    assert by_name["web-config-2"]["data"] == {"index.html": "hello", "other.html": "hello"}
    assert by_name["web-secret-0"]["data"] == {"password": "aHVudGVyMg==", "key": "YWJj"}
    pod = by_name["web"]["spec"]
    assert [(one["mountPath"], one.get("subPath")) for one in pod["containers"][0]["volumeMounts"]] == [
        ("/run/secrets", None),
        ("/etc/key", "key"),
        ("/www", None),
    ]
    assert pod["volumes"][2]["configMap"]["items"] == [
        {"key": "index.html", "path": "index.html", "mode": 0o440},
        {"key": "other.html", "path": "other.html"},
    ]


def test_an_owner_of_a_file_is_lost(tmp_path: Path) -> None:
    with pytest.raises(SpecProblems) as error:
        to_kubernetes(specs(tmp_path, FILES.replace('mode: "0440"', "uid: 5")))
    assert [one.field for one in error.value.problems] == ["spec.configs[0].uid"]


@pytest.mark.parametrize("field", ["sysctls: {a: b}", "volumesFrom: [x]", "init: true", "oomScoreAdj: 5"])
def test_what_kubernetes_has_not_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(SpecProblems) as error:
        to_kubernetes(specs(tmp_path, SPEC.replace("  restart: always", f"  {field}")))
    assert [one.field for one in error.value.problems] == [f"spec.{field.partition(':')[0]}"]


def test_out_to_compose_and_back(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("hello")
    text = SPEC.replace("spec: {content: hello}", "spec: {file: page}")
    text = text.replace("spec: {content: hunter2}", "spec: {environment: PASSWORD}").replace(", timeout: 1m", "")
    before = specs(tmp_path, text)
    compose: dict[str, Any] = to_compose(before)
    after = from_values(read_compose("compose.yaml", dump([compose]), {}), "compose.yaml", "p")
    web, again = before.resources["container/web"].values, after.resources["container/web"].values
    for field in ("image", "command", "env", "ports", "restart", "resources", "healthcheck", "security", "labels"):
        assert again[field] == web[field], field
    assert len(again["volumes"]) == 3


def test_a_build_out_to_compose_and_back(tmp_path: Path) -> None:
    text = """apiVersion: specrun/v1
kind: Build
metadata: {name: app}
spec:
  tags: [app, "app:2"]
  dockerfile: Dockerfile
  args: {A: "1"}
  contexts: {other: "docker-image://busybox"}
  extraHosts: {one.example: 192.0.2.1}
  shmSize: 1m
  noCache: true
  pull: true
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec: {image: app}
"""
    before = specs(tmp_path, text)
    compose = to_compose(before)
    assert compose["services"]["web"]["build"]["extra_hosts"] == {"one.example": "192.0.2.1"}
    after = from_values(read_compose("compose.yaml", dump([compose]), {}), "compose.yaml", "p")
    build = dict(before.resources["build/app"].values)
    assert after.resources["build/web"].values == {**build, "context": str(tmp_path)}


def test_what_compose_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecProblems) as error:
        to_compose(specs(tmp_path))
    assert {one.subject for one in error.value.problems} == {"config/page", "secret/password", "job/once"}


def test_variables_stay_what_they_are() -> None:
    assert escaped({"a": ["${B}", "$C"]}) == {"a": ["$${B}", "$C"]}


@pytest.mark.parametrize("key", ["links", "develop", "credential_spec", "annotations", "gpus", "blkio_config"])
def test_an_ignored_key_is_named(key: str) -> None:
    with pytest.raises(SpecProblems) as error:
        read_compose("c.yaml", f"services:\n  web:\n    image: a\n    {key}: {{}}\n", {})
    assert [(str(one.place), one.field) for one in error.value.problems] == [("c.yaml:4:5", f"services.web.{key}")]


def compose(text: str) -> list[dict[str, Any]]:
    return read_compose("compose.yaml", text, {}, "p", "")


@pytest.mark.parametrize(
    ("policy", "restart"),
    [
        ("{}", "always"),
        ("{condition: any}", "always"),
        ("{condition: none}", "no"),
        ("{condition: on-failure}", "on-failure"),
        ("{condition: on-failure, max_attempts: 3}", "on-failure:3"),
    ],
)
def test_a_restart_policy_of_compose(policy: str, restart: str) -> None:
    documents = compose(f"services: {{web: {{image: busybox, deploy: {{restart_policy: {policy}}}}}}}\n")
    assert [one["spec"]["restart"] for one in documents if one["kind"] == "Container"] == [restart]


@pytest.mark.parametrize("policy", ["{condition: any, max_attempts: 3}", "{condition: on-failure, delay: 5s}"])
def test_what_of_a_restart_policy_would_be_ignored_is_named(policy: str) -> None:
    with pytest.raises(SpecProblems) as raised:
        compose(f"services: {{web: {{image: busybox, deploy: {{restart_policy: {policy}}}}}}}\n")
    (problem,) = raised.value.problems
    assert problem.field.startswith("services.web.deploy.restart_policy.")


def test_a_spec_is_no_compose_file() -> None:
    with pytest.raises(SpecProblems) as raised:
        compose(SPEC.partition("---")[0])
    assert [one.code for one in raised.value.problems] == ["not-compose"]
