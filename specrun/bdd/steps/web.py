"""Web servers, asked from within the scenario's network."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from specrun.bdd.sentences import expect, then
from specrun.bdd.world import World

_ASK = """
import json, sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(sys.argv[1], timeout=5) as answer:
        print(json.dumps([answer.status, answer.read(1 << 20).decode("utf-8", "replace"), ""]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read(1 << 20).decode("utf-8", "replace"), ""]))
except OSError as error:
    print(json.dumps([0, "", str(error)]))
"""


@then("{url} answers with {status:d}")
def _(world: World, url: str, status: int) -> None:
    found, _, problem = _ask(world, url)
    expect(found == status, f"{url}: expected the status {status}, found {problem or found}")


@then('{url} answers with a page that contains "{text}"')
def _(world: World, url: str, text: str) -> None:
    expect(text, "every page contains nothing: this claim can't fail")
    status, body, problem = _ask(world, url)
    expect(text in body, f"{url}: expected {text!r}, found {problem or status}\n{body[:2000]}")


@then("nothing answers at {url}")
def _(world: World, url: str) -> None:
    status, body, _ = _ask(world, url)
    expect(status == 0, f"{url} answers with {status}\n{body[:500]}")


def _ask(world: World, url: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*world.engine.prefix, sys.executable, "-I", "-c", _ASK, url], capture_output=True, text=True, check=True
    )
    answer: list[Any] = json.loads(done.stdout)
    world.evidence.append(
        {"line": f"GET {url}", "status": answer[0], "output": answer[1][:20_000], "errors": answer[2], "seconds": 0}
    )
    return int(answer[0]), str(answer[1]), str(answer[2])
