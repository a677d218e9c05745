"""Who may have a transaction open, and in which order."""

import signal
import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import TimeoutError as PoolIsEmpty

from market.db import Turns

LIMIT_S = 120


def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    pause = threading.Event()
    for _ in range(LIMIT_S * 100):
        if is_true():
            return
        pause.wait(0.01)
    pytest.fail("it did not come about")


def come(turns: Turns, name: str, served: list[str]) -> threading.Thread:
    """A thread that wants a turn, once it waits for it."""

    def take() -> None:
        with turns.turn():
            served.append(name)

    before = turns.waiting
    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: turns.waiting == before + 1)
    return thread


def test_turns_come_in_the_order_in_which_they_were_asked_for_and_nobody_is_passed() -> None:
    turns, served = Turns(1, limit_s=LIMIT_S), list[str]()
    with turns.turn():
        threads = [come(turns, name, served) for name in "abc"]
        assert served == []
    # Whoever had the place and wants it again at once comes after those who waited.
    with turns.turn():
        assert served == ["a", "b", "c"]
    for thread in threads:
        thread.join(LIMIT_S)
    assert turns.waiting == 0


def test_as_many_have_a_turn_at_once_as_there_are_places() -> None:
    turns, served = Turns(2, limit_s=LIMIT_S), list[str]()
    with turns.turn():
        thread = threading.Thread(target=lambda: _pass_through(turns, served))
        thread.start()
        until(lambda: served == ["through"])
        thread.join(LIMIT_S)


def _pass_through(turns: Turns, served: list[str]) -> None:
    with turns.turn():
        served.append("through")


def test_a_thread_that_has_a_turn_opens_another_transaction_at_once() -> None:
    turns, served = Turns(1, limit_s=LIMIT_S), list[str]()
    with turns.turn():
        with turns.turn():
            thread = come(turns, "other", served)
        assert served == []
    thread.join(LIMIT_S)
    assert served == ["other"]


def test_a_wait_that_is_too_long_is_refused_and_takes_no_place() -> None:
    turns, refused = Turns(1, limit_s=0.01), list[str]()

    def wait() -> None:
        try:
            with turns.turn():
                pass
        except PoolIsEmpty as refusal:
            refused.append(str(refusal))

    with turns.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(LIMIT_S)
        assert refused == ["no transaction could be opened within 0.01 s"]
        assert turns.waiting == 0
    with turns.turn():
        pass


def test_a_wait_that_is_interrupted_takes_no_place() -> None:
    turns, held, freed = Turns(1, limit_s=LIMIT_S), threading.Event(), threading.Event()

    def hold() -> None:
        with turns.turn():
            held.set()
            until(lambda: turns.waiting == 1)
            # As a job is ended whose time is over.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            assert freed.wait(LIMIT_S)

    def end(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, end)
    try:
        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(LIMIT_S)
        with pytest.raises(InterruptedError), turns.turn():
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert turns.waiting == 0
    freed.set()
    thread.join(LIMIT_S)
    with turns.turn():
        pass


def test_what_fails_gives_its_place_back() -> None:
    turns = Turns(1, limit_s=0.01)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), turns.turn():
            _ = 1 / 0
    with turns.turn():
        pass
