"""Real threads that begin together: what a race test needs."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from market.errors import MarketError

T = TypeVar("T")


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
