"""`specrun search-tags` and `registry referrers`: what a registry has of a repository, and what refers to an image."""

from __future__ import annotations

from specrun.cli.commands.pull import TLS_VERIFY, verified
from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "search-tags",
    "[OPTIONS] NAME",
    "List the tags of a repository in its registry.",
    [
        Option("-f --filter", "list", "Only tags like name=PATTERN (*, ? and [] as in a shell)", "filter"),
        Option("--format", "value", "table, json or a Go template"),
        Option("--limit", "number", "List no more than so many"),
        Option("-q --quiet", "flag", "Only show tags"),
        TLS_VERIFY,
    ],
    examples=["search-tags 127.0.0.1:5000/hello", "search-tags --filter 'name=3.*' --limit 10 python"],
)
REFERRERS = Command(
    "registry referrers",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "List what refers to an image in its registry: signatures, attestations.",
    [
        Option("--artifact-type", "value", "Only those of this type"),
        Option("--format", "value", "table, json or a Go template"),
        TLS_VERIFY,
    ],
    examples=["registry referrers 127.0.0.1:5000/hello:v7"],
)


def run(arguments: list[str], context: Context) -> int:
    """List the tags, as the registry orders them."""
    from fnmatch import fnmatchcase

    from specrun.cli import output
    from specrun.oci.reference import Reference
    from specrun.registry.listing import tags

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: expected 1 or more")
    patterns = [_pattern(text) for text in options.filter]
    reference = Reference.parse(options.arguments[0])
    if reference.text not in (reference.name, reference.familiar_name):
        raise UsageError(f"{reference.text}: expected a repository, without tag and digest")
    limit = options.limit or 0
    found = tags(reference, limit=0 if patterns else limit, verify=verified(options.tls_verify))
    found = [tag for tag in found if all(fnmatchcase(tag, pattern) for pattern in patterns)]
    found = found[:limit] if limit else found
    if options.quiet and not options.format:
        context.out("".join(f"{tag}\n" for tag in found))
        return 0
    rows = [{"Name": reference.familiar_name, "Tag": tag} for tag in found]
    context.out(output.listing(rows, [("NAME", "Name"), ("TAG", "Tag")], options.format))
    return 0


def _pattern(text: str) -> str:
    key, equals, pattern = text.partition("=")
    if key != "name" or not equals:
        raise UsageError(f"--filter {text}: expected name=PATTERN")
    return pattern


def referrers(arguments: list[str], context: Context) -> int:
    """List the descriptors."""
    from specrun.cli import output
    from specrun.oci.reference import Reference
    from specrun.registry.auth import RegistryError
    from specrun.registry.listing import referrers as listed
    from specrun.registry.pull import digest_of

    options = REFERRERS.parse(arguments)
    REFERRERS.require(options, 1, 1)
    verify = verified(options.tls_verify)
    reference = Reference.parse(options.arguments[0])
    digest = reference.digest or digest_of(reference, verify=verify)
    if not digest:
        raise RegistryError(f"manifest for {reference.familiar} not found: manifest unknown", status=404)
    rows = [
        {
            "Digest": one["digest"],
            "ArtifactType": str(one.get("artifactType") or ""),
            "Size": output.size(one["size"]) if isinstance(one.get("size"), int) else "",
        }
        for one in listed(reference, digest, kind=options.artifact_type, verify=verify)
    ]
    fields = [("DIGEST", "Digest"), ("ARTIFACT TYPE", "ArtifactType"), ("SIZE", "Size")]
    context.out(output.listing(rows, fields, options.format))
    return 0
