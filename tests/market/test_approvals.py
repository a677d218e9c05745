"""From a week of time to pay that goes out: locked, looked at, approved by silence, settled."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.approvals.actions import approve_lines, credit_locked, lock_weeks, settle_time
from market.approvals.jobs import approve_silent_lines, close_weeks
from market.approvals.queries import uncredited_offers
from market.auth import Part
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.earnings.rules import EARNING, Period, review_until
from market.events import Event, EventRow, StateChange, emit
from market.experts.actions import create_profile
from market.experts.rules import Profile
from market.offers.models import Offer
from market.time_entries.actions import change_time
from market.work.models import TimeEntry
from payouts import chart
from payouts.errors import FloorBreached
from payouts.invariants import violations
from payouts.ledger import Line, balance, post_entry
from tests.factories import AT, make_caller, make_expert, make_project, make_task, pairs_in_database
from tests.market.earned import end_offer, hand_in, make_active_offer, work_on

HOUR = 3600
WEEK = date(2026, 3, 2)


def make_worked(db: Session, seconds: int = HOUR, **terms: Any) -> Offer:
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    project = make_project(db, **terms)
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    work_on(db, offer, AT, seconds)
    return offer


def free_and_held(db: Session, expert_id: UUID) -> tuple[int, int]:
    return (
        balance(db, chart.owed_to(expert_id)).available_minor,
        balance(db, chart.held_for(expert_id)).posted_minor,
    )


def states_of_time(db: Session, offer: Offer) -> list[str]:
    db.expire_all()
    wanted = select(TimeEntry).where(TimeEntry.offer_id == offer.id).order_by(TimeEntry.during)
    return [entry.state for entry in db.scalars(wanted)]


def assert_books_hold(db: Session) -> None:
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_the_database_knows_the_moves_of_a_line(db: Session) -> None:
    assert pairs_in_database(db, EARNING) == EARNING.pairs()


def test_credited_pay_is_held_until_it_is_approved(db: Session) -> None:
    offer = make_worked(db)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    assert (line.state, free_and_held(db, offer.expert_id)) == ("accrued", (0, 2200))
    assert states_of_time(db, offer) == ["locked"]
    assert approve_lines(db, offer.expert_id, [line.id], at=AT) == [line]
    assert (line.state, free_and_held(db, offer.expert_id)) == ("approved", (2200, 0))
    assert states_of_time(db, offer) == ["payable"]
    assert approve_lines(db, offer.expert_id, [line.id], at=AT) == []
    told = db.scalars(select(EventRow).where(EventRow.type == Event.EARNING_APPROVED)).one()
    assert told.person_id == offer.expert_id
    assert_books_hold(db)


@pytest.mark.parametrize(
    ("credited", "wanted"),
    [
        # During the week itself, and when it is closed on Monday noon: the Wednesday after it.
        ("2026-03-04T10:00", "2026-03-11T12:00"),
        ("2026-03-09T12:00", "2026-03-11T12:00"),
        # A verdict on Tuesday leaves the lab too little time: the line rolls over.
        ("2026-03-10T09:00", "2026-03-18T12:00"),
        ("2026-03-20T09:00", "2026-03-25T12:00"),
    ],
)
def test_silence_approves_on_a_wednesday_noon_that_leaves_two_days(
    credited: str, wanted: str
) -> None:
    at = datetime.fromisoformat(credited).replace(tzinfo=UTC)
    assert review_until(WEEK, at) == datetime.fromisoformat(wanted).replace(tzinfo=UTC)


def test_silence_is_approval_and_nothing_is_approved_before(db: Session) -> None:
    offer = make_worked(db)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    due = datetime(2026, 3, 11, 12, tzinfo=UTC)
    assert approve_lines(db, offer.expert_id, at=due - timedelta(seconds=1)) == []
    assert approve_lines(db, offer.expert_id, at=due) == [line]
    move = db.scalars(select(StateChange).where(StateChange.subject_id == line.id)).one()
    assert (move.action, move.actor_id, move.reason_code) == ("approve", None, "review_time_over")


def test_the_clock_closes_weeks_and_hears_silence(db: Session) -> None:
    offer = make_worked(db)
    hand_in(db, offer)
    db.commit()
    # The clock of this machine is far past that week.
    close_weeks("slot")
    line = db.scalars(select(Earning)).one()
    assert (line.state, line.seconds, line.week) == ("accrued", HOUR, WEEK)
    close_weeks("slot")
    assert len(db.scalars(select(Earning)).all()) == 1
    line.review_until = datetime.now(UTC) - timedelta(seconds=1)
    db.commit()
    approve_silent_lines("slot")
    db.expire_all()
    assert db.scalars(select(Earning.state)).all() == ["approved"]
    assert free_and_held(db, offer.expert_id) == (2200, 0)


def test_one_line_that_cannot_be_approved_keeps_nobody_elses_from_being(db: Session) -> None:
    offers = [make_worked(db) for _ in range(3)]
    for offer in offers:
        hand_in(db, offer)
    db.commit()
    close_weeks("slot")
    db.execute(update(Earning).values(review_until=AT))
    # What one line holds has gone elsewhere, so that it cannot be let go.
    poisoned = offers[1]
    held = chart.held_for(poisoned.expert_id, "USD")
    gone = Line(held, chart.suspense(), 2_200)
    post_entry(db, key="gone", kind="suspense", lines=[gone], at=AT)
    db.commit()
    with pytest.raises(FloorBreached):
        approve_silent_lines("slot")
    db.expire_all()
    left = db.scalars(select(Earning.expert_id).where(Earning.state == "accrued")).all()
    assert left == [poisoned.expert_id]


def test_long_work_is_paid_by_the_week_while_it_goes_on(db: Session) -> None:
    offer = make_worked(db, cap_s=20 * HOUR)
    escrow = chart.project_budget(offer.project_id, offer.organisation_id)
    reserved = balance(db, escrow).pending_debit_minor
    monday = datetime(2026, 3, 9, tzinfo=UTC)
    assert lock_weeks(db, before=monday, at=monday, limit=10) == 1
    assert uncredited_offers(db, limit=10) == [offer.id]
    (line,) = credit_locked(db, offer.id, at=monday)
    assert (line.pay_minor, line.fee_minor, offer.state) == (2200, 440, "active")
    # What was credited has left the reservation, and the rest is reserved as before.
    assert balance(db, escrow).pending_debit_minor == reserved - 2640
    assert uncredited_offers(db, limit=10) == []
    assert credit_locked(db, offer.id, at=monday) == []
    work_on(db, offer, monday, 2 * HOUR)
    end_offer(db, offer)
    (second,) = accrue_earning(db, offer.id, at=monday)
    assert (second.week, second.seconds, second.part) == (monday.date(), 2 * HOUR, 2)
    assert balance(db, escrow).pending_debit_minor == 0
    assert balance(db, escrow).posted_minor == 1_000_000 - 3 * 2640
    assert_books_hold(db)


def test_time_of_this_week_is_the_experts_to_take_out_until_it_is_locked(db: Session) -> None:
    offer = make_worked(db)
    (entry,) = db.scalars(select(TimeEntry).where(TimeEntry.offer_id == offer.id))
    assert lock_weeks(db, before=datetime(2026, 3, 2, tzinfo=UTC), at=AT, limit=10) == 0
    assert credit_locked(db, offer.id, at=AT) == []
    change_time(db, entry.id, "void", actor_id=offer.expert_id, at=AT)
    assert lock_weeks(db, before=datetime(2026, 3, 9, tzinfo=UTC), at=AT, limit=10) == 0


def test_paid_time_is_settled(db: Session, react: Callable[[], list[str]]) -> None:
    offer = make_worked(db)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    approve_lines(db, offer.expert_id, [line.id], at=AT)
    line.payout_id = UUID(int=7)
    db.flush()
    emit(db, Event.PAYOUT_PAID, UUID(int=7), at=AT)
    db.commit()
    assert "settle_paid_time" in react()
    assert states_of_time(db, offer) == ["settled"]
    assert settle_time(db, UUID(int=7), at=AT) == 0


def test_a_line_that_waits_is_in_no_payout(db: Session) -> None:
    from sqlalchemy.exc import IntegrityError

    offer = make_worked(db)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    line.payout_id = UUID(int=7)
    with pytest.raises(IntegrityError, match="payout_id"), db.begin_nested():
        db.flush()


def test_amounts_of_an_approved_line_never_change(db: Session) -> None:
    from sqlalchemy.exc import IntegrityError

    offer = make_worked(db)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    approve_lines(db, offer.expert_id, [line.id], at=AT)
    line.pay_minor -= 1
    with pytest.raises(IntegrityError, match="only ever split"), db.begin_nested():
        db.flush()


# Edges of weeks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "week", "starts", "ends"),
    [
        # New York springs forward on 8 March 2026 and falls back on 1 November.
        (
            "America/New_York",
            "2026-03-02",
            "2026-03-01T19:00:00-05:00",
            "2026-03-08T20:00:00-04:00",
        ),
        (
            "America/New_York",
            "2026-10-26",
            "2026-10-25T20:00:00-04:00",
            "2026-11-01T19:00:00-05:00",
        ),
        ("Asia/Kolkata", "2026-03-02", "2026-03-02T05:30:00+05:30", "2026-03-09T05:30:00+05:30"),
        # A leap day, on the far side of the date line.
        (
            "Pacific/Kiritimati",
            "2028-02-28",
            "2028-02-28T14:00:00+14:00",
            "2028-03-06T14:00:00+14:00",
        ),
    ],
)
def test_a_week_is_168_hours_whatever_the_experts_clock_does(
    zone: str, week: str, starts: str, ends: str
) -> None:
    period = Period(date.fromisoformat(week))
    assert period.ends_at - period.starts_at == timedelta(hours=168)
    assert period.starts_at.astimezone(ZoneInfo(zone)).isoformat() == starts
    assert period.ends_at.astimezone(ZoneInfo(zone)).isoformat() == ends


def test_the_calendar_shows_every_edge_on_the_experts_own_clock(
    db: Session, web: TestClient[Any]
) -> None:
    me = make_caller(db, web, Part.EXPERT)
    create_profile(db, me.person_id, Profile(timezone="America/New_York"), at=AT)
    db.commit()
    found = me.get("/v1/pay-calendar?day=2026-03-08").json()
    assert (found["week"], found["timezone"]) == ("2026-03-02", "America/New_York")
    assert found["ends"] == {
        "utc": "2026-03-09T00:00:00Z",
        "local": "2026-03-08T20:00:00-04:00",
    }
    assert found["locks"]["utc"] == "2026-03-09T12:00:00Z"
    assert found["review_ends"]["utc"] == "2026-03-11T12:00:00Z"
    assert found["paid"]["local"] == "2026-03-11T14:00:00-04:00"


# Over HTTP ----------------------------------------------------------------------------------------


def test_a_lab_approves_lines_of_its_own_and_the_expert_reads_each_minute(
    db: Session, web: TestClient[Any]
) -> None:
    lab, other = make_caller(db, web, Part.LAB), make_caller(db, web, Part.LAB)
    me = make_caller(db, web, Part.EXPERT)
    create_profile(db, me.person_id, Profile(timezone="Asia/Kolkata"), at=AT, tier="T1")
    project = make_project(db, lab.organisation_id)
    offer = make_active_offer(db, project, make_task(db, project), me.person_id)
    work_on(db, offer, AT, HOUR)
    end_offer(db, offer)
    (line,) = accrue_earning(db, offer.id, at=AT)
    db.commit()
    (waiting,) = lab.get("/v1/hours").json()["items"]
    assert (waiting["pay_minor"], waiting["state"]) == (2200, "accrued")
    assert waiting["review_until"] == "2026-03-11T12:00:00Z"
    assert other.get("/v1/hours").json()["items"] == []
    assert me.get("/v1/earnings/balance").json()[0]["in_review"]["amount_minor"] == 2200
    mine = me.get(f"/v1/earnings/{waiting['id']}").json()
    assert mine["what_next"].startswith("The lab can look at it until 2026-03-11 12:00 UTC")
    (minutes,) = mine["minutes"]
    assert minutes["starts"] == {
        "utc": "2026-03-02T09:00:00Z",
        "local": "2026-03-02T14:30:00+05:30",
    }
    assert (minutes["paid_s"], minutes["state"]) == (HOUR, "locked")
    body = {"line_ids": [waiting["id"]]}
    refused = other.post("/v1/hours/approve", json=body)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert me.post("/v1/hours/approve", json=body).status_code == 403
    assert lab.post("/v1/hours/approve", json=body).json() == {"approved": [waiting["id"]]}
    assert lab.post("/v1/hours/approve", json=body).json() == {"approved": []}
    mine = me.get(f"/v1/earnings/{waiting['id']}").json()
    assert mine["what_next"].startswith("It is approved, and goes out with the payouts of")
    assert mine["minutes"][0]["state"] == "payable"
    assert line.id
