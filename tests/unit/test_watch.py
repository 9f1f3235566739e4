"""The controller's patience."""

from __future__ import annotations

from specrun.reconcile.watch import LONGEST, Patience


def test_it_grows_and_is_forgotten() -> None:
    patience = Patience(1.0)
    now, waits = 0.0, []
    for _ in range(9):
        assert patience.admits("web", now)
        patience.tried("web", now)
        assert not patience.admits("web", now)
        waits.append(patience.until["web"] - now)
        now = patience.until["web"]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST
    assert patience.admits("other", now)
    patience.calm("web", now)
    assert "web" in patience.tries
    patience.calm("web", now + 10_000)
    assert patience.tries == {}
