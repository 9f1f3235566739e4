"""Platforms as people write them: os/architecture[/variant], or one of the two, by any of their usual names.

The names are those of the image specification ("Image Index", `platform`), which are Go's.
"""

from __future__ import annotations

import os

from specrun.errors import UsageError

_ALIASES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "i386": ("386", ""),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
}  # fmt: skip
_SYSTEMS = frozenset("linux windows darwin freebsd netbsd openbsd solaris plan9 wasip1".split())
_ARCHITECTURES = frozenset("386 amd64 arm arm64 loong64 mips64 mips64le ppc64 ppc64le riscv64 s390x wasm".split())
_DEFAULT_VARIANTS = {"arm64": ("v8", "8"), "amd64": ("v1",)}


def host() -> str:
    """This machine's."""
    machine = os.uname().machine
    return f"linux/{_ALIASES.get(machine, (machine, ''))[0]}"


def parse(text: str) -> str:
    """The platform's full name. Raises UsageError for what is none."""
    words = text.lower().split("/")
    if not all(words) or len(words) > 3:
        raise _unknown(text)
    if len(words) == 1:
        if words[0] in _SYSTEMS:
            words.append(host().partition("/")[2])
        elif words[0] in _ARCHITECTURES or words[0] in _ALIASES:
            words.insert(0, "linux")
        else:
            raise _unknown(text)
    system, (architecture, variant) = words[0], _ALIASES.get(words[1], (words[1], ""))
    variant = words[2] if len(words) > 2 else variant
    if variant in _DEFAULT_VARIANTS.get(architecture, ()):
        variant = ""
    return "/".join(part for part in (system, architecture, variant) if part)


def _unknown(text: str) -> UsageError:
    return UsageError(f"--platform {text}: no such platform", hint="expected OS/ARCHITECTURE[/VARIANT], as linux/amd64")
