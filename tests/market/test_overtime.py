"""Overtime: by the lab's consent alone, reserved in the worst case, paid from its very second."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.rules import ProjectFacts, worst_costs
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.earnings.rules import overtime_rate
from market.experts.actions import create_profile
from market.experts.rules import Profile
from market.heartbeats.actions import beat
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.projects.models import Project
from market.time_entries.queries import time_by_proofs
from market.work.actions import end_session, start_session
from market.work.models import TimeEntry, WorkSession
from market.work.queries import figures
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from payouts.pay import fee_minor, pay_minor
from tests.factories import make_caller, make_expert, make_project, make_task
from tests.market.earned import end_offer, make_active_offer

HOUR = 3600
MONDAY = datetime(2026, 6, 1, 9, tzinfo=UTC)
HALF_MORE: dict[str, Any] = {"overtime_after_s": 2 * HOUR, "overtime_basis_points": 15_000}


def worked(db: Session, offer: Offer, start: datetime, seconds: int) -> WorkSession:
    who = offer.expert_id
    row = start_session(db, offer.id, expert_id=who, at=start)
    for seq, offset in enumerate(range(90, seconds, 90), start=1):
        beat(
            db,
            row.id,
            expert_id=who,
            seq=seq,
            is_active=True,
            at=start + timedelta(seconds=offset),
        )
    return end_session(db, row.id, expert_id=who, at=start + timedelta(seconds=seconds))


def lines_of(db: Session, offer: Offer) -> list[tuple[int, int, int]]:
    rows = db.scalars(select(Earning).where(Earning.offer_id == offer.id)).all()
    return sorted((row.seconds, row.rate_minor_per_hour, row.pay_minor) for row in rows)


def make_facts(**given: Any) -> ProjectFacts:
    values: dict[str, Any] = {
        "id": None,
        "organisation_id": None,
        "currency": "USD",
        "rate_minor_per_hour": 2_200,
        "cap_s": 2 * HOUR,
        "fee_basis_points": 2_000,
        "offer_ttl_s": 24 * HOUR,
        "work_ttl_s": 72 * HOUR,
        "free_minor": 0,
        "seats": 1,
    }
    return ProjectFacts(**{**values, **given})


def test_what_a_week_has_beyond_its_hours_is_paid_as_overtime_over_all_work_of_the_project(
    db: Session,
) -> None:
    expert = make_expert(db, tier="T1", at=MONDAY - timedelta(days=30))
    project = make_project(db, rate_minor_per_hour=2_200, **HALF_MORE)
    first, second = (
        make_active_offer(db, project, make_task(db, project), expert.id, at=MONDAY)
        for _ in range(2)
    )
    worked(db, first, MONDAY, HOUR + 1800)
    worked(db, second, MONDAY + timedelta(hours=3), HOUR)
    # The week after begins anew.
    worked(db, second, MONDAY + timedelta(days=7), 1800)
    entries = db.scalars(select(TimeEntry).order_by(TimeEntry.recorded_at)).all()
    assert [(one.seconds, one.overtime_s) for one in entries] == [
        (5400, 0),
        (3600, 1800),
        (1800, 0),
    ]
    assert [one for one in time_by_proofs(db, expert.id) if not one.is_equal] == []
    for offer in (first, second):
        accrue_earning(db, end_offer(db, offer).id, at=MONDAY + timedelta(days=8))
    assert lines_of(db, first) == [(5400, 2_200, 3_300)]
    # Half an hour plainly, half an hour at one and a half, and half an hour of the next week.
    assert lines_of(db, second) == [
        (1800, 2_200, 1_100),
        (1800, 2_200, 1_100),
        (1800, 3_300, 1_650),
    ]
    assert accrue_earning(db, second.id, at=MONDAY + timedelta(days=9)) == []
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_without_the_labs_consent_no_hour_is_overtime(db: Session) -> None:
    expert = make_expert(db, tier="T1", at=MONDAY - timedelta(days=30))
    project = make_project(db, rate_minor_per_hour=2_200, weekly_cap_s=2 * HOUR)
    offer = make_active_offer(db, project, make_task(db, project), expert.id, at=MONDAY)
    row = worked(db, offer, MONDAY, 3 * HOUR)
    assert (row.paid_s, row.capped_s) == (2 * HOUR, HOUR)
    accrue_earning(db, end_offer(db, offer).id, at=MONDAY + timedelta(hours=4))
    assert lines_of(db, offer) == [(2 * HOUR, 2_200, 4_400)]


def test_overtime_is_reserved_as_if_every_hour_were_it() -> None:
    plain, more = make_facts(), make_facts(overtime_basis_points=15_000)
    seats, rates = np.arange(2), np.array([2_200, 2_201])
    # Two hours at each rate, and a cent for each line that can be rounded on its own.
    for facts, at_most in ((plain, [4_401, 4_403]), (more, [6_603, 6_607])):
        pay, fee = worst_costs([facts, facts], seats, rates)
        assert all(
            found >= pay_minor(2 * HOUR, overtime_rate(rate, facts.overtime_basis_points))
            for found, rate in zip(pay.tolist(), rates.tolist(), strict=True)
        )
        assert pay.tolist() == at_most
        kept = zip(pay.tolist(), fee.tolist(), strict=True)
        assert all(fee_minor(paid, 2_000) <= most for paid, most in kept)
    # What the expert reads is what an hour comes to, without the cents that only a ledger keeps.
    assert make_facts(rate_minor_per_hour=15_000, cap_s=HOUR).most_pay(15_000) == 15_000
    assert more.most_pay(2_200) == 6_600
    assert make_facts(fixed_minor=9_000, tops_up=True).most_pay(2_200) == 9_000


def test_an_offer_says_what_overtime_pays_and_a_lab_what_it_consents_to(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    db.commit()
    said = {"name": "Long weeks", "rate_minor_per_hour": 2_201, **HALF_MORE}
    made = lab.post("/v1/projects", json=said)
    assert made.status_code == 201, made.text
    assert made.json()["overtime_basis_points"] == 15_000
    for wrong in (
        {"overtime_basis_points": None},
        {"weekly_cap_s": HOUR},
        {"pay_basis": "deliverable", "deliverable_minor": 1},
    ):
        refused = lab.post("/v1/projects", json={**said, **wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "project_field_invalid")
        assert "overtime" in refused.json()["detail"]
    expert = make_caller(db, web, Part.EXPERT)
    create_profile(db, expert.person_id, Profile(), at=MONDAY - timedelta(days=9), tier="T1")
    project = make_project(db, lab.organisation_id, rate_minor_per_hour=2_201, **HALF_MORE)
    offer = make_active_offer(db, project, make_task(db, project), expert.person_id)
    db.commit()
    terms = expert.get(f"/v1/offers/ofr_{offer.id.hex}").json()["terms"]
    assert terms["overtime_after_minutes"] == 120
    # Half a cent more is rounded in favour of whoever works.
    assert terms["overtime_rate_per_hour"] == {"amount_minor": 3_302, "currency": "USD"}


@pytest.mark.parametrize("cap_s", [4 * HOUR, HOUR])
def test_a_session_says_that_what_follows_is_overtime(db: Session, cap_s: int) -> None:
    expert = make_expert(db, tier="T1", at=MONDAY - timedelta(days=30))
    project = make_project(
        db,
        rate_minor_per_hour=2_200,
        cap_s=cap_s,
        overtime_after_s=600,
        overtime_basis_points=20_000,
    )
    offer = make_active_offer(db, project, make_task(db, project), expert.id, at=MONDAY)
    row = start_session(db, offer.id, expert_id=expert.id, at=MONDAY)
    told = []
    for seq in range(1, 10):
        at = MONDAY + timedelta(seconds=80 * seq)
        pulse = beat(db, row.id, expert_id=expert.id, seq=seq, is_active=True, at=at)
        told.append(pulse.figures.is_overtime)
    assert told == [80 * seq >= 600 for seq in range(1, 10)]
    db.refresh(row)
    assert figures(row).is_overtime
    assert any_offer(db, offer.id).reserved_minor > 0
    assert balance(db, chart.owed_to(expert.id)).pending_credit_minor > 0
    assert db.get_one(Project, project.id).overtime_basis_points == 20_000
