"""Who takes more than there is: space beyond the quota, connections that are never done, answers nobody reads."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.host import COMMAND
from tests.support.pusher import ask, digest_of, end_server, put_blob, start_server

IMPATIENT = """
import asyncio, sys
from specrun.registry.gate import Open
from specrun.registry.server import Policy, Registry
from specrun.registry.serving import Listener
from specrun.registry.storage import Storage

async def serve() -> None:
    listener = Listener(Registry(Storage(sys.argv[1]), Open(), Policy()), idle=float(sys.argv[2]))
    await listener.run("127.0.0.1", 0, lambda address: print(address, flush=True))

asyncio.run(serve())
"""
"""A server like that of the command, which waits for less than a minute."""


def used(storage: Path) -> int:
    """Bytes of content and of uploads."""
    return sum(
        path.stat().st_size for path in storage.rglob("*")
        if path.is_file() and ("blobs" in path.parts or "_uploads" in path.parts)
    )  # fmt: skip


def test_garbage_that_another_process_collects_makes_room(tmp_path: Path) -> None:
    server, port = start_server(tmp_path, 0, "--quota", "1m")
    first, second = os.urandom(700_000), os.urandom(700_000)
    assert put_blob(port, "a", first)[0] == 201
    status, answer = put_blob(port, "a", second)
    assert status == 403 and b"the quota of 1048576 bytes is used up" in answer
    subprocess.run([COMMAND, "registry", "gc", "--storage", tmp_path, "--grace", "0"], check=True, capture_output=True)
    assert put_blob(port, "a", second)[0] == 201
    assert put_blob(port, "a", first)[0] == 403
    end_server(server)


def test_uploads_that_are_never_finished_count(tmp_path: Path) -> None:
    server, port = start_server(tmp_path, 0, "--quota", "1m")

    def unfinished(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", f"/v2/r{number % 3}/blobs/uploads/")
            answer = connection.getresponse()
            answer.read()
            location = answer.getheader("Location") or ""
            connection.request("PATCH", location, iter([os.urandom(100_000)] * 5), encode_chunked=True, headers={
                "Transfer-Encoding": "chunked"
            })  # fmt: skip
            return connection.getresponse().status
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(unfinished, range(24)))
    assert set(statuses) == {202, 403} and statuses.count(202) <= 2
    assert used(tmp_path) <= 1 << 20
    assert ask(port, "GET", "/v2/")[0] == 200
    end_server(server)
    server, port = start_server(tmp_path, 0, "--quota", "1m")  # they count after a restart too
    assert put_blob(port, "a", os.urandom(600_000))[0] == 403
    gc = [COMMAND, "registry", "gc", "--storage", tmp_path, "--upload-age", "0"]
    subprocess.run(gc, check=True, capture_output=True)
    assert put_blob(port, "a", os.urandom(600_000))[0] == 201
    end_server(server)


def test_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    server, port = start_server(tmp_path, 0, "--quota", "1m")
    head = (
        f"POST /v2/a/blobs/uploads/?digest={digest_of(b'')} HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 403")
    assert used(tmp_path) == 0
    end_server(server)


def descriptors(process: subprocess.Popen[str]) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that waits for two seconds, and its port."""
    command = [sys.executable, "-c", IMPATIENT, str(tmp_path), "2"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, int(process.stdout.readline().rpartition(":")[2])
    end_server(process)


def closed(connections: list[socket.socket], seconds: float) -> int:
    """How many of them the server closes within so many seconds."""
    count, limit = 0, time.monotonic() + seconds
    for connection in connections:
        connection.settimeout(max(0.01, limit - time.monotonic()))
        try:
            while connection.recv(1 << 16):
                pass
            count += 1
        except ConnectionError:
            count += 1
        except TimeoutError:
            continue
    return count


def test_slow_clients_keep_nobody_out(impatient: tuple[subprocess.Popen[str], int]) -> None:
    server, port = impatient
    blob = os.urandom(1 << 20)
    assert put_blob(port, "a", blob)[0] == 201
    base = descriptors(server)
    heads = [
        b"G",
        b"GET /v2/ HTTP/1.1\r\nHost: ",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ]
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for index, connection in enumerate(slow):
        connection.sendall(heads[index % len(heads)])
    began = time.monotonic()
    for _ in range(5):
        assert ask(port, "GET", f"/v2/a/blobs/{digest_of(blob)}") == (200, blob)
        for connection in slow:  # a byte each: they are not silent
            try:
                connection.sendall(b"x")
            except ConnectionError:
                continue
    assert (time.monotonic() - began) / 5 < 2
    assert closed(slow, 20) == len(slow)
    for connection in slow:
        connection.close()
    limit = time.monotonic() + 10
    while descriptors(server) > base + 2 and time.monotonic() < limit:
        time.sleep(0.05)
    assert descriptors(server) <= base + 2


def test_a_body_that_trickles_is_given_up_and_kept(
    impatient: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    _, port = impatient
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v2/a/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    location = answer.getheader("Location") or ""
    connection.close()
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as trickling:
        trickling.sendall(head.encode())
        trickling.setblocking(False)
        sent, limit, said = 0, time.monotonic() + 20, b""
        while not said and time.monotonic() < limit:
            sent += trickling.send(b"x")
            time.sleep(0.1)
            try:
                said = trickling.recv(4096) or b"closed"
            except BlockingIOError:
                continue
    assert said.startswith(b"HTTP/1.1 408")
    (kept,) = tmp_path.rglob("_uploads/*")
    come = kept.stat().st_size
    assert ask(port, "GET", location)[0] == 204 and 10 < come <= sent
    rest = bytes(100_000)
    whole = b"x" * come + rest
    status, _ = ask(port, "PUT", f"{location}?digest={digest_of(whole)}", rest)
    assert status == 201


def test_fifty_clients_at_once_cost_little_memory(tmp_path: Path) -> None:
    server, port = start_server(tmp_path)
    blob = os.urandom(1 << 20) * 100
    assert put_blob(port, "a", blob)[0] == 201
    path = f"/v2/a/blobs/{digest_of(blob)}"

    def size(_: int) -> int:
        come, part = 0, bytearray(1 << 20)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            while count := connection.recv_into(part, 0, socket.MSG_TRUNC):  # thrown away by the kernel
                come += count
        return come

    with ThreadPoolExecutor(50) as pool:
        assert min(pool.map(size, range(50))) > len(blob)
    peak = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 200_000  # kB
    end_server(server)


def test_an_answer_that_nobody_reads_is_given_up(impatient: tuple[subprocess.Popen[str], int]) -> None:
    server, port = impatient
    blob = os.urandom(32 << 20)
    assert put_blob(port, "a", blob)[0] == 201
    base = descriptors(server)
    deaf = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET /v2/a/blobs/{digest_of(blob)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        deaf.append(connection)
    assert ask(port, "GET", "/v2/")[0] == 200
    limit = time.monotonic() + 30
    while descriptors(server) > base + 2 and time.monotonic() < limit:
        time.sleep(0.1)
    assert descriptors(server) <= base + 2
    for connection in deaf:
        connection.close()
