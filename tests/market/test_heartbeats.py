"""Time on the server's clock: what heartbeats pay, and what changes nothing."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, database, new_id
from market.events import StateChange
from market.offers.actions import withdraw_offer
from market.offers.models import Offer
from market.states import Machine
from market.submissions.actions import leave_offer, save_draft
from market.submissions.models import Submission
from market.submissions.queries import left_offers
from market.submissions.rules import SUBMISSION
from market.work.actions import (
    beat,
    confirm_time,
    end_session,
    lose_session,
    pause_session,
    resume_session,
    start_session,
)
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.queries import figures, stale_sessions
from market.work.rules import (
    DAY_CAP_S,
    GAP_S,
    LOST_S,
    MAX_PAUSE_S,
    QUIET_S,
    SESSION,
    TIME_ENTRY,
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
    Caller,
    key_for,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
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


# What becomes of sessions by themselves -----------------------------------------------------------


def test_a_session_without_heartbeats_is_lost_and_paid_to_its_last_proof(
    db: Session, offer: Offer
) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(45))
    assert stale_sessions(db, at=after(45 + LOST_S), limit=9) == []
    late = after(46 + LOST_S)
    assert stale_sessions(db, at=late, limit=9) == [row.id]
    assert lose_session(db, row.id, at=late)
    assert not lose_session(db, row.id, at=late)
    assert (row.state, row.paid_s, row.stretch_at) == ("aborted", 45, None)


def test_a_pause_that_lasts_too_long_ends_the_session(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    assert stale_sessions(db, at=after(60 + MAX_PAUSE_S), limit=9) == []
    assert lose_session(db, row.id, at=after(61 + MAX_PAUSE_S))
    assert (row.state, row.paid_s) == ("ended", 60)


def test_an_offer_whose_expert_left_is_abandoned_and_its_minutes_stay_owed(
    db: Session, offer: Offer
) -> None:
    work(db, offer, 120)
    save_draft(db, offer.id, expert_id=offer.expert_id, payload={"so": "far"}, at=AT)
    assert offer.lease_until is not None
    assert left_offers(db, at=offer.lease_until, limit=9) == []
    late = offer.lease_until + timedelta(minutes=16)
    assert left_offers(db, at=late, limit=9) == [offer.id]
    assert leave_offer(db, offer.id, at=late)
    assert not leave_offer(db, offer.id, at=late)
    assert offer.state == "abandoned"
    assert db.scalars(select(Submission.state)).one() == "timed_out"
    owed = db.scalar(
        text("select data ->> 'owes_time' from market.event where type = 'offer.abandoned'")
    )
    assert owed == "true"


def test_grace_that_is_over_ends_the_work_and_owes_its_minutes(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    for seq in (1, 2, 3, 4):
        at = after(30 * seq)
        beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=at)
    at = AT + timedelta(seconds=130)
    withdraw_offer(db, offer.id, reason="project_ended", grace=timedelta(hours=48), at=at)
    assert offer.state == "grace"
    over = at + timedelta(hours=48)
    assert left_offers(db, at=over - timedelta(seconds=1), limit=9) == []
    assert not leave_offer(db, offer.id, at=over - timedelta(seconds=1))
    assert left_offers(db, at=over, limit=9) == [offer.id]
    assert leave_offer(db, offer.id, at=over)
    assert offer.state == "abandoned"
    told = db.execute(
        text(
            "select s.reason_code, e.data ->> 'owes_time' as owes from market.state_change s"
            " join market.event e on e.id = s.event_id where s.to_state = 'abandoned'"
        )
    ).one()
    assert tuple(told) == ("grace_over", "true")
    assert db.scalars(select(WorkSession.state)).one() == "ended"


def test_recorded_time_is_confirmed_when_two_days_have_passed(db: Session, offer: Offer) -> None:
    work(db, offer, 120)
    later = AT + timedelta(hours=49)
    assert confirm_time(db, recorded_before=AT, at=later, limit=9) == 0
    assert confirm_time(db, recorded_before=AT + timedelta(hours=1), at=later, limit=9) == 1
    assert confirm_time(db, recorded_before=AT + timedelta(hours=1), at=later, limit=9) == 0
    assert db.scalars(select(TimeEntry.state)).one() == "confirmed"


# The database -------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [SESSION, TIME_ENTRY, SUBMISSION], ids=lambda m: m.name)
def test_the_database_lets_through_what_the_rules_list(db: Session, machine: Machine) -> None:
    assert pairs_in_database(db, machine) == machine.pairs()


def test_a_heartbeat_is_never_changed(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(30))
    for change in ("update market.heartbeat set seq = 2", "delete from market.heartbeat"):
        with pytest.raises(DBAPIError), db.begin_nested():
            db.execute(text(change))


def test_a_heartbeat_of_someone_at_work_is_one_statement(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    db.flush()
    statements: list[str] = []
    connection = db.connection()

    def note(*given: object) -> None:
        statements.append(str(given[2]))

    event.listen(connection, "before_cursor_execute", note)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(30))
    event.remove(connection, "before_cursor_execute", note)
    assert len(statements) == 1, statements


# Over HTTP ----------------------------------------------------------------------------------------


class Running(NamedTuple):
    """An expert's caller, and the session that it has open."""

    expert: Caller
    session_id: UUID


@pytest.fixture
def running(db: Session, web: TestClient[Any], offer: Offer) -> Running:
    """An expert's caller and its session, begun a minute ago."""
    began = datetime.now(UTC) - timedelta(seconds=60)
    offer.lease_until = began + timedelta(days=1)
    db.flush()
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=began)
    db.commit()
    return Running(key_for(db, web, offer.expert_id, Part.EXPERT), row.id)


def test_an_expert_sees_its_seconds_with_each_heartbeat(running: Running) -> None:
    expert, session_id = running
    path = f"/v1/sessions/ses_{session_id.hex}"
    answer = expert.post(f"{path}/heartbeats", json={"seq": 1, "is_active": True})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["is_counted"]
    assert 60 <= body["paid_s"] <= 75
    again = expert.post(f"{path}/heartbeats", json={"seq": 1, "is_active": True}).json()
    assert (again["is_counted"], again["paid_s"]) == (False, body["paid_s"])
    seen = expert.get(path).json()
    assert (seen["state"], seen["last_seq"], seen["paid_s"]) == ("running", 1, body["paid_s"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"seq": 0, "is_active": True}, 422, "invalid_body"),
        ({"seq": 2**60, "is_active": True}, 422, "invalid_body"),
        ({"seq": "one", "is_active": True}, 422, "invalid_body"),
        ({"seq": 1}, 422, "invalid_body"),
        ({"seq": 1, "is_active": "yes"}, 422, "invalid_body"),
        ({"seq": 1, "is_active": True, "paid_s": 9999}, 422, "invalid_body"),
        (
            {"seq": 1, "is_active": True, "sent_at": "2099-01-01T00:00:00Z"},
            422,
            "from_the_future",
        ),
        ({"seq": 1, "is_active": True, "sent_at": "2026-01-01T00:00:00"}, 422, "invalid_body"),
    ],
)
def test_a_heartbeat_that_does_not_fit_is_refused_in_words(
    running: Running, body: dict[str, object], status: int, code: str
) -> None:
    expert, session_id = running
    answer = expert.post(f"/v1/sessions/ses_{session_id.hex}/heartbeats", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_nobody_beats_for_another(db: Session, web: TestClient[Any], running: Running) -> None:
    _, session_id = running
    stranger = key_for(db, web, make_expert(db).id, Part.EXPERT)
    path = f"/v1/sessions/ses_{session_id.hex}"
    for action in ("heartbeats", "pause", "resume", "stop"):
        body = {"seq": 1, "is_active": True} if action == "heartbeats" else None
        answer = stranger.post(f"{path}/{action}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), action
    assert stranger.get(path).status_code == 404
    for bad in ("ses_1", "ofr_" + session_id.hex, "ses_" + "0" * 32):
        answer = stranger.post(f"/v1/sessions/{bad}/heartbeats", json={"seq": 1, "is_active": True})
        assert answer.status_code == 404


def test_pausing_resuming_and_stopping_over_http(running: Running) -> None:
    expert, session_id = running
    path = f"/v1/sessions/ses_{session_id.hex}"
    states = []
    for action in ("pause", "pause", "resume", "resume", "stop", "stop"):
        answer = expert.post(f"{path}/{action}")
        assert answer.status_code == 200, answer.text
        states.append(answer.json()["state"])
    assert states == ["paused", "paused", "running", "running", "ended", "ended"]
    for action in ("pause", "resume"):
        answer = expert.post(f"{path}/{action}")
        assert (answer.status_code, answer.json()["code"]) == (409, "session_not_open")


def test_an_expert_writes_under_its_own_row_security_only(db: Session, running: Running) -> None:
    _, session_id = running
    expert_id = db.scalars(select(WorkSession.expert_id)).one()
    with database.begin(Scope("stumpwork_expert", new_id())) as session:
        assert session.scalars(select(WorkSession)).all() == []
        with pytest.raises(SessionNotFound):
            beat(session, session_id, expert_id=expert_id, seq=1, is_active=True, at=AT)
    with database.begin(Scope("stumpwork_lab", new_id())) as session:
        assert session.scalars(select(TimeEntry)).all() == []


def test_what_a_session_shows_live_is_what_it_records(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    for seq in range(1, 10):
        beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=after(seq * 40))
    db.refresh(row)
    live = figures(row)
    end_session(db, row.id, expert_id=offer.expert_id, at=after(360))
    assert (row.paid_s, row.capped_s, row.cap_left_s) == (
        live.paid_s,
        live.capped_s,
        live.cap_left_s,
    )
    assert live.paid_s == 360
