"""What a contract pays beside hours: for accepted work, and for honest attempts that failed."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.candidates.rules import ProjectFacts, worst_costs
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.earnings.rules import Fixed, Line, fixed_lines
from market.offers.models import Offer
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from tests.factories import AT, make_expert, make_project, make_task
from tests.market.earned import hand_in, make_active_offer, work_on

HOUR = 3600
BY_DELIVERABLE: dict[str, Any] = {
    "pay_basis": "deliverable",
    "deliverable_minor": 9_000,
    "rate_minor_per_hour": 2_200,
}


def make_handed_in(db: Session, seconds: int = HOUR, **terms: Any) -> tuple[Offer, Submission]:
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    project = make_project(db, **terms)
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    work_on(db, offer, AT, seconds)
    submission = hand_in(db, offer)
    offer.ended_at = AT + timedelta(seconds=seconds)
    return offer, submission


def decide(db: Session, submission: Submission, state: str) -> None:
    for step in ("in_review", state):
        submission.state = step
        submission.decided_at = AT if step == state else None
        db.flush()


def add_attempts(db: Session, offer: Offer, *prompts: str) -> None:
    """Attempts at which the model was right, as their expert said itself."""
    from market.projects.models import Project

    model = db.get_one(Project, offer.project_id).target_model_id
    assert model is not None
    for prompt in prompts:
        row = Attempt(
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            task_id=offer.task_id,
            offer_id=offer.id,
            expert_id=offer.expert_id,
            target_model_id=model,
            prompt=prompt,
            reference="42",
            parameters={},
            created_at=AT,
            reserved_minor=Decimal(0),
        )
        db.add(row)
        db.flush()
        for state in ("sent", "responded", "not_stumped"):
            row.state = state
            db.flush()


def paid(lines: list[Earning]) -> list[tuple[str, int]]:
    return sorted((line.kind, line.pay_minor) for line in lines)


def reserved(db: Session, offer: Offer) -> int:
    escrow = chart.project_budget(offer.project_id, offer.organisation_id)
    return balance(db, escrow).pending_debit_minor


def test_accepted_work_pays_its_sum_and_frees_the_rest(db: Session) -> None:
    offer, submission = make_handed_in(db, **BY_DELIVERABLE)
    assert accrue_earning(db, offer.id, at=AT) == []
    # Undecided, it can still cost all that it could before.
    assert reserved(db, offer) == offer.reserved_minor
    decide(db, submission, "accepted")
    lines = accrue_earning(db, offer.id, at=AT)
    assert paid(lines) == [("deliverable", 9_000)]
    assert reserved(db, offer) == 0
    assert accrue_earning(db, offer.id, at=AT) == []
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_rejected_work_is_topped_up_to_what_its_time_is_worth(db: Session) -> None:
    offer, submission = make_handed_in(db, **BY_DELIVERABLE)
    decide(db, submission, "rejected")
    assert paid(accrue_earning(db, offer.id, at=AT)) == [("floor", 2_200)]
    # When the rejection is taken back, what was topped up counts.
    submission.state = "accepted"
    db.flush()
    assert paid(accrue_earning(db, offer.id, at=AT)) == [("deliverable", 6_800)]
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_honest_attempts_are_paid_though_the_model_was_right_each_once(db: Session) -> None:
    offer, submission = make_handed_in(db, attempt_fee_minor=300, attempt_fees_max=2)
    add_attempts(db, offer, "why is it so", "why is it so", "how much is it", "when was it")
    (hours,) = accrue_earning(db, offer.id, at=AT)[:1]
    assert hours.kind == "hours"
    decide(db, submission, "accepted")
    accrue_earning(db, offer.id, at=AT)
    lines = db.query(Earning).filter(Earning.offer_id == offer.id).all()
    # Three different prompts, of which the contract pays two.
    assert paid(lines) == [("attempt_fee", 600), ("hours", 2_200)]
    assert reserved(db, offer) == 0
    assert violations(db) == []
    assert unbacked_lines(db) == []


def find_stump(db: Session, submission: Submission, *, is_stump: bool) -> None:
    """What reviewers found of some work that they accepted."""
    row = db.get(Verdict, submission.id)
    if row is None:
        row = Verdict(
            submission_id=submission.id,
            organisation_id=submission.organisation_id,
            project_id=submission.project_id,
            task_id=submission.task_id,
            expert_id=submission.expert_id,
            votes=3,
            rejects=0,
            is_accepted=True,
            is_tested=True,
            is_validated=is_stump,
            is_stump=is_stump,
            is_silent=False,
            decided_at=AT,
        )
        db.add(row)
    elif row.is_stump != is_stump:
        row.is_validated = row.is_stump = is_stump
        row.version += 1
    db.flush()


@pytest.mark.parametrize("terms", [{}, BY_DELIVERABLE], ids=["hourly", "deliverable"])
def test_a_stump_pays_the_bonus_that_was_promised_and_reserved_with_the_work(
    db: Session, terms: dict[str, Any]
) -> None:
    offer, submission = make_handed_in(db, impact_bonus_minor=12_000, **terms)
    before = paid(accrue_earning(db, offer.id, at=AT))
    # Until it is decided the bonus stays reserved, whatever of the rest is credited.
    assert reserved(db, offer) >= 12_000 * 120 // 100
    decide(db, submission, "accepted")
    find_stump(db, submission, is_stump=True)
    lines = accrue_earning(db, offer.id, at=AT)
    (bonus,) = [line for line in lines if line.kind == "impact_bonus"]
    assert (bonus.pay_minor, bonus.fee_minor, bonus.offer_id) == (12_000, 2_400, offer.id)
    rest = [("deliverable", 9_000)] if terms else [("hours", 2_200)]
    assert sorted(before + paid(lines)) == sorted([("impact_bonus", 12_000), *rest])
    assert reserved(db, offer) == 0
    assert accrue_earning(db, offer.id, at=AT) == []
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_what_is_no_stump_frees_the_bonus_and_a_corrected_verdict_pays_it_once(
    db: Session,
) -> None:
    offer, submission = make_handed_in(db, impact_bonus_minor=12_000)
    decide(db, submission, "accepted")
    find_stump(db, submission, is_stump=False)
    assert paid(accrue_earning(db, offer.id, at=AT)) == [("hours", 2_200)]
    assert reserved(db, offer) == 0
    for is_stump, pays in ((True, [("impact_bonus", 12_000)]), (False, []), (True, [])):
        find_stump(db, submission, is_stump=is_stump)
        assert paid(accrue_earning(db, offer.id, at=AT)) == pays
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_the_bonus_for_a_stump_is_reserved_on_top_of_all_else() -> None:
    plain = ProjectFacts(
        id=uuid4(),
        organisation_id=uuid4(),
        currency="USD",
        rate_minor_per_hour=2_200,
        cap_s=HOUR,
        fee_basis_points=2_000,
        offer_ttl_s=HOUR,
        work_ttl_s=HOUR,
        free_minor=0,
        seats=1,
        fixed_minor=9_000,
        tops_up=True,
    )
    with_bonus = replace(plain, bonus_minor=12_000)
    project, rate = np.array([0, 1], np.int32), np.array([2_200, 2_200], np.int64)
    pay, fee = worst_costs([plain, with_bonus], project, rate)
    assert (pay[1] - pay[0], fee[1] - fee[0]) == (12_000, 2_400)
    assert with_bonus.most_pay(2_200) - plain.most_pay(2_200) == 12_000


def test_an_hourly_contract_can_pay_accepted_work_on_top(db: Session) -> None:
    offer, submission = make_handed_in(db, deliverable_minor=1_000)
    decide(db, submission, "accepted")
    assert paid(accrue_earning(db, offer.id, at=AT)) == [("deliverable", 1_000), ("hours", 2_200)]


@pytest.mark.parametrize("is_accepted", [True, False])
def test_crediting_in_any_number_of_steps_pays_the_same(is_accepted: bool) -> None:
    week = AT.date()
    early = Fixed(9_000, 300, 5, 1, is_accepted=False, is_decided=False, can_add=True)
    late = Fixed(9_000, 300, 5, 3, is_accepted=is_accepted, is_decided=True, can_add=True)

    def due(fixed: Fixed, before: list[Line]) -> list[Line]:
        return fixed_lines(week, fixed, floor_minor=4_000, fee_basis_points=2_000, credited=before)

    steps = due(early, [])
    steps += due(late, steps)
    at_once = due(late, [])
    total = 9_900 if is_accepted else 4_000
    assert sum(one.pay_minor for one in steps) == sum(one.pay_minor for one in at_once) == total
    assert due(late, steps) == []
