"""The registry that a cache is of, as the cache asks it: content that has been proven, or that it is away."""

from __future__ import annotations

import hashlib
import json
import time
from urllib.parse import quote, urlsplit

from specrun.errors import SpecrunError, UsageError
from specrun.registry.client import Client, RegistryError
from specrun.registry.protocol import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    InvalidDocument,
    Manifest,
    ProtocolError,
    is_tag,
    parse_json,
)
from specrun.registry.traffic import Traffic
from specrun.registry.transport import TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from specrun.registry.transport import Answer

ACCEPTED = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST))
PAUSE = 10.0
"""Seconds for which an upstream that could not be reached is not asked again."""
_ATTEMPTS = 2
_MAX_LISTING = 8 << 20


class Away(Exception):
    """The upstream can't be asked now."""


class Upstream:
    """Blocking; used by several threads. Every method raises Away."""

    def __init__(self, address: str, *, verify: bool = True, login: tuple[str, str] | None = None) -> None:
        """`address` is https://HOST[:PORT], http://HOST[:PORT], or HOST as it stands in references.

        Without `login` the one is used that `specrun login` has kept. Raises UsageError.
        """
        parts = urlsplit(address if "://" in address else f"//{address}")
        if parts.scheme not in ("", "http", "https") or not parts.hostname or parts.path.rstrip("/") or parts.query:
            raise UsageError(f"{address}: expected the address of a registry, as https://registry.example.com")
        if parts.username is not None:
            raise UsageError("the address of a registry carries no password", hint="log in with specrun login")
        self.name = "docker.io" if parts.netloc in ("docker.io", "registry-1.docker.io") else parts.netloc
        self._client = Client(self.name, verify=verify, plain=parts.scheme == "http", attempts=_ATTEMPTS)
        if login:
            self._client.login(*login)
        self.traffic = Traffic()
        self._away_until = 0.0
        self._why = ""

    def digest(self, name: str, tag: str) -> str:
        """What a tag stands for now; "" where there is none, or where it does not say."""
        answer = self._ask("HEAD", name, f"manifests/{tag}", {"Accept": ACCEPTED})
        return answer.headers.get("Docker-Content-Digest", "") if answer else ""

    def manifest(self, name: str, reference: str) -> tuple[str, Manifest] | None:
        """Digest and manifest; None where there is none. Raises ProtocolError for what is none."""
        answer = self._ask("GET", name, f"manifests/{reference}", {"Accept": ACCEPTED}, stream=True)
        if answer is None:
            return None
        raw = self._read(answer, MAX_MANIFEST)
        algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        if ":" in reference and digest != reference:
            raise self._lied(f"the manifest that it sent is not {reference}")
        try:
            return digest, Manifest(raw, answer.headers.get("Content-Type", ""))
        except InvalidDocument as error:
            raise self._lied(error.message) from error

    def size(self, name: str, digest: str) -> int | None:
        """Bytes of a blob; None when the repository has it not."""
        answer = self._ask("HEAD", name, f"blobs/{digest}")
        return self._length(answer) if answer else None

    def blob(self, name: str, digest: str, first: int) -> tuple[Answer, int, int] | None:
        """The bytes of a blob, the place of their first, and the size of the whole; None when there is none.

        It may begin at 0 although it was asked for what begins at `first`.
        """
        headers = {"Range": f"bytes={first}-"} if first else {}
        answer = self._ask("GET", name, f"blobs/{digest}", headers, (200, 206), stream=True)
        if answer is None:
            return None
        begin = first if answer.status == 206 else 0
        return answer, begin, begin + self._length(answer)

    def tags(self, name: str, count: int, last: str) -> tuple[list[str], bool] | None:
        """So many tags after `last`, and whether there are more; None for no such repository."""
        query = f"?n={count}" + (f"&last={quote(last)}" if last else "")
        answer = self._ask("GET", name, f"tags/list{query}", stream=True)
        if answer is None:
            return None
        found = self._parsed(answer).get("tags") or []
        tags = [tag for tag in found if isinstance(tag, str) and is_tag(tag)] if isinstance(found, list) else []
        return tags[:count], "Link" in answer.headers or len(tags) > count

    def referrers(self, name: str, digest: str, kind: str) -> tuple[bytes, str] | None:
        """The index of the manifests with that subject, and which filters it has applied; None where it knows none."""
        query = f"?artifactType={quote(kind, safe='')}" if kind else ""
        answer = self._ask("GET", name, f"referrers/{digest}{query}", {"Accept": OCI_INDEX}, stream=True)
        if answer is None:
            return None
        return json.dumps(self._parsed(answer)).encode(), answer.headers.get("OCI-Filters-Applied", "")

    def _ask(
        self, method: str, name: str, path: str, headers: dict[str, str] | None = None,
        expected: Iterable[int] = (200,), *, stream: bool = False,
    ) -> Answer | None:  # fmt: skip
        """The answer; None for what is not there, or not to be seen by us."""
        if time.monotonic() < self._away_until:
            raise Away(self._why)
        try:
            return self._client.request(
                method, f"/v2/{name}/{path}", scope=f"repository:{name}:pull", headers=headers, expected=expected,
                stream=stream,
            )  # fmt: skip
        except SpecrunError as error:
            if isinstance(error, RegistryError) and error.status in (401, 403, 404):
                return None
            self._why, self._away_until = error.message, time.monotonic() + PAUSE
            raise Away(error.message) from error

    def _read(self, answer: Answer, most: int) -> bytes:
        try:
            with answer:
                raw = answer.read(most + 1)
                self.traffic.receive(len(raw))
        except (TransportError, OSError) as error:
            raise Away(f"{self.name} broke off: {error}") from error
        if len(raw) > most:
            raise self._lied(f"more than {most} bytes")
        return raw

    def _parsed(self, answer: Answer) -> dict[str, object]:
        try:
            return parse_json(self._read(answer, _MAX_LISTING))
        except InvalidDocument as error:
            raise self._lied(error.message) from error

    def _length(self, answer: Answer) -> int:
        text = answer.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()):
            raise self._lied("it does not say how large a blob is")
        return int(text)

    def _lied(self, what: str) -> ProtocolError:
        return ProtocolError("UNAVAILABLE", f"{self.name}: {what}", status=502)
