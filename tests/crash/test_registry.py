"""What a registry has acknowledged stays, though it is killed at random points, or garbage is collected beside it."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from pathlib import Path

from tests.support.host import COMMAND
from tests.support.pusher import Pusher, end_server, start_server


def begin(port: int, count: int, seconds: float) -> tuple[list[Pusher], list[threading.Thread]]:
    pushers = [Pusher(port, f"r{index % 2}", f"t{index}") for index in range(count)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=pusher.run, args=(until,)) for pusher in pushers]
    for thread in threads:
        thread.start()
    return pushers, threads


def examined(storage: Path) -> str:
    done = subprocess.run([COMMAND, "registry", "fsck", "--storage", str(storage)], capture_output=True, text=True)
    return done.stdout


def test_a_server_that_is_killed_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    server, port = start_server(tmp_path)
    pushers, threads = begin(port, 3, 6)
    while any(thread.is_alive() for thread in threads):
        time.sleep(random.uniform(0.05, 0.4))
        end_server(server, kill=True)
        server, port = start_server(tmp_path, port)
    assert sum(len(pusher.acknowledged) for pusher in pushers) > 3
    assert [pusher.lost() for pusher in pushers] == [[], [], []]
    end_server(server)
    assert examined(tmp_path).endswith(" 0 problems\n")


def test_garbage_collection_beside_eight_pushers(tmp_path: Path) -> None:
    server, port = start_server(tmp_path)
    pushers, threads = begin(port, 8, 5)
    command = [COMMAND, "registry", "gc", "--storage", str(tmp_path), "--grace", "2", "--untagged"]
    while any(thread.is_alive() for thread in threads):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [pusher.lost() for pusher in pushers] == [[]] * 8
    assert [pusher.refusals for pusher in pushers] == [[]] * 8
    end_server(server)
    assert examined(tmp_path).endswith(" 0 problems\n")
