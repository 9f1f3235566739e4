"""Base images by name: which packages make them, and what has to be arranged for want of their scripts.

A recipe's `arrange` gets the filled tree before it is packed. Whatever it does must follow from the tree alone,
so that the same packages give the same image.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile

from specrun.errors import SpecrunError
from specrun.store import debian

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Recipe:
    """How one base image is made: of `packages()`, then `arrange`d, with the configuration `config`."""

    __slots__ = ("arrange", "bootstrap", "config", "packages")

    def __init__(
        self,
        packages: Callable[[], list[str]],
        config: dict[str, Any],
        arrange: Callable[[str], None] | None = None,
        *,
        bootstrap: bool = False,
    ) -> None:
        self.packages = packages
        self.config = config
        self.arrange = arrange
        self.bootstrap = bootstrap
        """Installed with its scripts, by mmdebstrap: an image that apt works in."""


def find(name: str) -> Recipe | None:
    """The recipe for a repository's familiar name, for example `python`; None where there is none."""
    return _RECIPES.get(name)


def names() -> list[str]:
    """What there are recipes for."""
    return sorted(_RECIPES)


def _python_packages() -> list[str]:
    """The newest Python of the release, whose packages carry its number."""
    version = next(
        (name for name in debian.dependencies("python3") if name.startswith("python3.") and name[8:].isdigit()), ""
    )
    if not version:
        raise SpecrunError("apt knows no python3.N that python3 depends on", hint="`apt-get update` may help")
    return [
        "busybox", "ca-certificates", "media-types", "netbase", "python3-pip-whl",
        version, f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib",
    ]  # fmt: skip


def _arrange_python(tree: str) -> None:
    """`python` and `pip` on the PATH, as python:3 has them; packages may be installed for the whole system."""
    version = next(name for name in sorted(os.listdir(f"{tree}/usr/bin")) if name.startswith("python3."))
    local = f"{tree}/usr/local/bin"
    os.makedirs(local, exist_ok=True)
    for link in ("python", "python3"):
        os.symlink(f"/usr/bin/{version}", f"{local}/{link}")
    if not os.path.lexists(f"{tree}/usr/bin/python3"):
        os.symlink(version, f"{tree}/usr/bin/python3")
    marker = f"{tree}/usr/lib/{version}/EXTERNALLY-MANAGED"
    if os.path.exists(marker):
        os.unlink(marker)
    wheels = f"{tree}/usr/share/python-wheels"
    packages = f"{tree}/usr/local/lib/{version}/dist-packages"
    os.makedirs(packages, exist_ok=True)
    for name in sorted(os.listdir(wheels)):
        if name.startswith("pip-"):
            with zipfile.ZipFile(f"{wheels}/{name}") as wheel:  # from a package that apt has verified
                wheel.extractall(packages)
    shutil.rmtree(wheels)
    for name in ("pip", "pip3", version.replace("python", "pip")):
        _script(
            f"{local}/{name}",
            f"#!/usr/bin/{version}\nimport sys\n\nfrom pip._internal.cli.main import main\n\nsys.exit(main())\n",
        )
    _bundle_certificates(tree)


def _bundle_certificates(tree: str) -> None:
    """What the scripts of ca-certificates would make: one file of all."""
    folder = f"{tree}/usr/share/ca-certificates/mozilla"
    os.makedirs(f"{tree}/etc/ssl/certs", exist_ok=True)
    with open(f"{tree}/etc/ssl/certs/ca-certificates.crt", "wb") as bundle:
        for name in sorted(os.listdir(folder)):
            with open(f"{folder}/{name}", "rb") as file:
                bundle.write(file.read().rstrip(b"\n") + b"\n")


_REGISTRY_CONFIG = """version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""
_REGISTRY_ENTRY = """#!/bin/sh
# A configuration alone is served; verbs of the registry are given to it; anything else is run as it is.
set -e
case "$1" in
    *.yml | *.yaml) exec registry serve "$@" ;;
    serve | garbage-collect | help | -*) exec registry "$@" ;;
    *) exec "$@" ;;
esac
"""


def _arrange_registry(tree: str) -> None:
    """The program, its entry and a configuration without passwords where registry:2 has them."""
    os.rename(f"{tree}/usr/bin/docker-registry", f"{tree}/bin/registry")
    for folder in ("etc/docker/registry", "var/lib/registry"):
        os.makedirs(f"{tree}/{folder}", exist_ok=True)
    with open(f"{tree}/etc/docker/registry/config.yml", "w", encoding="ascii") as file:
        file.write(_REGISTRY_CONFIG)
    _script(f"{tree}/entrypoint.sh", _REGISTRY_ENTRY)


def _script(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o755)


_APT = {
    "etc/apt/apt.conf.d/docker-clean": 'APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb'
    ' /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };\n'
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb'
    ' /var/cache/apt/*.bin || true"; };\n'
    'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n',
    "etc/apt/apt.conf.d/docker-gzip-indexes": 'Acquire::GzipIndexes "true";\n',
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "usr/sbin/policy-rc.d": "#!/bin/sh\n# Without a service manager installing a package starts nothing.\nexit 101\n",
}


def _arrange_debian(tree: str) -> None:
    """What keeps apt's steps small in a container, and nothing of the machine that this was made on."""
    for name, text in _APT.items():
        with open(f"{tree}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    os.chmod(f"{tree}/usr/sbin/policy-rc.d", 0o755)
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/log"):
        _empty(f"{tree}/{folder}")
    os.makedirs(f"{tree}/var/lib/apt/lists/partial", exist_ok=True)
    os.makedirs(f"{tree}/var/cache/apt/archives/partial", exist_ok=True)
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id"):
        if os.path.lexists(f"{tree}/{name}"):
            os.unlink(f"{tree}/{name}")


def _empty(folder: str) -> None:
    """Remove all files below, and keep the folders."""
    for path, _, files in os.walk(folder):
        for name in files:
            if not stat.S_ISDIR(os.lstat(f"{path}/{name}").st_mode):
                os.unlink(f"{path}/{name}")


_RECIPES = {
    "busybox": Recipe(lambda: ["busybox"], {"Cmd": ["sh"], "Env": [PATH]}),
    "python": Recipe(_python_packages, {"Cmd": ["python3"], "Env": [PATH, "LANG=C.UTF-8"]}, _arrange_python),
    "registry": Recipe(
        lambda: ["busybox", "docker-registry"],
        {
            "Cmd": ["/etc/docker/registry/config.yml"],
            "Entrypoint": ["/entrypoint.sh"],
            "Env": [PATH],
            "ExposedPorts": {"5000/tcp": {}},
            "Volumes": {"/var/lib/registry": {}},
        },
        _arrange_registry,
    ),
    "debian": Recipe(list, {"Cmd": ["bash"], "Env": [PATH]}, _arrange_debian, bootstrap=True),
}
