"""Time that a deadline waits for: pauses, quiet times, and the grace of who may not go on."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, database
from market.earnings.models import Earning
from market.events import Event, EventRow
from market.heartbeats.actions import beat, warn_session
from market.heartbeats.jobs import warn_quiet_sessions
from market.heartbeats.queries import quiet_sessions
from market.inbox.rules import NOTICES
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.rules import LeaseLost
from market.schedule import TIMETABLE
from market.standings.actions import change_standing
from market.submissions.actions import leave_offer, submit_work
from market.submissions.queries import left_offers
from market.work.actions import (
    end_session,
    lose_session,
    pause_session,
    resume_session,
    start_session,
)
from market.work.models import WorkSession
from market.work.queries import deadline
from market.work.rules import MAX_PAUSE_S, PAUSE_BUDGET_S, PROMPT_S
from tests.factories import AT, key_for, make_expert, make_offer, make_project, make_task


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


@pytest.fixture
def offer(db: Session) -> Offer:
    return make_offer(db, make_task(db, make_project(db)), make_expert(db).id)


def due(offer: Offer) -> datetime:
    assert offer.lease_until is not None
    return offer.lease_until


def working(db: Session, offer: Offer, at: datetime = AT) -> WorkSession:
    return start_session(db, offer.id, expert_id=offer.expert_id, at=at)


def events(db: Session, kind: Event) -> list[EventRow]:
    return list(db.scalars(select(EventRow).where(EventRow.type == kind.value)))


# Pauses -------------------------------------------------------------------------------------------


def test_a_deadline_waits_to_the_second_while_its_expert_pauses(db: Session, offer: Offer) -> None:
    usual = due(offer)
    row = working(db, offer)
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    seen = deadline(db, offer, at=after(127))
    assert (seen.due_at, seen.is_paused) == (usual + timedelta(seconds=67), True)
    assert seen.pause_left_s == PAUSE_BUDGET_S - 67
    resume_session(db, row.id, expert_id=offer.expert_id, at=after(127))
    seen = deadline(db, offer, at=after(500))
    assert (seen.due_at, seen.is_paused) == (usual + timedelta(seconds=67), False)
    assert seen.pause_left_s == PAUSE_BUDGET_S - 67


@pytest.mark.parametrize("ends_by", ["stopping", "being away"])
def test_a_pause_that_is_never_resumed_moves_the_deadline_too(
    db: Session, offer: Offer, ends_by: str
) -> None:
    usual = due(offer)
    row = working(db, offer)
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    at = after(60 + MAX_PAUSE_S + 1)
    if ends_by == "stopping":
        end_session(db, row.id, expert_id=offer.expert_id, at=at)
    else:
        assert lose_session(db, row.id, at=at)
    assert due(offer) == usual + timedelta(seconds=MAX_PAUSE_S + 1)
    assert row.paused_s == MAX_PAUSE_S + 1


def test_all_pauses_of_an_offer_share_one_budget(db: Session, offer: Offer) -> None:
    usual, start = due(offer), AT
    for _ in range(3):
        row = working(db, offer, start)
        pause_session(db, row.id, expert_id=offer.expert_id, at=start + timedelta(seconds=30))
        start += timedelta(seconds=30 + MAX_PAUSE_S)
        end_session(db, row.id, expert_id=offer.expert_id, at=start)
    assert due(offer) == usual + timedelta(seconds=PAUSE_BUDGET_S)
    assert deadline(db, offer, at=start).pause_left_s == 0
    late = working(db, offer, start)
    pause_session(db, late.id, expert_id=offer.expert_id, at=due(offer) - timedelta(seconds=9))
    with pytest.raises(LeaseLost):
        resume_session(db, late.id, expert_id=offer.expert_id, at=due(offer))


def test_grace_waits_for_a_pause_and_then_goes_on(db: Session, offer: Offer) -> None:
    row = working(db, offer)
    offer.state, offer.lease_until = "grace", after(600)
    db.flush()
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(300))
    assert left_offers(db, at=after(700), limit=9) == []
    assert not leave_offer(db, offer.id, at=after(700))
    resume_session(db, row.id, expert_id=offer.expert_id, at=after(800))
    assert due(offer) == after(1100)
    assert left_offers(db, at=after(1100), limit=9) == [offer.id]
    assert leave_offer(db, offer.id, at=after(1100))


# Quiet times --------------------------------------------------------------------------------------


def beats(db: Session, row: WorkSession, until: int, *, is_active: bool, first: int = 1) -> None:
    for seq in range(first, until // 30 + 1):
        beat(db, row.id, expert_id=row.expert_id, seq=seq, is_active=is_active, at=after(seq * 30))


def test_a_quiet_expert_is_asked_once_before_its_clock_stops(db: Session, offer: Offer) -> None:
    row = working(db, offer)
    beats(db, row, PROMPT_S, is_active=False)
    assert quiet_sessions(db, at=after(PROMPT_S - 1), limit=9) == []
    assert not warn_session(db, row.id, at=after(PROMPT_S - 1))
    assert quiet_sessions(db, at=after(PROMPT_S), limit=9) == [row.id]
    assert warn_session(db, row.id, at=after(PROMPT_S))
    assert not warn_session(db, row.id, at=after(PROMPT_S + 30))
    assert quiet_sessions(db, at=after(PROMPT_S + 30), limit=9) == []
    (told,) = events(db, Event.SESSION_IDLE_WARNING)
    assert (told.subject_id, told.person_id) == (row.id, offer.expert_id)
    assert told.data == {"stops_at": after(600).isoformat()}
    # Once more, when it went on and became quiet again.
    beat(db, row.id, expert_id=row.expert_id, seq=99, is_active=True, at=after(PROMPT_S + 60))
    at = after(2 * PROMPT_S + 60)
    db.expire_all()
    row.last_beat_at = at
    db.flush()
    assert warn_session(db, row.id, at=at)
    assert {"session.idle", "session.idle_warning"} <= set(NOTICES)
    assert any(one.job is warn_quiet_sessions for one in TIMETABLE)


def test_a_clock_that_stops_for_quiet_says_so(db: Session, offer: Offer) -> None:
    row = working(db, offer)
    beats(db, row, 660, is_active=False)
    assert row.state == "idle"
    (told,) = events(db, Event.SESSION_IDLE)
    assert (told.subject_id, told.person_id) == (row.id, offer.expert_id)


# Access that ends in the middle -------------------------------------------------------------------


def test_who_loses_access_in_the_middle_may_finish_and_is_paid(
    db: Session, offer: Offer, react: Callable[[], list[str]]
) -> None:
    row = working(db, offer)
    beats(db, row, 600, is_active=True)
    for step in ("watch", "limit", "suspend"):
        change_standing(
            db, offer.expert_id, step, at=after(600), reason_code="q", note="n", evidence=["1"]
        )
    assert "withdraw_expert_offers" in react()
    assert any_offer(db, offer.id).state == "grace"
    # The session goes on, stops and starts again, and the work is handed in as far as it came.
    beats(db, row, 900, is_active=True, first=21)
    end_session(db, row.id, expert_id=offer.expert_id, at=after(900))
    again = working(db, offer, after(1000))
    end_session(db, again.id, expert_id=offer.expert_id, at=after(1060))
    handed = submit_work(
        db, offer.id, expert_id=offer.expert_id, payload={"part": 1}, at=after(1100)
    )
    assert (any_offer(db, offer.id).state, handed.state) == ("completed", "awaiting_review")


def test_who_loses_access_and_hands_nothing_in_is_paid_for_its_minutes(
    db: Session, offer: Offer, react: Callable[[], list[str]]
) -> None:
    row = working(db, offer)
    beats(db, row, 600, is_active=True)
    for step in ("watch", "limit", "suspend"):
        change_standing(
            db, offer.expert_id, step, at=after(600), reason_code="q", note="n", evidence=["1"]
        )
    react()
    found = any_offer(db, offer.id)
    db.refresh(found)
    assert leave_offer(db, offer.id, at=due(found) + timedelta(seconds=1))
    react()
    earned = db.scalars(select(Earning).where(Earning.expert_id == offer.expert_id)).all()
    assert sum(one.seconds for one in earned) == 600


# Over HTTP ----------------------------------------------------------------------------------------


def test_an_expert_reads_its_deadline_to_the_second(
    db: Session, web: TestClient[Any], offer: Offer
) -> None:
    offer.lease_until = datetime.now(AT.tzinfo) + timedelta(hours=5)
    me = key_for(db, web, offer.expert_id, Part.EXPERT)
    other = key_for(db, web, make_expert(db).id, Part.EXPERT)
    path = f"/v1/offers/ofr_{offer.id.hex}"
    begun = me.post(f"{path}/sessions")
    assert begun.status_code == 201, begun.text
    session_id = begun.json()["id"]
    assert me.post(f"/v1/sessions/{session_id}/pause").status_code == 200
    told = me.get(f"{path}/deadline").json()
    assert (told["is_paused"], told["state"]) == (True, "active")
    assert PAUSE_BUDGET_S - 600 < told["pause_left_s"] <= PAUSE_BUDGET_S
    assert 4 * 3600 < told["left_s"] <= 5 * 3600
    assert me.post(f"/v1/sessions/{session_id}/stop").json()["state"] == "ended"
    with database.begin(PLATFORM) as session:
        assert not deadline(session, any_offer(session, offer.id), at=after(0)).is_paused
    assert other.get(f"{path}/deadline").status_code == 404
