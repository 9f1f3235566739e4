"""Dockerfiles that several builders build, their context, and what is compared of the images."""

from __future__ import annotations

import hashlib
import os
import tarfile  # noqa: TID251 (the archives are of engines that the tests have started)
from pathlib import Path
from typing import Any

B = "FROM busybox\n"
CASES = {
    "scratch": "FROM scratch\nADD one /one\n",
    "copy-file": B + "COPY one /\n",
    "copy-rename": B + "COPY one /two\n",
    "copy-into-new-folder": B + "COPY one /a/b/c/\n",
    "copy-to-new-path": B + "COPY one /a/b/c\n",
    "copy-many": B + "COPY one script.sh /many/\n",
    "copy-json-form": B + 'COPY ["with space", "/x y/"]\n',
    "copy-wildcard": B + "COPY *.sh o?e /w/\n",
    "copy-class": B + "COPY [o-s]* /w/\n",
    "copy-folder": B + "COPY d /d\n",
    "copy-folder-slash": B + "COPY d/ /d/\n",
    "copy-folders-merge": B + "COPY d e /d/\n",
    "copy-over": B + "COPY d /d\nCOPY e /d\n",
    "copy-all": B + "COPY . /all\n",
    "copy-inner-links": B + "COPY links /links\n",
    "copy-through-link": B + "COPY links/file /l\n",
    "copy-modes": B + "COPY modes /modes\n",
    "copy-onto-folder": B + "RUN mkdir /one\nCOPY one /one\n",
    "copy-into-linked-folder": B + "RUN mkdir /real && ln -s /real /lnk\nCOPY one /lnk/\n",
    "copy-through-linked-file": B + "RUN ln -s /real-file /lf\nCOPY one /lf\n",
    "copy-absolute-link-above": B + "RUN ln -s /tmp /up\nCOPY one /up/x/y\n",
    "copy-relative-workdir": B + "WORKDIR /w\nCOPY one two/\n",
    "copy-dot": B + "WORKDIR /w/x\nCOPY one .\n",
    "copy-parent": B + "WORKDIR /w/x\nCOPY one ../\n",
    "copy-chown-numbers": B + "COPY --chown=12:34 d /d\n",
    "copy-chown-names": B + "COPY --chown=www-data:users one /a/b\n",
    "copy-chown-user-only": B + "COPY --chown=www-data one /a\n",
    "copy-chown-number-only": B + "COPY --chown=77 one /a\n",
    "add-file": B + "ADD one /add/\n",
    "add-tar": B + "ADD pack.tar /unpacked\n",
    "add-tar-gz": B + "ADD pack.tar.gz /unpacked/\n",
    "add-tar-bz2": B + "ADD pack.tar.bz2 /unpacked/\n",
    "add-tar-xz": B + "ADD pack.tar.xz /unpacked/\n",
    "add-tar-over": B + "COPY d /unpacked/t\nADD pack.tar /unpacked\n",
    "copy-tar-stays": B + "COPY pack.tar.gz /p/\n",
    "add-not-a-tar": B + "ADD false.tar.gz /f/\n",
    "run-makes": B + "RUN mkdir -p /a/b && echo x > /a/b/c && chmod 640 /a/b/c && chown 5:6 /a/b\n",
    "run-removes": B + "RUN rm -rf /home /etc/shadow\n",
    "run-replaces-folder": B + "RUN rm -rf /var && mkdir /var && touch /var/new\n",
    "run-file-for-folder": B + "RUN rm -rf /home && touch /home\n",
    "run-links": B + "RUN echo x > /x && ln /x /y && ln -s x /z && mkfifo /p\n",
    "run-moves": B + "RUN mkdir /m && touch /m/f && mv /m /n\nRUN mv /n /o\n",
    "run-changes-mode": B + "RUN chmod 700 /tmp && chown 3 /etc/passwd\n",
    "run-as-user": B + "RUN chmod 777 /mnt 2>/dev/null || mkdir -m 777 /mnt\nUSER www-data\nRUN touch /mnt/mine\n",
    "run-exec-form": B + 'RUN ["/bin/sh", "-c", "echo exec > /e"]\n',
    "run-environment": B + "ENV A=1 B='2 3'\nARG C=4\nRUN echo \"$A|$B|$C|$HOME|$PATH|$PWD\" > /env\n",
    "run-nothing": B + "RUN true\nRUN true\n",
    "run-devices": B + "RUN ls /dev | sort > /devices; id > /id; umask > /umask; grep Cap /proc/self/status > /caps\n",
    "workdir-made": B + "WORKDIR /made/here\nRUN pwd > f\nWORKDIR relative\n",
    "workdir-variable": B + "ENV D=/from/env\nWORKDIR $D/x\n",
    "workdir-through-link": B + "RUN ln -s /tmp /wl\nWORKDIR /wl/sub\n",
    "workdir-as-user": B + "USER www-data\nWORKDIR /owned/by\n",
    "env-forms": B + "ENV A one two  three\nENV B=x C=\"y z\" D='q' E=\\$A F=$A\nENV G=${X:-def} H=${A:+alt}\n",
    "env-overrides": B + "ENV PATH=/x:$PATH A=1\nENV A=2\n",
    "label-forms": B + "LABEL a=1 \"b c\"='d e' f=$PATH\nLABEL a=2\n",
    "arg-forms": B + "ARG A\nARG B=2\nENV X=$A Y=$B\nRUN echo $A$B > /args\n",
    "arg-before-from": "ARG TAG=latest\nFROM busybox:${TAG}\nARG TAG\nENV T=$TAG\n",
    "expose-volume": B + "EXPOSE 80 443/udp 8000-8002\nVOLUME /v1 /v2\nVOLUME [\"/v3\"]\n",
    "user-stopsignal": B + "USER 12:34\nSTOPSIGNAL 9\n",
    "cmd-shell": B + "CMD echo $HOME\n",
    "cmd-exec": B + 'CMD ["a", "b c"]\n',
    "entrypoint-resets-cmd": B + 'ENTRYPOINT ["x"]\n',
    "entrypoint-and-cmd": B + 'CMD ["c"]\nENTRYPOINT ["x", "y"]\n',
    "entrypoint-shell": B + "ENTRYPOINT exec top\n",
    "shell": B + 'SHELL ["/bin/sh", "-ec"]\nRUN echo $0 > /s\nCMD x\n',
    "healthcheck": B + "HEALTHCHECK --interval=1m30s --timeout=3s --retries=4 --start-period=2s CMD a | b\n",
    "healthcheck-exec": B + 'HEALTHCHECK CMD ["a", "b"]\n',
    "healthcheck-none": B + "HEALTHCHECK NONE\n",
    "onbuild": B + "ONBUILD RUN echo hi > /x\nONBUILD COPY one /y\n",
    "stages": "FROM busybox AS one\nRUN mkdir /o && echo x > /o/f && chown 7:8 /o/f && chmod 4711 /o/f\n"
    "FROM scratch\nCOPY --from=one /o /p\nCOPY --from=0 /o/f /q\n",
    "stage-from-stage": "FROM busybox AS a\nENV X=1\nRUN echo a > /a\nFROM a AS b\nRUN echo b > /b\n"
    "FROM b\nCOPY --from=a /a /c\n",
    "from-image": B + "COPY --from=busybox /etc/passwd /p\n",
    "from-chown": "FROM busybox AS a\nRUN touch /f\nFROM busybox\nCOPY --from=a --chown=1:2 /f /f\n",
    "escape-directive": "# escape=`\nFROM busybox\nRUN echo a `\n  b > /c\n",
    "continued-lines": B + "RUN echo a \\\n# remark\n  && echo b > /c\nENV A=1 \\\n    B=2\n",
    "case-of-keywords": "from busybox\nrun echo x > /x\ncmd [\"y\"]\n",
}  # fmt: skip
SKIPPED = ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv")
CONFIG = "Env Cmd Entrypoint WorkingDir User ExposedPorts Volumes Labels StopSignal Healthcheck OnBuild Shell".split()


def make_context(folder: Path) -> Path:
    """The context of all cases, in an empty folder; gives the folder."""
    for name, text in {"one": "1\n", "script.sh": "#!/bin/sh\n", "with space": "s", "d/x": "dx",
                       "d/sub/y": "dy", "e/x": "ex", "e/z": "ez", "false.tar.gz": "no archive",
                       "links/target": "t"}.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "script.sh").chmod(0o755)
    os.symlink("target", folder / "links/file")
    os.symlink("/etc/passwd", folder / "links/absolute")
    os.symlink("nowhere", folder / "links/dangling")
    os.link(folder / "links/target", folder / "links/hard")
    (folder / "modes").mkdir()
    for name, mode in {"program": 0o755, "private": 0o600, "none": 0o000, "execute": 0o711}.items():
        (folder / "modes" / name).write_text(name)
        (folder / "modes" / name).chmod(mode)
    (folder / "modes" / "folder").mkdir(mode=0o700)
    (folder / "modes" / "sticky").mkdir()
    (folder / "modes" / "sticky").chmod(0o1777)
    _pack(folder)
    return folder


def _pack(folder: Path) -> None:
    import io

    for suffix, kind in {"": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.items():
        with tarfile.open(folder / f"pack.tar{suffix}", kind) as archive:  # type: ignore[call-overload]
            for name, member_kind, mode in (("t", tarfile.DIRTYPE, 0o750), ("t/f", tarfile.REGTYPE, 0o640),
                                            ("t/l", tarfile.SYMTYPE, 0o777),
                                            ("t/h", tarfile.LNKTYPE, 0o640)):  # fmt: skip
                member = tarfile.TarInfo(name)
                member.type, member.mode, member.uid, member.gid = member_kind, mode, 11, 12
                member.linkname = {"t/l": "f", "t/h": "t/f"}.get(name, "")
                content = b"packed" if name == "t/f" else b""
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def config_of(config: dict[str, Any]) -> dict[str, Any]:
    """The fields that images have; "/" is what an empty folder means."""
    found = {key: config[key] for key in CONFIG if config.get(key)}
    if found.get("WorkingDir") == "/":
        del found["WorkingDir"]
    return found


def tree_of(archive: Path) -> dict[str, Any]:
    """Kind, mode, owner, content and attributes of every file, by name."""
    found: dict[str, Any] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            name = member.name.removeprefix("./").rstrip("/")
            if not name or any(name == skipped or name.startswith(f"{skipped}/") for skipped in SKIPPED):
                continue
            if member.islnk() and member.linkname.removeprefix("./") in found:
                found[name] = found[member.linkname.removeprefix("./")]
                continue
            content = ""
            if member.isreg():
                reader = opened.extractfile(member)
                content = hashlib.sha256(reader.read()).hexdigest() if reader else ""
            attributes = {key: text for key, text in member.pax_headers.items() if "xattr" in key}
            mode = 0o777 if member.issym() else member.mode & 0o7777
            link = member.linkname if member.issym() else ""
            found[name] = (member.type, oct(mode), member.uid, member.gid, content, link, attributes)
    return found
