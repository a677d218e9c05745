"""Races about seats, with real threads and real commits: each has one winner."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.candidates.queries import candidates
from market.candidates.rules import asked_of, weigh
from market.db import database
from market.errors import MarketError
from market.events import StateChange
from market.offers.actions import accept_offer, decline_offer, expire_offer
from market.offers.jobs import expire_offers
from market.offers.models import Offer
from market.offers.rules import LIVE
from market.policies.rules import read_policy
from market.predictions.queries import predictions_for
from market.predictions.rules import Predictions
from market.projects.models import Project
from market.runs.actions import Answer, record_run, request_run, start_run
from market.runs.jobs import run_matching
from market.runs.models import MatchingRun
from market.tasks.models import TaskSlot
from matching.assign import assign
from payouts.chart import project_budget
from payouts.ledger import balance
from tests.bench.claims import DOUBLES, RIVALS, storm
from tests.bench.orchestrate import Bench
from tests.factories import make_expert, make_project, make_task

pytestmark = pytest.mark.usefixtures("committed")


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Do all of this at the same moment, a thread each; what each gave, or how it was refused."""
    gate, results = threading.Barrier(len(acts)), dict[int, object]()

    def run(at: int, act: Callable[[], object]) -> None:
        gate.wait()
        try:
            results[at] = act()
        except MarketError as refusal:
            results[at] = refusal

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(len(acts)))
    return [results[at] for at in range(len(acts))]


CONNECTIONS = threading.BoundedSemaphore(24)
"""Fewer than the pool has: the race is about seats, not about who waits for a connection."""


def in_transaction(act: Callable[[Session], object]) -> Callable[[], object]:
    """An act in a transaction of its own, committed."""

    def run() -> object:
        with CONNECTIONS, database.begin() as session:
            return act(session)

    return run


def market_of(*, experts: int, tasks: int, slots: int = 1, **profile: Any) -> Project:
    """A live project with some tasks, and experts who could all take any."""
    with database.begin() as session:
        project = make_project(session, budget_minor=10**9)
        for _ in range(experts):
            make_expert(session, **profile)
        for _ in range(tasks):
            make_task(session, project, slots=slots)
        return project


def offered() -> list[Offer]:
    """Run the matcher; the offers that wait for an answer."""
    with database.begin() as session:
        found, _ = request_run(session, at=datetime.now(UTC))
    run_matching(str(found.id))
    with database.begin() as session:
        return list(session.scalars(select(Offer).where(Offer.run_id == found.id)))


def seats_agree(project: Project) -> Counter[str]:
    """The states of all slots, after a look whether slots, offers and money tell the same story."""
    with database.begin() as session:
        slots = session.scalars(select(TaskSlot)).all()
        live = session.scalars(select(Offer).where(Offer.state.in_(LIVE))).all()
        taken = {slot.id: slot.offer_id for slot in slots if slot.offer_id is not None}
        assert taken == {offer.slot_id: offer.id for offer in live}
        escrow = project_budget(project.id, project.organisation_id)
        promised = balance(session, escrow).pending_debit_minor
        assert promised == sum(offer.reserved_minor for offer in live)
        return Counter(slot.state for slot in slots)


def test_two_hundred_claims_for_one_seat_make_one_live_offer() -> None:
    project = market_of(experts=200, tasks=1)
    with database.begin() as session:
        settings = read_policy({})
        seen = candidates(session, settings, project_id=project.id, at=datetime.now(UTC))
        believed = predictions_for(session, asked_of(seen))
        assert seen.pairs == 200

    def claim(expert: int) -> Callable[[Session], int]:
        with database.begin() as session:
            found, _ = request_run(session, seed=expert, at=datetime.now(UTC))
            start_run(session, found.id, at=datetime.now(UTC))
        # Each run sees one expert only, and so has to choose that one.
        only = np.array([expert])
        alone = replace(
            seen,
            pair_expert=seen.pair_expert[only],
            pair_task=seen.pair_task[only],
            pair_fit=seen.pair_fit[only],
            pair_interest=seen.pair_interest[only],
            pair_likeness=seen.pair_likeness[only],
        )
        believed_alone = Predictions(
            **{each.name: getattr(believed, each.name)[only] for each in fields(believed)}
        )
        weighed = weigh(alone, believed_alone, settings, seed=expert)
        chosen = assign(weighed.problem, seed=expert)
        assert chosen.chosen.tolist() == [0]
        answer = Answer(alone, weighed.problem, weighed, chosen, "0" * 64, {})
        run_id: UUID = found.id
        return lambda session: record_run(session, run_id, answer, at=datetime.now(UTC))

    made = at_once(*(in_transaction(claim(expert)) for expert in range(200)))
    assert Counter(made) == {0: 199, 1: 1}
    assert seats_agree(project) == {"offered": 1}
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Offer)) == 1
        states = Counter(session.scalars(select(MatchingRun.state)))
        assert states == {"succeeded": 200}


def test_two_hundred_accepts_of_one_offer_accept_it_once() -> None:
    project = market_of(experts=1, tasks=1)
    [offer] = offered()
    answers = at_once(
        *(
            in_transaction(
                lambda session: (
                    accept_offer(
                        session, offer.id, expert_id=offer.expert_id, at=datetime.now(UTC)
                    ).state
                )
            )
            for _ in range(200)
        )
    )
    assert Counter(answers) == {"accepted": 200}
    assert seats_agree(project) == {"claimed": 1}
    with database.begin() as session:
        accepted = select(func.count()).where(
            StateChange.subject_id == offer.id, StateChange.to_state == "accepted"
        )
        assert session.scalar(accepted) == 1


def test_of_an_accept_and_the_deadline_one_wins() -> None:
    project = market_of(experts=1, tasks=24, max_concurrent=100, weekly_hours=168)
    offers, winners = offered(), Counter[str]()
    assert len(offers) == 24
    for offer in offers:
        # One sees the last moment before the deadline, the other the deadline.
        before = offer.expires_at - timedelta(microseconds=1)

        def accept(session: Session, one: Offer = offer, at: datetime = before) -> str:
            return accept_offer(session, one.id, expert_id=one.expert_id, at=at).state

        def expire(session: Session, one: Offer = offer) -> bool:
            return expire_offer(session, one.id, at=one.expires_at)

        answer, ended = at_once(in_transaction(accept), in_transaction(expire))
        assert (answer == "accepted") != ended
        winners["expiry" if ended else "accept"] += 1
    states = seats_agree(project)
    assert states == Counter({"open": winners["expiry"], "claimed": winners["accept"]}) - Counter()


def test_two_runs_at_once_never_offer_a_seat_or_an_expert_twice() -> None:
    project = market_of(experts=12, tasks=10, slots=2, max_concurrent=2, weekly_hours=168)

    def match() -> None:
        with database.begin() as session:
            found, _ = request_run(session, at=datetime.now(UTC))
        run_matching(str(found.id))

    at_once(match, match, match)
    assert seats_agree(project) == {"offered": 20}
    with database.begin() as session:
        held = Counter(session.scalars(select(Offer.expert_id)))
        assert max(held.values()) <= 2
        pairs = session.execute(select(Offer.task_id, Offer.expert_id)).all()
        assert len(set(pairs)) == len(pairs) == 20
        assert sum(session.scalars(select(MatchingRun.offers))) == 20


def test_declines_while_a_run_records_end_without_a_deadlock() -> None:
    project = market_of(experts=20, tasks=40, slots=2, max_concurrent=8, weekly_hours=168)
    first = offered()
    assert len(first) == 80
    acts: list[Callable[[], object]] = []
    for offer in first[:40]:

        def decline(session: Session, one: Offer = offer) -> str:
            return decline_offer(
                session, one.id, expert_id=one.expert_id, reason="no_time", at=datetime.now(UTC)
            ).state

        acts.append(in_transaction(decline))

    with database.begin() as session:
        for _ in range(20):
            make_task(session, project, slots=2)
    runs = [lambda: len(offered()) for _ in range(2)]
    sweep: list[Callable[[], object]] = [lambda: expire_offers("2026-01-01T00:00:00+00:00")]
    answers = at_once(*acts, *runs, *sweep)
    assert Counter(map(str, answers))["declined"] == 40
    assert set(seats_agree(project)) <= {"open", "offered"}


def test_a_storm_of_claims_that_each_come_twice_doubles_none(committed: str) -> None:
    bench = Bench(committed, experts=20)
    bench.fill(60)
    rate, taken = storm(bench.claim, bench.take(60), rate=1000.0, threads=12)
    assert rate > 0
    assert len(taken) == RIVALS * 60
    with database.begin() as session:
        found = session.execute(DOUBLES).one()
    assert (found.accepted, found.claimed, found.doubled) == (60, 60, 0)
