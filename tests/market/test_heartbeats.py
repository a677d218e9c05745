"""Time on the server's clock: what heartbeats pay, and what changes nothing."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import StateChange
from market.heartbeats.actions import beat
from market.offers.models import Offer
from market.work.actions import (
    end_session,
    pause_session,
    resume_session,
    start_session,
)
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.rules import (
    DAY_CAP_S,
    GAP_S,
    QUIET_S,
    FromTheFuture,
    Room,
    SessionAlreadyOpen,
    SessionNotFound,
    SessionNotOpen,
    TimeTaken,
    monday_of,
    pieces,
)
from tests.factories import (
    AT,
    make_expert,
    make_offer,
    make_project,
    make_task,
)


def after(seconds: float, since: datetime = AT) -> datetime:
    """A moment of the test's day."""
    return since + timedelta(seconds=seconds)


@pytest.fixture
def offer(db: Session) -> Offer:
    """An accepted offer of four hours at most."""
    return make_offer(db, make_task(db, make_project(db)), make_expert(db).id)


def work(db: Session, offer: Offer, seconds: int, *, start: datetime = AT) -> WorkSession:
    """Work on an offer for some time, with a heartbeat each 30 seconds, and stop."""
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=start)
    for seq, offset in enumerate(range(30, seconds, 30), start=1):
        at = after(offset, start)
        beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=at)
    return end_session(db, row.id, expert_id=offer.expert_id, at=after(seconds, start))


# The property -------------------------------------------------------------------------------------


class Proof(NamedTuple):
    """A heartbeat as a test sends it: when, and whether anything was done."""

    at_s: int
    is_active: bool


class Sent(NamedTuple):
    """A delivery: when it arrives, under which number."""

    at_s: int
    seq: int
    is_active: bool


def expected_s(proofs: list[Proof]) -> int:
    """What some proofs pay, said in another way than the service computes it.

    A second is paid when it lies between two proofs at most 90 seconds apart, and within ten
    minutes after some activity. The start of a session is an activity.
    """
    chain = [Proof(0, True), *proofs]
    active = [proof.at_s for proof in chain if proof.is_active]
    paid = 0
    for left, right in pairwise(chain):
        if right.at_s - left.at_s <= GAP_S:
            paid += sum(
                any(moment <= second < moment + QUIET_S for moment in active)
                for second in range(left.at_s, right.at_s)
            )
    return paid


@st.composite
def proofs_of_a_session(draw: st.DrawFn) -> list[Proof]:
    """Heartbeats with gaps from one second to several minutes, some of them quiet for long."""
    gaps = draw(st.lists(st.integers(1, 110), min_size=1, max_size=22))
    is_quiet = draw(st.booleans())
    at_s, found = 0, []
    for gap in gaps:
        at_s += gap
        active = draw(st.integers(0, 9)) == 0 if is_quiet else draw(st.booleans())
        found.append(Proof(at_s, active))
    return found


@st.composite
def told_otherwise(draw: st.DrawFn, proofs: list[Proof]) -> list[Sent]:
    """The same work, split, merged, repeated and out of order, as the rules allow it.

    Split: a quiet heartbeat more inside an interval that is paid. Merge: a quiet heartbeat less
    where the two around it are near enough. Repeat: an old number again. Reorder: a number that
    arrives after a later one.
    """
    kept: list[Proof] = [Proof(0, True)]
    for nth, proof in enumerate(proofs):
        gap = proof.at_s - kept[-1].at_s
        if gap <= GAP_S and gap > 1 and draw(st.booleans()):
            kept.append(Proof(kept[-1].at_s + draw(st.integers(1, gap - 1)), False))
        following = proofs[nth + 1] if nth + 1 < len(proofs) else None
        near = following is not None and following.at_s - kept[-1].at_s <= GAP_S
        if near and not proof.is_active and draw(st.booleans()):
            continue
        kept.append(proof)
    sent: list[Sent] = []
    seq = 0
    for proof in kept[1:]:
        # Numbers may leave gaps: one that is missing arrives later, or never.
        seq += draw(st.integers(1, 3))
        sent.append(Sent(proof.at_s, seq, proof.is_active))
        for _ in range(draw(st.integers(0, 2))):
            late = draw(st.integers(1, seq))
            sent.append(Sent(proof.at_s, late, draw(st.booleans())))
    return sent


def paid_by(db: Session, offer: Offer, sent: list[Sent], ends_s: int) -> tuple[int, int, int]:
    """Send heartbeats, stop, and undo it all: paid seconds, capped seconds, seconds in entries."""
    with db.begin_nested() as attempt:
        row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
        for one in sent:
            beat(
                db,
                row.id,
                expert_id=offer.expert_id,
                seq=one.seq,
                is_active=one.is_active,
                at=after(one.at_s),
            )
        end_session(db, row.id, expert_id=offer.expert_id, at=after(ends_s))
        entries = db.scalar(
            select(func.coalesce(func.sum(TimeEntry.seconds), 0)).where(
                TimeEntry.session_id == row.id
            )
        )
        found = (row.paid_s, row.capped_s, int(entries or 0))
        attempt.rollback()
    db.expire_all()
    return found


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_splitting_merging_repeating_and_reordering_heartbeats_changes_no_paid_second(
    db: Session, offer: Offer, data: st.DataObject
) -> None:
    proofs = data.draw(proofs_of_a_session())
    told = data.draw(told_otherwise(proofs))
    plain = [Sent(proof.at_s, nth, proof.is_active) for nth, proof in enumerate(proofs, start=1)]
    ends_s = proofs[-1].at_s
    wanted = expected_s(proofs)
    assert paid_by(db, offer, plain, ends_s) == (wanted, 0, wanted)
    assert paid_by(db, offer, told, ends_s) == (wanted, 0, wanted)


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(0, 8 * 86_400),
    length=st.integers(0, 3 * 86_400),
    cuts=st.lists(st.integers(0, 3 * 86_400), max_size=6),
    cap_s=st.integers(0, 150_000),
    used_s=st.integers(0, DAY_CAP_S),
    week_cap_s=st.none() | st.integers(1, 120_000),
    week_used_s=st.integers(0, 60_000),
)
def test_cutting_a_stretch_anywhere_changes_neither_its_seconds_nor_its_pay(
    start: int,
    length: int,
    cuts: list[int],
    cap_s: int,
    used_s: int,
    week_cap_s: int | None,
    week_used_s: int,
) -> None:
    first, last = after(start), after(start + length)
    whole = pieces(first, last, Room(cap_s, used_s, week_cap_s, week_used_s))
    points = sorted({first, last, *(min(last, after(start + cut)) for cut in cuts)})
    paid = total = 0
    by_day: dict[datetime, int] = {first.replace(hour=0, minute=0, second=0): used_s}
    by_week: dict[date, int] = {monday_of(first.date()): week_used_s}
    for left, right in pairwise(points):
        day = left.replace(hour=0, minute=0, second=0)
        used = by_week.get(monday_of(left.date()), 0)
        found = pieces(left, right, Room(cap_s - paid, by_day.get(day, 0), week_cap_s, used))
        for piece in found:
            at_day = piece.starts_at.replace(hour=0, minute=0, second=0)
            by_day[at_day] = by_day.get(at_day, 0) + piece.paid_s
            week = monday_of(piece.starts_at.date())
            by_week[week] = by_week.get(week, 0) + piece.paid_s
        paid += sum(piece.paid_s for piece in found)
        total += sum(piece.seconds for piece in found)
    assert total == sum(piece.seconds for piece in whole) == length
    assert paid == sum(piece.paid_s for piece in whole) <= cap_s
    if week_cap_s is not None:
        assert all(spent <= max(week_cap_s, week_used_s) for spent in by_week.values())
    assert all(spent <= DAY_CAP_S for spent in by_day.values())


# The rules, one by one ----------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "paid"), [(30, 30), (90, 90), (91, 0), (3600, 0)])
def test_two_heartbeats_pay_the_time_between_them_up_to_ninety_seconds(
    db: Session, offer: Offer, gap: int, paid: int
) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(gap))
    assert (found.is_counted, found.figures.paid_s) == (True, paid)


def test_a_repeated_or_late_heartbeat_changes_nothing(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)

    def send(seq: int, at: datetime) -> tuple[bool, int]:
        found = beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=at)
        return found.is_counted, found.figures.paid_s

    assert send(5, after(30)) == (True, 30)
    assert send(5, after(60)) == (False, 30)
    assert send(4, after(60)) == (False, 30)
    # A clock that went back: what it says is older than what is known.
    assert send(6, after(10)) == (False, 30)
    assert send(6, after(60)) == (True, 60)
    assert db.scalar(select(func.count()).select_from(Heartbeat)) == 2


def test_a_heartbeat_from_the_future_is_refused(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    with pytest.raises(FromTheFuture) as refused:
        beat(
            db,
            row.id,
            expert_id=offer.expert_id,
            seq=1,
            is_active=True,
            at=after(30),
            sent_at=after(90),
        )
    assert refused.value.ahead_s == 60
    # A clock that runs a little ahead, or far behind, is nobody's fault.
    for seq, sent_at in ((1, after(34)), (2, after(-86_400))):
        found = beat(
            db,
            row.id,
            expert_id=offer.expert_id,
            seq=seq,
            is_active=True,
            at=after(30),
            sent_at=sent_at,
        )
        assert found.is_counted


def test_ten_quiet_minutes_stop_the_clock_and_activity_starts_it_again(
    db: Session, offer: Offer
) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    found = None
    for seq in range(1, 24):
        at = after(seq * 30)
        found = beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=False, at=at)
        assert found.figures.is_prompted == (seq * 30 >= 300)
    assert found is not None
    assert (found.state, found.figures.paid_s) == ("idle", 600)
    assert found.figures.quiet_from == after(600)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=30, is_active=True, at=after(720))
    assert (found.state, found.figures.paid_s) == ("running", 600)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=31, is_active=True, at=after(750))
    assert found.figures.paid_s == 630
    moves = db.scalars(select(StateChange.action).where(StateChange.subject_id == row.id)).all()
    assert list(moves) == ["go_idle", "wake"]


def test_a_task_of_reading_may_be_quiet_for_fifteen_minutes_and_no_longer(db: Session) -> None:
    task = make_task(db, make_project(db), payload={"instructions": "Read.", "quiet_s": 7200})
    offer = make_offer(db, task, make_expert(db).id)
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    assert row.quiet_s == 900
    for seq in range(1, 34):
        at = after(seq * 30)
        found = beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=False, at=at)
    assert (found.state, found.figures.paid_s) == ("idle", 900)


def test_a_pause_stops_the_clock_and_moves_the_deadline(db: Session, offer: Offer) -> None:
    deadline = offer.lease_until
    assert deadline is not None
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    assert pause_session(db, row.id, expert_id=offer.expert_id, at=after(70)).paused_at == after(60)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(90))
    assert (found.state, found.is_counted, found.figures.paid_s) == ("paused", False, 60)
    resume_session(db, row.id, expert_id=offer.expert_id, at=after(660))
    resume_session(db, row.id, expert_id=offer.expert_id, at=after(660))
    assert offer.lease_until == deadline + timedelta(seconds=600)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=2, is_active=True, at=after(690))
    assert (found.state, found.figures.paid_s) == ("running", 90)


def test_time_beyond_the_cap_is_recorded_unpaid_and_shown_live(db: Session) -> None:
    task = make_task(db, make_project(db))
    offer = make_offer(db, task, make_expert(db).id, cap_s=100)
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(80))
    assert (found.figures.paid_s, found.figures.capped_s, found.figures.cap_left_s) == (80, 0, 20)
    found = beat(db, row.id, expert_id=offer.expert_id, seq=2, is_active=True, at=after(150))
    assert (found.figures.paid_s, found.figures.capped_s, found.figures.cap_left_s) == (100, 50, 0)
    end_session(db, row.id, expert_id=offer.expert_id, at=after(150))
    # A second session on the offer begins where the cap was left.
    again = work(db, offer, 60, start=after(1000))
    assert (again.paid_s, again.capped_s) == (0, 60)
    rows = db.scalars(select(TimeEntry).order_by(TimeEntry.during)).all()
    assert [(entry.seconds, entry.capped_s) for entry in rows] == [(150, 50), (60, 60)]


def test_a_day_pays_twelve_hours_over_all_projects_and_entries_end_at_midnight(
    db: Session,
) -> None:
    expert = make_expert(db)
    offers = [
        make_offer(db, make_task(db, make_project(db, cap_s=20 * 3600)), expert.id, at=AT)
        for _ in range(2)
    ]
    midnight = AT.replace(hour=0) + timedelta(days=1)
    # Eleven hours on one project; then three on another, the last of them on the next day.
    work(db, offers[0], 11 * 3600, start=AT)
    late = work(db, offers[1], 3 * 3600, start=midnight - timedelta(hours=2))
    assert (late.paid_s, late.capped_s) == (2 * 3600, 3600)
    spans = db.scalars(
        select(TimeEntry).where(TimeEntry.session_id == late.id).order_by(TimeEntry.during)
    ).all()
    assert [(entry.seconds, entry.capped_s) for entry in spans] == [(7200, 3600), (3600, 0)]
    assert spans[0].during.upper == midnight


def test_a_session_takes_no_time_that_is_recorded_already(db: Session, offer: Offer) -> None:
    work(db, offer, 300)
    with pytest.raises(TimeTaken):
        start_session(db, offer.id, expert_id=offer.expert_id, at=after(100))
    assert start_session(db, offer.id, expert_id=offer.expert_id, at=after(300)).state == "running"


def test_the_database_refuses_double_time_across_projects(db: Session, offer: Offer) -> None:
    row = work(db, offer, 300)
    entry = db.scalars(select(TimeEntry)).one()
    columns = {
        "id": new_id(),
        "session_id": row.id,
        "offer_id": offer.id,
        "expert_id": offer.expert_id,
        "organisation_id": offer.organisation_id,
        "project_id": offer.project_id,
        "during": entry.during,
        "seconds": entry.seconds,
        "capped_s": 0,
        "recorded_at": AT,
        "state": "recorded",
        "version": 1,
    }
    with pytest.raises(IntegrityError, match="ex_time_entry_expert_id"), db.begin_nested():
        db.execute(insert(TimeEntry), columns)


def test_an_expert_has_one_session_open_at_a_time(db: Session, offer: Offer) -> None:
    other = make_offer(db, make_task(db, make_project(db)), offer.expert_id)
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    with pytest.raises(SessionAlreadyOpen):
        start_session(db, other.id, expert_id=offer.expert_id, at=after(5))
    end_session(db, row.id, expert_id=offer.expert_id, at=after(10))
    assert start_session(db, other.id, expert_id=offer.expert_id, at=after(10)).state == "running"


def test_an_ended_session_takes_no_heartbeat_and_a_strangers_is_not_there(
    db: Session, offer: Offer
) -> None:
    row = work(db, offer, 60)
    assert end_session(db, row.id, expert_id=offer.expert_id, at=after(90)).paid_s == 60
    with pytest.raises(SessionNotOpen):
        beat(db, row.id, expert_id=offer.expert_id, seq=9, is_active=True, at=after(70))
    with pytest.raises(SessionNotFound):
        beat(db, row.id, expert_id=make_expert(db).id, seq=9, is_active=True, at=after(70))
    with pytest.raises(SessionNotFound):
        pause_session(db, new_id(), expert_id=offer.expert_id, at=after(70))
