"""What a repository has: its tags, and what refers to a manifest (distribution specification, referrers).

A registry without the referrers API has them in an index under a tag made of the digest, which its clients keep.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from specrun.errors import SpecrunError
from specrun.registry.client import Client, RegistryError
from specrun.registry.headers import address, next_page
from specrun.registry.protocol import MAX_MANIFEST, OCI_INDEX, InvalidDocument, Manifest, is_digest, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.oci.reference import Reference

MOST_PAGES = 1000
MAX_PAGE = 8 << 20
"""Bytes of one page of a listing."""


def tags(reference: Reference, *, limit: int = 0, verify: bool = True) -> list[str]:
    """The tags of a repository, as the registry orders them; at most `limit`, if it is not 0. Raises RegistryError."""
    client = Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull"
    # What is wanted may be less than a page, and what a registry makes of a large page is its own business.
    first = f"/v2/{reference.path}/tags/list" + (f"?n={min(limit, 1000)}" if limit else "")
    found: list[str] = []
    try:
        for page in _pages(client, first, scope):
            listed = page.get("tags") or []
            if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
                raise InvalidDocument(f"{client.host}: the list of tags is none")
            found += listed
            if limit and len(found) >= limit:
                return found[:limit]
    except RegistryError as error:
        if error.status == 404:
            message = f"{reference.familiar_name}: repository name not known to registry"
            raise RegistryError(message, status=404, hint="is the name right?") from error
        raise
    return found


def referrers(reference: Reference, digest: str, *, kind: str = "", verify: bool = True) -> list[dict[str, Any]]:
    """Descriptors of what refers to the manifest `digest`; with `kind`, only of that artifactType."""
    client = Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull"
    query = f"?artifactType={quote(kind, safe='')}" if kind else ""
    found: list[dict[str, Any]] = []
    try:
        for page in _pages(client, f"/v2/{reference.path}/referrers/{digest}{query}", scope):
            found += _descriptors(page)
    except RegistryError as error:
        if error.status not in (404, 400, 405):
            raise
        found = _descriptors(_tagged(client, reference.path, scope, digest))
    return [one for one in found if not kind or one.get("artifactType") == kind]


def announce(client: Client, path: str, scope: str, manifest: Manifest, digest: str) -> None:
    """Enter a manifest into the index of its subject's referrers, where the registry keeps none itself."""
    if manifest.subject is None:
        return
    index = _tagged(client, path, scope, manifest.subject.digest)
    known = _descriptors(index)
    if any(one.get("digest") == digest for one in known):
        return
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*known, manifest.descriptor(digest)]}
    raw = json.dumps({**index, **document}).encode()
    client.request(
        "PUT", f"/v2/{path}/manifests/{fallback_tag(manifest.subject.digest)}", scope=scope,
        headers={"Content-Type": OCI_INDEX}, body=lambda: raw, expected=(201, 202),
    )  # fmt: skip


def fallback_tag(digest: str) -> str:
    """The tag of the index of a manifest's referrers."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm[:32]}-{digits[:64]}"


def _tagged(client: Client, path: str, scope: str, digest: str) -> dict[str, Any]:
    try:
        raw, answer = client.document(
            f"/v2/{path}/manifests/{fallback_tag(digest)}", scope=scope, most=MAX_MANIFEST,
            headers={"Accept": OCI_INDEX},
        )  # fmt: skip
    except RegistryError as error:
        if error.status == 404:
            return {}
        raise
    if len(raw) > MAX_MANIFEST:
        raise InvalidDocument(f"{client.host}: the index of referrers is larger than {MAX_MANIFEST} bytes")
    return Manifest(raw, answer.headers.get("Content-Type", "")).document


def _descriptors(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("manifests") or []
    if not isinstance(found, list) or len(found) > 10_000:
        raise InvalidDocument("a list of referrers is none")
    return [one for one in found if isinstance(one, dict) and is_digest(str(one.get("digest")))]


def _pages(client: Client, path: str, scope: str) -> Any:
    """The documents of a listing, page by page; no page twice, and none of another host."""
    target, seen = path, set[str]()
    for _ in range(MOST_PAGES):
        raw, answer = client.document(target, scope=scope, most=MAX_PAGE)
        if len(raw) > MAX_PAGE:
            raise InvalidDocument(f"{client.host}: a page of a listing is larger than {MAX_PAGE} bytes")
        yield parse_json(raw)
        link = next_page(answer.headers.get("Link", ""))
        if not link:
            return
        target = address(client.url(target) if "://" not in target else target, link)
        if not target.startswith(client.url("/")):
            raise RegistryError(f"{client.host} has its next page elsewhere: {link[:200]!r}")
        if target in seen:
            raise RegistryError(f"{client.host} has the same page after itself: {link[:200]!r}")
        seen.add(target)
    raise SpecrunError(f"{client.host} has more than {MOST_PAGES} pages of them")
