"""What a project has been: the specs of every apply that changed something, so that one can be gone back to.

    projects/<name>.revisions/<number>.json

The content of secrets is not in it: it stays where the state folder keeps contents, by digest.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from specrun.errors import Damaged, NotFound
from specrun.files import remove_tree, write_atomic
from specrun.paths import Root
from specrun.reconcile.kinds.files import stored
from specrun.reconcile.project import Project
from specrun.spec.loader import Specs, from_values

KEPT = 20


def record(root: Root, project: Project, specs: Specs, changes: int) -> int:
    """Keep these specs as the newest revision; gives its number."""
    project.revision += 1
    documents = []
    for key, resource in specs.resources.items():
        spec = resource.spec.model_dump(mode="json", exclude_unset=True)
        if resource.kind in ("Secret", "Config") and key in project.entries:
            digest = project.entries[key].inputs.get("content", "")
            spec = {"file": stored(root, project.name, resource.kind, resource.metadata.name, digest)}
        documents.append(
            {
                "apiVersion": "specrun/v1",
                "kind": resource.kind,
                "metadata": resource.metadata.model_dump(mode="json", exclude_unset=True),
                "spec": _absolute(resource.folder, spec),
            }
        )
    document = {"number": project.revision, "at": time.time(), "changes": changes, "documents": documents}
    folder = _folder(root, project.name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    write_atomic(f"{folder}/{project.revision}.json", json.dumps(document).encode())
    for number in _numbers(root, project.name)[:-KEPT]:
        os.unlink(f"{folder}/{number}.json")
    return project.revision


def _absolute(folder: str, value: Any) -> Any:
    """Paths beside the spec as absolute ones: a revision stands beside nothing."""
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for name in ("load", "importFrom", "context"):
        if isinstance(found.get(name), str):
            found[name] = os.path.normpath(os.path.join(folder, found[name]))
    if "envFiles" in found:
        found["envFiles"] = [os.path.normpath(os.path.join(folder, name)) for name in found["envFiles"]]
    found["volumes"] = [_bound(folder, one) for one in found.get("volumes", [])]
    return {name: one for name, one in found.items() if name != "volumes" or one}


def _bound(folder: str, mount: dict[str, Any]) -> dict[str, Any]:
    if mount.get("type") != "bind":
        return mount
    return {**mount, "source": os.path.normpath(os.path.join(folder, os.path.expanduser(mount["source"])))}


def listed(root: Root | None, project: str) -> list[dict[str, Any]]:
    """All revisions that are kept, the newest first."""
    if root is None:
        return []
    return [_load(root, project, number) for number in reversed(_numbers(root, project))]


def specs_of(root: Root, project: Project, number: int | None) -> tuple[int, Specs]:
    """The specs of a revision, or of the one before the newest. Raises NotFound."""
    known = _numbers(root, project.name)
    wanted = number if number is not None else next((one for one in reversed(known) if one < project.revision), 0)
    if wanted not in known:
        which = f"revision {number}" if number is not None else "earlier revision"
        kept = f"revisions {known[0]} to {known[-1]} are kept" if known else "nothing was applied yet"
        if len(known) == 1:
            kept = f"revision {known[0]} is the only one"
        raise NotFound(f"project {project.name} has no {which}", hint=kept)
    document = _load(root, project.name, wanted)
    return wanted, from_values(document["documents"], f"<revision {wanted}>", project.name)


def forget(root: Root, project: str) -> None:
    """Remove all revisions."""
    if os.path.isdir(folder := _folder(root, project)):
        remove_tree(folder)


def _folder(root: Root, project: str) -> str:
    return f"{root.projects}/{project}.revisions"


def _numbers(root: Root, project: str) -> list[int]:
    try:
        names = os.listdir(_folder(root, project))
    except FileNotFoundError:
        return []
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def _load(root: Root, project: str, number: int) -> dict[str, Any]:
    path = f"{_folder(root, project)}/{number}.json"
    try:
        with open(path, "rb") as file:
            document: dict[str, Any] = json.load(file)
    except ValueError as error:
        raise Damaged(f"revision {number} of project {project} is damaged: {path}") from error
    return document
