"""What a registry has acknowledged stays, though it is killed at random points, or garbage is collected beside it."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

from tests.support.host import COMMAND
from tests.support.pusher import Nursery, Pusher, end_server, start_server

KILLS = int(os.environ.get("SPECRUN_KILLS", "20"))
"""At random moments; more of them by hand."""


def begin(port: int, count: int, seconds: float) -> tuple[list[Pusher], list[threading.Thread]]:
    pushers = [Pusher(port, f"r{index % 2}", f"t{index}") for index in range(count)]
    done = threading.Event()
    threads = [threading.Thread(target=pusher.run, args=(done,)) for pusher in pushers]
    for thread in threads:
        thread.start()
    threading.Timer(seconds, done.set).start()
    return pushers, threads


def examined(storage: Path) -> str:
    done = subprocess.run([COMMAND, "registry", "fsck", "--storage", str(storage)], capture_output=True, text=True)
    return done.stdout


def test_a_server_that_is_killed_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    nursery = Nursery(tmp_path)
    nursery.start()
    going = threading.Event()
    pushers = [Pusher(nursery.port, f"r{index % 2}", f"t{index}") for index in range(4)]
    threads = [threading.Thread(target=pusher.run, args=(going,)) for pusher in pushers]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.02, 0.3))
        nursery.kill()
        nursery.start()
    going.set()
    for thread in threads:
        thread.join()
    assert sum(len(pusher.acknowledged) for pusher in pushers) > KILLS / 4
    assert [pusher.lost() for pusher in pushers] == [[]] * 4
    nursery.close()
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
