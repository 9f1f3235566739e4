"""Images from containers (`commit`) and from archives (`import`)."""

from __future__ import annotations

import os
import time

from specrun.engine.existing import Existing
from specrun.errors import NotFound, SpecrunError
from specrun.files import locked
from specrun.store.compression import decompress
from specrun.store.layers import store_archive, unpack_layer
from specrun_runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from specrun.engine.container import Container
    from specrun.engine.containers import Engine
    from specrun.oci.reference import Reference
    from specrun.paths import Root
    from specrun.store.images import Image

_KEPT = "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal Healthcheck OnBuild Shell".split()
"""Keys of a container's configuration that an image keeps (image specification, config.md)."""
_FROZEN = "frozen."
"""Lock files with this beginning name containers that a commit has frozen."""


def commit(
    engine: Engine, container: Container, references: list[Reference], *, author: str = "", message: str = "",
    changes: list[str] | None = None, pause: bool = True,
) -> Image:  # fmt: skip
    """An image of the container as it is: its image's layers and one of what it has changed."""
    from specrun.engine.rootfs import layers_of
    from specrun.store.packing import Packer

    base = engine.images.resolve(container.image_id)
    config: dict[str, Any] = {key: container.config[key] for key in _KEPT if container.config.get(key)}
    apply_changes(config, changes or [])
    created = _now()
    packer = Packer(f"{container.directory}/upper", lower=layers_of(engine, container))
    entry = {
        "created": created,
        "created_by": " ".join([container.path, *container.args]),
        "author": author,
        "comment": message,
    }
    with engine.images.adding():
        with engine.changing(container), _Frozen(engine.root, container, pause):
            layer = store_archive(engine.images.blobs, packer)
        layer.content_size = packer.content_size
        image = engine.images.derive(
            base, [layer], config=config, history=[entry], created=created, author=author, comment=message,
            references=references,
        )  # fmt: skip
    engine.tell(container, "commit", comment=message, imageID=image.id, imageRef=_name(references))
    return image


def import_archive(
    engine: Engine, chunks: Iterable[bytes], references: list[Reference], *, message: str, changes: list[str],
    platform: dict[str, str], config: dict[str, Any] | None = None,
) -> Image:  # fmt: skip
    """An image with one layer: an archive of files, plain or compressed. Raises BadArchive."""
    from specrun import events

    config = dict(config or {})
    apply_changes(config, changes)
    with engine.images.adding():
        layer = store_archive(engine.images.blobs, decompress(chunks))
        layer.content_size = unpack_layer(engine.root, engine.images.blobs, layer.digest, layer.diff_id)
        created = _now()
        document: dict[str, Any] = {
            "created": created,
            "comment": message,
            **platform,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": created, "comment": message}],
        }
        image = engine.images.add([layer], document, references)
    events.emit(engine.root, "image", "import", image.id, {"name": _name(references) or image.id})
    return image


def apply_changes(config: dict[str, Any], changes: list[str]) -> None:
    """Do to `config` what each of `changes`, an instruction of a Dockerfile, says. Raises SpecrunError."""
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        rest = rest.strip()
        name = word.upper()
        if name not in _CHANGES:
            raise SpecrunError(
                f"{word.lower()} is not a valid change command", hint=f"expected one of {', '.join(sorted(_CHANGES))}"
            )
        if not rest:
            raise SpecrunError(f"{name} requires at least one argument")
        _CHANGES[name](config, rest)


def thaw_abandoned(root: Root) -> None:
    """Thaw the containers that a commit had frozen when it was killed."""
    for entry in os.listdir(root.lock("")):
        if not entry.startswith(_FROZEN):
            continue
        try:
            with locked(root.lock(entry), wait=False):
                _thaw(root, entry.removeprefix(_FROZEN))
                os.unlink(root.lock(entry))
        except BlockingIOError:
            continue  # its commit is at it


def _thaw(root: Root, identity: str) -> None:
    try:
        Existing(root).get(identity).cgroup.thaw()
    except (OSError, NotFound):
        pass  # it has ended


class _Frozen:
    """The container stands still; what says so is written first, for the next command to find if this one is killed."""

    def __init__(self, root: Root, container: Container, wanted: bool) -> None:
        self._root = root
        self._id = container.id
        running = state.load(container.directory).status == state.RUNNING
        self._group = container.cgroup if wanted and running else None
        self._lock = locked(root.lock(_FROZEN + container.id))

    def __enter__(self) -> None:
        if self._group is None or self._group.is_frozen():
            self._group = None  # paused by somebody, who wants it to stay so
            return
        self._lock.__enter__()
        self._group.freeze()

    def __exit__(self, *_: object) -> None:
        if self._group is not None:
            _thaw(self._root, self._id)
            os.unlink(self._root.lock(_FROZEN + self._id))
            self._lock.__exit__()


def _now() -> str:
    moment = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 1_000_000_000))
    return f"{whole}.{moment % 1_000_000_000:09d}Z"


def _name(references: list[Reference]) -> str:
    return references[0].familiar if references else ""


def _command(text: str) -> list[str]:
    """The JSON form, or the shell form."""
    if text.startswith("["):
        from specrun_runtime import jsontext

        try:
            words = jsontext.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return ["/bin/sh", "-c", text]


def _pairs(text: str) -> list[tuple[str, str]]:
    """`key=value ...` with quotes as in a shell, or the old `key value`."""
    import shlex

    if "=" not in text.split(None, 1)[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise SpecrunError(f"Syntax error - can't find = in {text!r}. Must be of the form: name=value")
        return [(key, value.strip())]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SpecrunError(f"Syntax error in {text!r}: {error}") from error
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def _environment(config: dict[str, Any], text: str) -> None:
    entries = {entry.partition("=")[0]: entry for entry in config.get("Env") or []}
    entries.update({key: f"{key}={value}" for key, value in _pairs(text)})
    config["Env"] = list(entries.values())


def _labels(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _ports(config: dict[str, Any], text: str) -> None:
    ports: dict[str, Any] = {word if "/" in word else f"{word}/tcp": {} for word in text.split()}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volumes(config: dict[str, Any], text: str) -> None:
    words = _command(text) if text.startswith("[") else text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{word: {} for word in words}}


def _workdir(config: dict[str, Any], text: str) -> None:
    config["WorkingDir"] = os.path.normpath(os.path.join(config.get("WorkingDir") or "/", text))


def _onbuild(config: dict[str, Any], text: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _healthcheck(config: dict[str, Any], text: str) -> None:
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        config["Healthcheck"] = {"Test": ["NONE"]}
    elif kind.upper() == "CMD" and rest.strip():
        words = _command(rest.strip())
        config["Healthcheck"] = {"Test": ["CMD", *words] if rest.strip().startswith("[") else ["CMD-SHELL", rest]}
    else:
        raise SpecrunError(f'Unknown type "{kind}" in HEALTHCHECK (try CMD or NONE)')


_CHANGES = {
    "CMD": lambda config, text: config.update(Cmd=_command(text)),
    "ENTRYPOINT": lambda config, text: config.update(Entrypoint=_command(text)),
    "ENV": _environment,
    "EXPOSE": _ports,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _labels,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": lambda config, text: config.update(StopSignal=text),
    "USER": lambda config, text: config.update(User=text),
    "VOLUME": _volumes,
    "WORKDIR": _workdir,
}
