"""Keepers as processes: one is killed in the middle, one is taken over from, and no offer is made
twice or lost.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, text

from market.db import database
from market.keeper import Keeper
from market.offers.actions import decline_offer
from market.offers.models import Offer
from market.plans.actions import Plans, note_change
from market.plans.models import PlanChange, PlanStep
from tests.conftest import SECRET
from tests.factories import make_expert, make_project, make_task
from tests.market.test_plans import follow, matched

PATIENCE_S = 120.0


@contextmanager
def keeping(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A keeper as a process of its own; killed at the end, if it is still there."""
    environ = {
        **os.environ,
        "STUMPWORK_DATABASE_URL": url,
        "STUMPWORK_SECRET_KEY": SECRET,
        "STUMPWORK_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "market.keeper"], env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def until(is_so: Callable[[], bool]) -> float:
    """Wait until something is so; seconds that it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < PATIENCE_S, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - began


def fence() -> int:
    """How often there was a new keeper."""
    with database.begin() as session:
        return int(session.scalar(text("select fence from market.lease where name = 'plans'")) or 0)


def holder() -> object:
    """Who is the keeper, if anybody."""
    with database.begin() as session:
        return session.scalar(
            text("select holder_id from market.lease where held_until > clock_timestamp()")
        )


def waiting() -> int:
    """Changes that are not answered yet."""
    with database.begin() as session:
        return int(session.scalar(select(func.count()).select_from(PlanChange)) or 0)


def decline_some(most: int) -> int:
    """Some experts say no; how many."""
    with database.begin() as session:
        pending = select(Offer).where(Offer.state == "pending").order_by(Offer.id).limit(most)
        found = session.scalars(pending).all()
        for offer in found:
            decline_offer(
                session, offer.id, expert_id=offer.expert_id, reason="no_time", at=datetime.now(UTC)
            )
            note_change(session, "offer", offer.id, at=datetime.now(UTC))
    return len(found)


def market(seats: int) -> UUID:
    """A project with tasks and experts enough, and a run over it."""
    with database.begin() as session:
        project = make_project(session, budget_minor=10**8)
        for _ in range(seats):
            make_expert(session, max_concurrent=2)
            make_task(session, project)
    return matched(project)


def check_books() -> None:
    """Every seat is open or has one live offer, and the plan can be made again from its steps."""
    with database.begin() as session:
        odd = session.scalar(
            text(
                "select count(*) from market.task_slot s where (s.offer_id is not null) <> exists ("
                " select from market.offer o where o.slot_id = s.id and o.id = s.offer_id"
                " and o.state in ('pending', 'accepted', 'active', 'grace'))"
            )
        )
        assert odd == 0
        doubled = session.scalar(
            text(
                "select count(*) from (select task_id, expert_id from market.offer"
                " where state not in ('timed_out', 'rescinded', 'canceled')"
                " group by 1, 2 having count(*) > 1) twice"
            )
        )
        assert doubled == 0
        [kept] = Plans(session).kept()
        assert kept.free() == []
        numbers = session.scalars(select(PlanStep.number).order_by(PlanStep.number)).all()
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_killed_keeper_is_restored_and_answers_everything_once(committed: str) -> None:
    with keeping(committed) as first:
        until(lambda: holder() is not None)
        market(12)
        follow()
        until(lambda: waiting() == 0)
        before = fence()
        answered = decline_some(6)
        # In the middle of its work, wherever that is.
        time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        answered += decline_some(3)
        with keeping(committed):
            until(lambda: fence() > before)
            until(lambda: waiting() == 0)
    assert answered == 9
    with database.begin() as session:
        live = session.scalar(select(func.count()).where(Offer.state == "pending"))
    # Twelve seats, and always somebody left who was not asked yet.
    assert live == 12
    check_books()


def test_of_two_keepers_one_writes_and_the_other_takes_over(committed: str) -> None:
    with ExitStack() as stack:
        frozen = stack.enter_context(keeping(committed))
        until(lambda: holder() is not None)
        market(8)
        follow()
        until(lambda: waiting() == 0)
        before = fence()
        # The second waits for its turn. Frozen, the first believes that it still has the lease when
        # it wakes up.
        stack.enter_context(keeping(committed))
        os.kill(frozen.pid, signal.SIGSTOP)
        assert decline_some(4) == 4
        until(lambda: fence() == before + 1)
        until(lambda: waiting() == 0)
        with database.begin() as session:
            made = session.scalar(select(func.count()).select_from(Offer))
        os.kill(frozen.pid, signal.SIGCONT)
        assert decline_some(2) == 2
        until(lambda: waiting() == 0)
        assert fence() == before + 1
        with database.begin() as session:
            assert session.scalar(select(func.count()).select_from(Offer)) == (made or 0) + 2
            fences = session.scalars(select(PlanStep.fence).order_by(PlanStep.number)).all()
        assert list(fences) == sorted(fences)
        assert set(fences) == {before, before + 1}
    check_books()


def test_a_keeper_that_is_asked_to_stop_lets_the_next_one_in_at_once(committed: str) -> None:
    with keeping(committed) as first:
        until(lambda: holder() is not None)
        first.terminate()
        assert first.wait(PATIENCE_S) == 0
        keeper = Keeper()
        assert keeper.turn() == 0
        keeper.stop()
