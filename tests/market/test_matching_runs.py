"""Matching runs: what they choose, what they leave, and how they end."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from market.candidates.rules import worst_cost
from market.db import database, new_id
from market.experts.models import ExpertDomain
from market.offers.actions import rescind_offer
from market.offers.models import Offer
from market.operations import Operation
from market.policies.actions import publish_policy
from market.runs.actions import cancel_run, record_run, request_due_run, request_run
from market.runs.jobs import match_market, run_matching
from market.runs.models import MatchingRun, OpenSeat
from market.runs.rules import RUN
from market.settings import Settings, in_force
from market.tasks.models import TaskSlot
from payouts.chart import owed_to, project_budget
from payouts.ledger import Line, balance, reserve
from payouts.pay import fee_minor, pay_minor, worst_case_minor
from tests.factories import (
    AT,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.running import load_bids, offers_of, policy_named, run_now, solved


@pytest.mark.shared_data
def test_a_conference_is_matched_to_the_best_total_that_there_is(
    db: Session, shared_data: Path
) -> None:
    folder = shared_data / "matching" / "aamas2015"
    if not folder.is_dir():
        pytest.skip(f"no bids at {folder}: this test did not run")
    project = load_bids(db, folder, seats=3, load=12)
    ended = run_now(db, project_id=project.id, policy_id=policy_named(db, "interest-only"), seed=1)
    assert (ended.state, ended.pairs, ended.tasks, ended.experts) == (
        "succeeded",
        123_213,
        613,
        201,
    )
    total = db.scalar(select(func.sum(Offer.value)).where(Offer.run_id == ended.id))
    assert round(float(total or 0), 6) == 1406.25
    assert ended.offers == 613 * 3
    assert ended.gap == 0


def test_the_top_is_as_busy_as_it_said_and_newcomers_work_too(db: Session) -> None:
    experts = [make_expert(db, max_concurrent=1 + n % 3) for n in range(40)]
    stated = {one.id: one.max_concurrent for one in experts}
    top, known, newcomers = ([*stated][part] for part in (slice(6), slice(6, 32), slice(32, 40)))
    project = make_project(db, budget_minor=10**9, answers_per_task=3)
    # Who held an offer before is no newcomer; what was measured of people tells the rest.
    before = make_task(db, project, slots=32)
    for one in [*top, *known]:
        make_offer(db, before, one, cap_s=600)
    for state in ("active", "completed"):
        db.execute(update(Offer).values(state=state))
    for people, ability in ((top, 2.0), (known, -2.0)):
        of_them = update(ExpertDomain).where(ExpertDomain.expert_id.in_(people))
        db.execute(of_them.values(ability=ability))
    # Fewer seats than they can take together.
    for _ in range(12):
        make_task(db, project, complexity=4)
    share = 0.2
    obeyed = publish_policy(
        db,
        name="some-to-newcomers",
        document={"newcomer_share": share},
        reason="A test.",
        author_id=None,
        at=AT,
    )
    ended = run_now(db, project_id=project.id, policy_id=obeyed.id, seed=1)
    held = Counter(offer.expert_id for offer in offers_of(db, ended))
    assert 36 <= ended.offers < sum(stated.values())
    assert sum(held[one] == stated[one] for one in top) >= 0.9 * len(top)
    assert sum(held[one] for one in newcomers) >= int(share * ended.offers)
    assert any(held[one] for one in known)


def test_the_database_holds_the_moves_of_a_run(db: Session) -> None:
    assert pairs_in_database(db, RUN) == RUN.pairs()


def test_an_offer_carries_terms_a_reservation_and_a_reason(db: Session) -> None:
    expert = make_expert(db, domains=("chemistry.organic",), tier="T3")
    project = make_project(db, cap_s=7200, offer_ttl_s=3600, work_ttl_s=7200)
    task = make_task(db, project, expected_s=1801, complexity=4)
    ended = run_now(db)
    assert (ended.state, ended.offers, ended.open_seats) == ("succeeded", 1, 0)
    [offer] = offers_of(db, ended)
    assert (offer.expert_id, offer.task_id, offer.state) == (expert.id, task.id, "pending")
    assert offer.expires_at - offer.created_at == timedelta(hours=1)
    terms = offer.terms
    assert terms["rate_minor_per_hour"] == 9500
    assert (terms["rate_from"], terms["tier"]) == ("tier", "T3")
    assert (terms["cap_s"], terms["fee_basis_points"], terms["work_ttl_s"]) == (7200, 2000, 7200)
    # 1801 s at 95.00 an hour: 4752.64 cents.
    assert (terms["expected_s"], terms["expected_pay_minor"]) == (1801, 4753)
    assert (terms["expected_week_s"], terms["expected_week_pay_minor"]) == (1801, 4753)
    assert terms["review_within_s"] == project.review_ttl_s
    assert terms["project_version"] == project.version
    # Two hours at 95.00; kept for it are a fee of a fifth and a cent each for a second line of pay.
    assert terms["most_pay_minor"] == 19_000
    assert offer.reserved_minor == 19_001 + 3_802
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).pending_debit_minor == offer.reserved_minor
    assert balance(db, owed_to(expert.id)).pending_credit_minor == 19_001
    assert offer.value == pytest.approx(sum(part["weighed"] for part in offer.parts.values()))
    assert "worth" in offer.explanation
    slot = db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).one()
    assert (slot.state, slot.offer_id) == ("offered", offer.id)
    again = run_now(db)
    assert (again.pairs, again.offers) == (0, 0)


def test_a_second_offer_tells_the_whole_week(db: Session) -> None:
    make_expert(db, tier="T1")
    project = make_project(db)
    for _ in range(2):
        make_task(db, project, expected_s=3600)
    ended = run_now(db)
    told = sorted(offer.terms["expected_week_pay_minor"] for offer in offers_of(db, ended))
    assert told == [2200, 4400]


def test_a_budget_that_does_not_reach_leaves_seats_open_and_says_so(db: Session) -> None:
    project = make_project(db, budget_minor=50_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(3):
        make_expert(db, max_concurrent=9)
    for _ in range(6):
        make_task(db, project)
    ended = run_now(db)
    # At worst an answer costs 10001 + 2002: four of them fit.
    assert (ended.offers, ended.open_seats) == (4, 2)
    rows = list(db.scalars(select(OpenSeat).where(OpenSeat.run_id == ended.id)))
    assert {row.rule for row in rows} == {"project budget spent"}
    assert all("budget" in row.sentence for row in rows)
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).available_minor == 50_000 - 4 * 12_003


def test_money_that_is_gone_by_the_time_of_recording_leaves_seats_open(db: Session) -> None:
    project = make_project(db, budget_minor=50_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(3):
        make_expert(db)
        make_task(db, project)
    found, answer = solved(db, project)
    reserve(
        db,
        key="test:rival",
        kind="J3",
        lines=[
            Line(project_budget(project.id, project.organisation_id), owed_to(new_id()), 30_000)
        ],
        at=AT,
    )
    assert record_run(db, found.id, answer, at=datetime.now(UTC)) == 1
    rows = list(db.scalars(select(OpenSeat).where(OpenSeat.run_id == found.id)))
    assert [(row.rule, row.seats) for row in rows] == [("budget", 1), ("budget", 1)]


def test_nothing_is_promised_that_was_not_reserved_when_a_project_pays_otherwise_by_then(
    db: Session,
) -> None:
    project = make_project(db, impact_bonus_minor=1_000)
    make_expert(db)
    make_task(db, project, slots=1)
    found, answer = solved(db, project)
    project.impact_bonus_minor = 900_000
    db.flush()
    assert record_run(db, found.id, answer, at=datetime.now(UTC)) == 0
    (row,) = db.scalars(select(OpenSeat).where(OpenSeat.run_id == found.id))
    assert (row.rule, row.seats) == ("terms", 1)
    assert "changed what it pays" in row.sentence
    assert balance(db, project_budget(project.id, project.organisation_id)).pending_debit_minor == 0


def test_a_seat_taken_while_the_run_solved_stays_with_whoever_has_it(db: Session) -> None:
    project = make_project(db)
    make_expert(db), make_expert(db)
    make_task(db, project, slots=1)
    late, answer = solved(db, project)
    assert run_now(db, project_id=project.id).offers == 1
    assert record_run(db, late.id, answer, at=datetime.now(UTC)) == 0
    assert [row.rule for row in db.scalars(select(OpenSeat))] == ["taken"]


def test_an_experts_last_seat_is_given_once_however_many_runs_want_it(db: Session) -> None:
    make_expert(db, max_concurrent=1)
    one, other = make_project(db), make_project(db)
    make_task(db, one), make_task(db, other)
    late, answer = solved(db, other)
    assert run_now(db, project_id=one.id).offers == 1
    assert record_run(db, late.id, answer, at=datetime.now(UTC)) == 0


def test_the_same_input_policy_and_seed_make_the_same_offers(db: Session) -> None:
    project = make_project(db)
    for _ in range(8):
        make_expert(db, max_concurrent=2)
        make_task(db, project, slots=2)
    first = run_now(db, seed=5)
    chosen = [(o.task_id, o.expert_id, o.value) for o in offers_of(db, first)]
    assert len(chosen) == 16
    for offer in offers_of(db, first):
        assert rescind_offer(db, offer.id, at=offer.expires_at)
    db.commit()
    second = run_now(db, seed=5)
    assert second.input_digest == first.input_digest
    assert [(o.task_id, o.expert_id, o.value) for o in offers_of(db, second)] == chosen
    for offer in offers_of(db, second):
        rescind_offer(db, offer.id, at=offer.expires_at)
    db.commit()
    third = run_now(db, seed=6)
    assert third.input_digest != first.input_digest
    assert third.objective == first.objective


def test_a_run_that_dies_half_way_leaves_nothing_and_runs_again(db: Session) -> None:
    project = make_project(db)
    make_expert(db)
    make_task(db, project)
    found, answer = solved(db, project)
    db.commit()

    def record_and_die() -> None:
        with database.begin() as session:
            assert record_run(session, found.id, answer, at=datetime.now(UTC)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_and_die()
    db.expire_all()
    assert db.scalar(select(func.count()).select_from(Offer)) == 0
    assert balance(db, project_budget(project.id, project.organisation_id)).pending_debit_minor == 0
    run_matching(str(found.id))
    run_matching(str(found.id))  # A queue may deliver twice.
    db.expire_all()
    assert db.get_one(MatchingRun, found.id).state == "succeeded"
    assert len(offers_of(db, found)) == 1


def test_a_cancelled_run_makes_no_offers(db: Session) -> None:
    project = make_project(db)
    make_expert(db)
    make_task(db, project)
    found, answer = solved(db, project)
    cancel_run(db, found.id, at=datetime.now(UTC))
    cancel_run(db, found.id, at=datetime.now(UTC))
    assert record_run(db, found.id, answer, at=datetime.now(UTC)) == 0
    db.commit()
    run_matching(str(found.id))
    assert db.scalar(select(func.count()).select_from(Offer)) == 0
    assert db.scalars(select(Operation)).one().state == "cancelled"


def test_a_market_without_anyone_or_anything_is_matched_to_nothing(db: Session) -> None:
    empty = run_now(db)
    assert (empty.state, empty.pairs, empty.offers, empty.open_seats) == ("succeeded", 0, 0, 0)
    make_task(db, make_project(db))
    alone = run_now(db)
    assert (alone.state, alone.tasks, alone.offers, alone.open_seats) == ("succeeded", 1, 0, 1)
    seat = db.scalars(select(OpenSeat)).one()
    assert seat.rule == "no eligible expert"
    assert seat.sentence.startswith("1 seat stays open of 1: no expert in good standing")


def test_what_is_reserved_covers_every_way_in_which_the_time_can_be_paid() -> None:
    for cap, rate, fee in (
        (3600, 2200, 2000),
        (3599, 9501, 1),
        (7, 333, 9999),
        (14_400, 15_000, 0),
    ):
        whole = np.array([cap]), np.array([rate]), np.array([fee])
        assert tuple(int(x[0]) for x in worst_cost(*whole, np.array([1]))) == worst_case_minor(
            cap, rate, fee
        )
        pay, fees = (int(x[0]) for x in worst_cost(*whole, np.array([2])))
        for cut in range(0, cap + 1, max(1, cap // 997)):
            lines = [pay_minor(part, rate) for part in (cut, cap - cut)]
            assert sum(lines) <= pay
            assert sum(fee_minor(line, fee) for line in lines) <= fees


def test_the_clock_asks_for_one_run_over_everything_when_it_is_due(db: Session) -> None:
    day = timedelta(days=1)
    written = datetime.now(UTC)
    assert request_due_run(db, every=day, at=written + 9 * day) is None  # Nothing is live.
    project = make_project(db)
    make_expert(db), make_task(db, project)
    assert request_due_run(db, every=day, at=written + day / 2) is None
    # A run over one project is none over everything.
    assert run_now(db, project_id=project.id).state == "succeeded"
    due = request_due_run(db, every=day, at=written + 2 * day)
    assert due is not None
    assert (due.project_id, due.state) == (None, "pending")
    # It has not ended, however long it takes.
    assert request_due_run(db, every=day, at=written + 9 * day) is None
    db.commit()
    run_matching(str(due.id))
    db.expire_all()
    assert due.state == "succeeded"
    assert request_due_run(db, every=day, at=due.requested_at + day / 2) is None
    assert request_due_run(db, every=day, at=due.requested_at + day) is not None


def test_the_clock_asks_for_runs_as_often_as_the_settings_say(
    db: Session, settings: Settings
) -> None:
    make_project(db)
    before, _ = request_run(db, at=datetime.now(UTC) - timedelta(hours=2))
    cancel_run(db, before.id, at=datetime.now(UTC))
    db.commit()
    try:
        for every_s, asked in ((0, 0), (24 * 3600, 0), (3600, 1)):
            in_force.open(msgspec.structs.replace(settings, match_every_s=every_s))
            match_market("2026-01-01T00:00:00+00:00")
            waiting = select(func.count()).where(MatchingRun.state == "pending")
            assert db.scalar(waiting) == asked
    finally:
        in_force.open(settings)
