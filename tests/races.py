"""Real threads that begin together: what a race test needs."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.errors import MarketError

T = TypeVar("T")

_HELD_UP = text("select count(*) from pg_locks where pg_backend_pid() = any(pg_blocking_pids(pid))")


def at_once(acts: Sequence[Callable[[], T]]) -> list[T | MarketError]:
    """Run some acts in threads that begin together; what each gave, or how it was refused.

    Anything but a refusal is a bug, and fails the test.
    """
    gate = threading.Barrier(len(acts))
    found: dict[int, T | MarketError] = {}
    bugs: list[BaseException] = []

    def run(nth: int, act: Callable[[], T]) -> None:
        try:
            gate.wait(timeout=120)
            found[nth] = act()
        except MarketError as refused:
            found[nth] = refused
        except BaseException as bug:
            bugs.append(bug)

    threads = [
        threading.Thread(target=run, args=(nth, act), daemon=True) for nth, act in enumerate(acts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "a thread did not end"
    if bugs:
        raise bugs[0]
    return [found[nth] for nth in range(len(acts))]


def behind(session: Session, act: Callable[[], object]) -> threading.Thread:
    """A thread that has begun an act, once that waits for what a transaction holds."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    ends = time.monotonic() + 120
    while not session.scalar(_HELD_UP):
        thread.join(0.02)
        assert thread.is_alive(), "it waited for nothing"
        assert time.monotonic() < ends, "it has not come so far"
    return thread
