"""Offers and their seats under anything in any order: real commits, and several people at once."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.db import database
from market.errors import MarketError
from market.moves import unfolded
from market.offers.actions import (
    accept_offer,
    decline_offer,
    expire_offer,
    lapse_offer,
    release_offer,
    rescind_offer,
    withdraw_offer,
)
from market.offers.models import Offer
from market.offers.rules import LIVE, RECORDING
from market.projects.models import Project
from market.seats.actions import activate_offer, complete_offer
from market.submissions.actions import leave_offer
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import FILLED
from payouts.chart import project_budget
from payouts.ledger import balance
from tests.factories import make_expert, make_offer, make_project, make_task
from tests.races import at_once

pytestmark = pytest.mark.usefixtures("committed")

Act = Callable[[Session, Offer, datetime], object]

SEATS = 2

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 7))")

ACTS: dict[str, Act] = {
    "accept": lambda s, o, at: accept_offer(s, o.id, expert_id=o.expert_id, at=at),
    "decline": lambda s, o, at: decline_offer(
        s, o.id, expert_id=o.expert_id, reason="no_time", at=at
    ),
    "expire": lambda s, o, at: expire_offer(s, o.id, at=at),
    "lapse": lambda s, o, at: lapse_offer(s, o.id, at=at),
    "rescind": lambda s, o, at: rescind_offer(s, o.id, at=at),
    "begin": lambda s, o, at: activate_offer(s, o.id, expert_id=o.expert_id, at=at),
    "give back": lambda s, o, at: release_offer(
        s, o.id, expert_id=o.expert_id, reason="no_time", owes_time=False, at=at
    ),
    "withdraw": lambda s, o, at: withdraw_offer(
        s, o.id, reason="task_withdrawn", grace=timedelta(hours=1), at=at
    ),
    "leave": lambda s, o, at: leave_offer(s, o.id, at=at),
    "hand in": lambda s, o, at: complete_offer(s, o.id, expert_id=o.expert_id, at=at),
}
"""Everything that can become of an offer."""


WHICH = st.integers(0, 59)
"""Which of the offers; as many as there are divides it."""


class Crashed(Exception):
    """A process that dies with its transaction open."""


def committed_act(
    name: str, offer_id: UUID, at: datetime, *, dies: bool = False
) -> Callable[[], object]:
    """An act in a transaction of its own; one that dies leaves nothing."""

    def run() -> object:
        try:
            with database.begin() as session:
                found = session.get_one(Offer, offer_id)
                session.expunge(found)
                given = ACTS[name](session, found, at)
                if dies:
                    raise Crashed
                return bool(given)
        except Crashed:
            return None

    return run


def broken(project: Project, task_id: UUID, seats: int) -> list[str]:
    """What does not agree about a task's seats, its offers, their history and their money."""
    with database.begin() as session:
        slots = session.scalars(select(TaskSlot).where(TaskSlot.task_id == task_id)).all()
        offers = session.scalars(select(Offer).where(Offer.task_id == task_id)).all()
        task = session.get_one(Task, task_id)
        by_slot = {slot.id: slot for slot in slots}
        wrong = [f"{len(slots)} seats"] if len(slots) != seats else []
        holding = [one for one in offers if one.state in (*LIVE, "completed")]
        if len({one.slot_id for one in holding}) != len(holding):
            wrong.append("two offers hold one seat")
        if len([one for one in offers if one.state == "completed"]) > seats:
            wrong.append("more answers than seats")
        wanted = {
            "pending": ("offered",),
            "accepted": ("claimed",),
            "active": ("claimed",),
            "grace": ("claimed",),
            "completed": FILLED,
        }
        for one in holding:
            slot = by_slot[one.slot_id]
            if slot.state not in wanted[one.state] or slot.offer_id != one.id:
                wrong.append(f"an offer that is {one.state} on a seat that is {slot.state}")
        free = [slot for slot in slots if slot.id not in {one.slot_id for one in holding}]
        wrong += [
            f"a seat that is {slot.state} for nobody" for slot in free if slot.state != "open"
        ]
        begun = [one.state for one in holding if one.state != "pending"]
        expected = "active" if begun else "queued"
        if begun == ["completed"] * seats:
            expected = "in_review"
        if task.state != expected:
            wrong.append(f"a task that is {task.state} with work that is {begun}")
        escrow = project_budget(project.id, project.organisation_id)
        promised = balance(session, escrow).pending_debit_minor
        if promised != sum(one.reserved_minor for one in holding):
            wrong.append("money that is promised to nobody, or work without any")
        return wrong + unfolded(session)


class Seats(RuleBasedStateMachine):
    """Two seats, and everything that offers of them can go through, in any order and at once."""

    def __init__(self) -> None:
        super().__init__()
        self.at = datetime(2026, 3, 2, 9, tzinfo=UTC)
        with database.begin() as session:
            self.project = make_project(session, budget_minor=10**8)
            self.task_id = make_task(session, self.project, slots=SEATS).id
        self.offers: list[UUID] = []

    @rule()
    def offer(self) -> None:
        """A seat that is open is offered to somebody new."""
        with database.begin() as session:
            task = session.get_one(Task, self.task_id)
            is_open = select(func.count()).where(
                TaskSlot.task_id == self.task_id, TaskSlot.state == "open"
            )
            if session.scalar(is_open) and task.state in ("queued", "active"):
                expert = make_expert(session)
                made = make_offer(session, task, expert.id, accepted=False, at=self.at)
                self.offers.append(made.id)

    @rule(hours=st.sampled_from((1, 20, 80)))
    def wait(self, hours: int) -> None:
        """Time passes, and deadlines with it."""
        self.at += timedelta(hours=hours)

    # What is drawn is the same whoever wins a race, since Hypothesis plays its draws again.
    @rule(which=WHICH, name=st.sampled_from(sorted(ACTS)), dies=st.booleans())
    def act(self, which: int, name: str, dies: bool) -> None:
        """One thing happens to one offer; or its process dies before it is committed."""
        if self.offers:
            chosen = self.offers[which % len(self.offers)]
            # A refusal is an answer too; that nothing came of it is looked at below.
            with suppress(MarketError):
                committed_act(name, chosen, self.at, dies=dies)()

    @rule(acts=st.lists(st.tuples(WHICH, st.sampled_from(sorted(ACTS))), min_size=2, max_size=4))
    def at_once(self, acts: list[tuple[int, str]]) -> None:
        """Several things happen to one offer, or to several, at the same moment."""
        newest = self.offers[-3:]
        if newest:
            at_once([committed_act(name, newest[n % len(newest)], self.at) for n, name in acts])

    @invariant()
    def all_agree(self) -> None:
        """Seats, offers, task, history and money tell one story."""
        assert broken(self.project, self.task_id, SEATS) == []


def test_whatever_happens_to_offers_their_seats_agree() -> None:
    run_state_machine_as_test(
        Seats,
        settings=settings(
            max_examples=3,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_whatever_happens_to_offers_for_long_their_seats_agree() -> None:
    run_state_machine_as_test(
        Seats,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def crowd(claimers: int, seats: int, *, seed: int) -> list[str]:
    """Many people at one task: each is offered a seat when one is open, and accepts, declines, lets
    the offer run out, dies in the middle, gives back or hands in; until all seats are filled. What
    does not agree at the end.
    """
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    with database.begin() as session:
        project = make_project(session, budget_minor=10**9)
        task_id = make_task(session, project, slots=seats).id
        experts = [make_expert(session).id for _ in range(claimers)]
    gate, connections = threading.Barrier(claimers), threading.BoundedSemaphore(14)
    bugs: list[BaseException] = []

    def seat(expert_id: UUID) -> UUID | None:
        with connections, database.begin() as session:
            # As those who record a run do: one at a time, and before any seat is locked.
            session.execute(_ONE_AT_A_TIME, {"name": RECORDING})
            task = session.get_one(Task, task_id)
            open_seat = select(TaskSlot.id).where(
                TaskSlot.task_id == task_id, TaskSlot.state == "open"
            )
            if session.scalar(open_seat.limit(1)) is None:
                return None
            return make_offer(session, task, expert_id, accepted=False, at=at).id

    def live(expert_id: UUID, chance: Random) -> None:
        gate.wait(timeout=300)
        offer_id = None
        while offer_id is None:
            with connections, database.begin() as session:
                filled = session.scalar(
                    select(func.count()).where(
                        TaskSlot.task_id == task_id, TaskSlot.state.in_(FILLED)
                    )
                )
            if filled == seats:
                return
            offer_id = seat(expert_id)
        fate = chance.choice(("decline", "expire", "give back", "hand in", "die", "leave"))
        steps = {
            "decline": ("decline",),
            "expire": ("expire",),
            "give back": ("accept", "give back"),
            "leave": ("accept", "lapse"),
        }.get(fate, ("accept", "begin", "hand in"))
        for name in steps:
            moment = at + timedelta(days=9) if name in ("expire", "lapse") else at
            if fate == "die":
                # What dies is done again, as a client that got no answer does.
                with connections:
                    committed_act(name, offer_id, moment, dies=True)()
            with connections:
                committed_act(name, offer_id, moment)()

    def run(expert_id: UUID, chance: Random) -> None:
        try:
            live(expert_id, chance)
        except BaseException as bug:
            bugs.append(bug)

    threads = [
        threading.Thread(target=run, args=(one, Random(f"{seed} {n}")), daemon=True)
        for n, one in enumerate(experts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    assert not any(thread.is_alive() for thread in threads), "a claimer did not end"
    if bugs:
        raise bugs[0]
    with database.begin() as session:
        states = session.scalars(select(Offer.state).where(Offer.task_id == task_id)).all()
    wrong = [] if states.count("completed") == seats else [f"answers: {states}"]
    return wrong + broken(project, task_id, seats)


def test_a_crowd_fills_every_seat_once() -> None:
    assert crowd(16, 2, seed=3) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_people_fill_every_seat_once(seed: int) -> None:
    assert crowd(200, 5, seed=seed) == []
