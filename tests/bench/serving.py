"""Our registry beside docker-registry: how fast one blob is served, and what 50 clients at once cost."""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests.support.pusher import digest_of, end_server, start_server
from tests.support.registries import debian_registry

SIZE = 128 << 20
RUNS = 9
CLIENTS = 50


def rows() -> list[list[object]]:
    """For the table of the bench: milliseconds for one blob, and for as many clients."""
    data = os.urandom(1 << 20) * (SIZE >> 20)
    digest = digest_of(data)
    with tempfile.TemporaryDirectory(prefix="srq-") as folder:
        server, mine = start_server(Path(folder, "ours"))
        try:
            with debian_registry(Path(folder, "theirs")) as address:
                ports = (mine, int(address.rpartition(":")[2]))
                for port in ports:
                    _put(port, data, digest)
                one = [[_one(port, digest) for port in ports] for _ in range(RUNS + 1)][1:]
                many = [[_many(port, digest) for port in ports] for _ in range(3)]
            peak = _peak(server.pid)
        finally:
            end_server(server)
    return [
        _row(f"serve a blob of {SIZE >> 20} MiB (docker: docker-registry)", one),
        _row(f"the same to {CLIENTS} clients at once, in {peak} MiB of memory", many),
    ]


def _row(name: str, samples: list[list[float]]) -> list[object]:
    ours, theirs = ([sample[side] * 1000 for sample in samples] for side in (0, 1))
    return [name, statistics.median(ours), min(ours), statistics.median(theirs),
            statistics.median(ours) / statistics.median(theirs)]  # fmt: skip


def _put(port: int, data: bytes, digest: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v2/a/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    location = answer.getheader("Location") or ""
    connection.request("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", data)
    if connection.getresponse().status != 201:
        raise RuntimeError("the blob was not taken")
    connection.close()


def _one(port: int, digest: str) -> float:
    """Seconds until all of it has come."""
    began = time.perf_counter()
    _fetch(port, digest)
    return time.perf_counter() - began


def _many(port: int, digest: str) -> float:
    """Seconds until all clients have all of it."""
    began = time.perf_counter()
    threads = [threading.Thread(target=_fetch, args=(port, digest)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _fetch(port: int, digest: str) -> None:
    """By bare sockets, so that it is the server which is measured."""
    come, part = 0, bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while size := connection.recv_into(part, 0, socket.MSG_TRUNC):  # thrown away by the kernel
            come += size
    if come < SIZE:
        raise RuntimeError(f"{come} bytes came")


def _peak(pid: int) -> int:
    """MiB that the process has had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
