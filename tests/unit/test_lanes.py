"""Jobs side by side: all are done, or the first that fails is heard of at once."""

from __future__ import annotations

import threading

import pytest

from specrun.registry.lanes import Lanes


def test_all_are_done_by_no_more_threads_than_may_be() -> None:
    done: list[int] = []
    threads = set()

    def job(number: int) -> None:
        threads.add(threading.current_thread())
        done.append(number)

    with Lanes([lambda number=number: job(number) for number in range(50)], 3) as lanes:  # type: ignore[misc]
        lanes.wait()
        assert sorted(done) == list(range(50))
    assert 1 <= len(threads) <= 3


def test_a_failure_is_heard_of_while_another_still_runs() -> None:
    may_end, begun = threading.Event(), []

    def fail() -> None:
        raise ValueError("first")

    def long() -> None:
        begun.append("long")
        assert may_end.wait(60)

    with Lanes([long, fail, long, long], 2) as lanes:
        with pytest.raises(ValueError, match="first"):
            lanes.wait()
        may_end.set()
    assert all(not thread.is_alive() for thread in lanes._threads)


def test_what_has_not_begun_is_dropped_after_the_end() -> None:
    begun: list[int] = []
    may_end = threading.Event()

    def job() -> None:
        begun.append(1)
        assert may_end.wait(60)

    with pytest.raises(KeyError), Lanes([job] * 5, 1):
        while not begun:
            threading.Event().wait(0.001)
        threading.Timer(0.05, may_end.set).start()
        raise KeyError
    assert len(begun) == 1
