"""Images made on this machine from signed packages, where no hub can be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from specrun.errors import SpecrunError
from specrun.oci import digest as digests
from specrun.oci.reference import Reference
from specrun.store import debian, elf, recipes
from specrun.store.images import Image, ImageStore, architecture
from specrun.store.layers import Draft, keep_folder
from specrun.store.packing import Packer
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.paths import Root
    from specrun.store.recipes import Recipe

_LEFT_OUT = ("usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/initramfs-tools")
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "shadow": "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nsys:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
}


def fingerprint(packages: list[str], suite: str, config: dict[str, Any]) -> str:
    """What an assembled image answers to: equal requests have equal fingerprints."""
    request = {"packages": sorted(packages), "suite": suite, "config": config, "recipe": 2}
    return digests.of(jsontext.dumps(request, compact=True, sort_keys=True).encode())


def assemble_image(
    root: Root, packages: list[str], *, tags: list[str], suite: str = "", config: dict[str, Any] | None = None
) -> Image:
    """Assemble an image from the host's packages and let `tags` stand for it.

    `config` is the `config` object of the OCI image configuration. The image holds the files of `packages` and
    of their dependencies only the shared libraries that are needed. The same package versions give the same
    digests. Raises SpecrunError.
    """
    _require_suite(suite)
    settings = {"Cmd": ["sh"], "Env": [recipes.PATH], **(config or {})}
    mark = fingerprint(packages, suite, config or {})
    return _assemble(root, packages, None, settings, tags, mark)


def known_fingerprint(name: str, suite: str, config: dict[str, Any]) -> str:
    """What an image made by the recipe `name` answers to: a mere list of packages is as if they were asked for."""
    recipe = recipes.find(name)
    plain = recipe is not None and recipe.arrange is None
    return fingerprint(recipe.packages() if recipe and plain else [f"recipe {name}"], suite, config)


def assemble_known(
    root: Root, name: str, *, tags: list[str], suite: str = "", config: dict[str, Any] | None = None
) -> Image:
    """Assemble the base image `name` (a familiar repository name, for example `python`) by its recipe.

    What `config` has stands in the place of the recipe's. Raises SpecrunError, also when there is no such recipe.
    """
    _require_suite(suite)
    recipe = recipes.find(name)
    if recipe is None:
        raise SpecrunError(
            f"which packages make {name}?",
            hint=f"name them with --packages; known are {', '.join(recipes.names())}",
        )
    settings = {**recipe.config, **(config or {})}
    mark = known_fingerprint(name, suite, config or {})
    if recipe.bootstrap:
        return _bootstrap(root, recipe, settings, tags, mark)
    return _assemble(root, recipe.packages(), recipe, settings, tags, mark)


def _require_suite(suite: str) -> None:
    here = debian.suite()
    if suite and suite != here:
        raise SpecrunError(f"packages of {suite} were asked for, and this host's apt is for {here}")


def _assemble(
    root: Root, packages: list[str], recipe: Recipe | None, config: dict[str, Any], tags: list[str], mark: str
) -> Image:
    references = [Reference.parse(tag) for tag in tags]
    store = ImageStore(root)
    with store.adding(), Draft(root, "assembly") as draft, Draft(root, "packages") as work:
        used, newest = _fill(draft.fs, packages, f"{root.path}/cache/debs", work.fs)
        if recipe and recipe.arrange:
            recipe.arrange(draft.fs)
        origin = " ".join(f"{package.name}={package.version}" for package in used)
        return _keep(store, draft, newest, origin, config, references, mark)


def _bootstrap(root: Root, recipe: Recipe, config: dict[str, Any], tags: list[str], mark: str) -> Image:
    references = [Reference.parse(tag) for tag in tags]
    store = ImageStore(root)
    with store.adding(), Draft(root, "bootstrap") as draft:
        suite = debian.suite()
        newest = debian.release_time()
        debian.bootstrap(suite, draft.fs, newest)
        if recipe.arrange:
            recipe.arrange(draft.fs)
        return _keep(store, draft, newest, f"{suite} minbase", config, references, mark)


def _keep(
    store: ImageStore, draft: Draft, newest: int, origin: str, config: dict[str, Any], references: list[Reference],
    mark: str,
) -> Image:  # fmt: skip
    """Make the draft the one layer of an image. What was made here, and not by a package, gets the time `newest`."""
    packer = Packer(draft.fs, epoch=newest, settle=True)
    layer = keep_folder(store.root, store.blobs, draft, packer)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(newest))
    document = {
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "created_by": f"specrun image assemble {origin}"}],
    }
    return store.add([layer], document, references, assembled=mark)


def _fill(tree: str, names: list[str], cache: str, work: str) -> tuple[list[debian.Package], int]:
    """Lay out the root file system; gives the packages used and the time of their newest file (seconds)."""
    packages = debian.fetch(names, cache)
    for package in packages:
        debian.extract(package, tree)
    newest = max((int(os.lstat(path).st_mtime) for path in _files(tree)), default=0)
    _prune(tree)
    used = [*packages, *_add_libraries(tree, names, cache, work)]
    _add_skeleton(tree)
    if os.path.exists(f"{tree}/bin/busybox"):
        _add_applets(tree)
    return used, newest


def _prune(tree: str) -> None:
    for path in _LEFT_OUT:
        shutil.rmtree(f"{tree}/{path}", ignore_errors=True)
    documents = f"{tree}/usr/share/doc"
    for folder in os.listdir(documents) if os.path.isdir(documents) else []:
        for name in os.listdir(f"{documents}/{folder}"):
            path = f"{documents}/{folder}/{name}"
            if name != "copyright" and os.path.isfile(path):
                os.unlink(path)


def _add_libraries(tree: str, names: list[str], cache: str, work: str) -> list[debian.Package]:
    """Copy the shared libraries that the tree's programs need, from the packages that they depend on.

    Level by level: what the packages depend on, what those depend on, until nothing is missing.
    """
    used: list[debian.Package] = []
    asked, level = set(names), list(names)
    needs = _Needs(tree)
    while needs.missing():
        level = sorted(set(debian.dependencies(*level)) - asked)
        if not level:
            raise SpecrunError(f"no dependency of {', '.join(names)} has {', '.join(sorted(needs.missing()))}")
        asked.update(level)
        for package in debian.fetch([name for name in level if _may_have_libraries(name)], cache):
            folder = f"{work}/{package.name}"
            os.mkdir(folder)
            debian.extract(package, folder)
            if needs.take_from(folder):
                used.append(package)
    return used


def _may_have_libraries(package: str) -> bool:
    """By Debian's rule (policy, 8.1) the package of a library is called by its name: lib..., or as zlib1g."""
    return "lib" in package


class _Needs:
    """What the programs in a tree need of others, by interpreter (a path) and library (a name)."""

    def __init__(self, tree: str) -> None:
        self._tree = tree
        self._present: set[str] = set()
        self._wanted: set[str] = set()
        for path in _files(tree):
            self._look(path)

    def _look(self, path: str) -> None:
        self._present.add(os.path.basename(path))
        if not os.path.islink(path) and os.path.isfile(path):
            interpreter, libraries = elf.needs(path)
            self._wanted.update(libraries)
            if interpreter:
                self._wanted.add(interpreter)

    def missing(self) -> set[str]:
        """What is needed and not there."""
        return {
            name
            for name in self._wanted
            if not (os.path.lexists(self._tree + name) if name.startswith("/") else name in self._present)
        }

    def take_from(self, folder: str) -> bool:
        """Copy what is missing from an unpacked package, and what that needs in turn; whether it had any."""
        by_name: dict[str, list[str]] = {}
        for path in _files(folder):
            by_name.setdefault(os.path.basename(path), []).append(path)
        taken = False
        while found := [path for name in sorted(self.missing()) for path in by_name.pop(os.path.basename(name), [])]:
            taken = True
            for path in found:
                self._copy(path, folder, by_name)
        return taken

    def _copy(self, path: str, folder: str, by_name: dict[str, list[str]]) -> None:
        """One library, with the file that a link of that name points to."""
        target = f"{self._tree}/{os.path.relpath(path, folder)}"
        if os.path.lexists(target):
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        self._look(target)
        if os.path.islink(path):
            for other in by_name.get(os.path.basename(os.readlink(path)), []):
                self._copy(other, folder, by_name)


def _add_skeleton(tree: str) -> None:
    for folder, mode in (
        ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o555), ("root", 0o700), ("sys", 0o555),
        ("tmp", 0o1777), ("usr/bin", 0o755), ("usr/sbin", 0o755), ("var/tmp", 0o1777), ("var/www", 0o755),
    ):  # fmt: skip
        os.makedirs(f"{tree}/{folder}", exist_ok=True)
        os.chmod(f"{tree}/{folder}", mode)
    for name, text in _ETC.items():
        path = f"{tree}/etc/{name}"
        if not os.path.lexists(path):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(path, 0o640 if name == "shadow" else 0o644)


def _add_applets(tree: str) -> None:
    """A link for each command that the busybox has, as its own image has them."""
    # The host runs the program: it is the one that apt has verified, with this host's C library.
    listing = subprocess.run([f"{tree}/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listing.stdout.split():
        if not os.path.lexists(f"{tree}/bin/{applet}"):
            os.symlink("busybox", f"{tree}/bin/{applet}")
    if not os.path.lexists(f"{tree}/usr/bin/env"):
        os.symlink("../../bin/env", f"{tree}/usr/bin/env")


def _files(tree: str) -> list[str]:
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names)
