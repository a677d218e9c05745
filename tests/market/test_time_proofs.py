"""Time computed again from raw heartbeats, caps a week, and pay that no cutting changes."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_earning
from market.heartbeats.actions import beat
from market.offers.models import Offer
from market.pay_tiers.actions import assign_tier
from market.states import StateConflict
from market.time_entries.actions import change_time
from market.time_entries.queries import time_by_proofs, unproven_time
from market.work.actions import end_session, pause_session, resume_session, start_session
from market.work.models import TimeEntry, WorkSession
from market.work.queries import figures
from market.work.rules import DAY_CAP_S, OPEN_SESSIONS
from tests.factories import AT, make_expert, make_project, make_task
from tests.market.earned import end_offer, make_active_offer
from tests.market.test_heartbeats import Proof, proofs_of_a_session, told_otherwise
from tests.market.test_heartbeats import Sent as Delivery

SUNDAY = datetime(2026, 3, 8, 23, 50, tzinfo=UTC)
"""Ten minutes before a week ends by UTC."""

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def make_worked(db: Session, **terms: Any) -> Offer:
    """An active offer at the expert's tier."""
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    project = make_project(db, **terms)
    return make_active_offer(db, project, make_task(db, project), expert.id)


def work_steadily(db: Session, offer: Offer, start: datetime, seconds: int) -> WorkSession:
    """One session with a heartbeat each minute."""
    who = offer.expert_id
    row = start_session(db, offer.id, expert_id=who, at=start)
    for seq, offset in enumerate(range(60, seconds, 60), start=1):
        at = start + timedelta(seconds=offset)
        beat(db, row.id, expert_id=who, seq=seq, is_active=True, at=at)
    return end_session(db, row.id, expert_id=who, at=start + timedelta(seconds=seconds))


def differences(db: Session, offer: Offer) -> list[object]:
    return [one for one in time_by_proofs(db, offer.expert_id) if not one.is_equal]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 400),
            st.sampled_from(["beat", "beat", "beat", "quiet", "stale", "pause", "resume", "cut"]),
        ),
        min_size=1,
        max_size=25,
    ),
    cap_s=st.sampled_from([400, 1500, 14_400]),
    week_cap_s=st.none() | st.integers(60, 1200),
    overtime_after_s=st.none() | st.integers(30, 900),
)
def test_recorded_time_is_what_its_raw_heartbeats_give(
    db: Session,
    steps: list[tuple[int, str]],
    cap_s: int,
    week_cap_s: int | None,
    overtime_after_s: int | None,
) -> None:
    # Overtime begins before pay ends, or never.
    if overtime_after_s is not None and overtime_after_s >= (week_cap_s or cap_s):
        overtime_after_s = None
    with db.begin_nested() as attempt:
        offer = make_worked(
            db,
            cap_s=cap_s,
            weekly_cap_s=week_cap_s,
            overtime_after_s=overtime_after_s,
            overtime_basis_points=overtime_after_s and 15_000,
        )
        at, who = SUNDAY, offer.expert_id
        row = start_session(db, offer.id, expert_id=who, at=at)
        for seq, (gap, step) in enumerate(steps, start=1):
            at += timedelta(seconds=gap)
            if step == "pause":
                pause_session(db, row.id, expert_id=who, at=at)
            elif step == "resume":
                # Who went quiet has to wake instead; a refusal leaves the record as it was.
                with suppress(StateConflict), db.begin_nested():
                    resume_session(db, row.id, expert_id=who, at=at)
            elif step == "cut":
                end_session(db, row.id, expert_id=who, at=at)
                row = start_session(db, offer.id, expert_id=who, at=at)
            else:
                number = 1 if step == "stale" else seq
                beat(db, row.id, expert_id=who, seq=number, is_active=step != "quiet", at=at)
        end_session(db, row.id, expert_id=who, at=at + timedelta(seconds=30))
        assert differences(db, offer) == []
        attempt.rollback()
    db.expire_all()


def paid_lines(
    db: Session, offer: Offer, start: datetime, sent: list[Delivery], cuts: set[int], ends_s: int
) -> dict[tuple[str, int], tuple[int, int]]:
    """Work as told, stop at some proofs and begin again in the same second, credit it, and undo it
    all: seconds and pay by week and rate.
    """
    who = offer.expert_id
    with db.begin_nested() as attempt:
        row = start_session(db, offer.id, expert_id=who, at=start)
        for nth, one in enumerate(sent):
            at = start + timedelta(seconds=one.at_s)
            seq, active = one.seq, one.is_active
            beat(db, row.id, expert_id=who, seq=seq, is_active=active, at=at)
            # A new session counts as an activity, so a cut is no difference where there was one.
            if nth in cuts and active and nth + 1 < len(sent) and row.state in OPEN_SESSIONS:
                last = db.get_one(WorkSession, row.id, populate_existing=True)
                if last.last_active_at == at:
                    end_session(db, row.id, expert_id=who, at=at)
                    row = start_session(db, offer.id, expert_id=who, at=at)
        end_session(db, row.id, expert_id=who, at=start + timedelta(seconds=ends_s))
        assert differences(db, offer) == []
        end_offer(db, offer)
        lines: dict[tuple[str, int], tuple[int, int]] = {}
        for line in accrue_earning(db, offer.id, at=start + timedelta(days=1)):
            lines[line.week.isoformat(), line.rate_minor_per_hour] = (line.seconds, line.pay_minor)
        attempt.rollback()
    db.expire_all()
    return lines


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_splitting_merging_reordering_or_repeating_heartbeats_changes_pay_by_nothing(
    db: Session, data: st.DataObject
) -> None:
    proofs: list[Proof] = data.draw(proofs_of_a_session())
    told = data.draw(told_otherwise(proofs))
    cuts = data.draw(st.sets(st.integers(0, len(told))))
    promoted_s = data.draw(st.integers(1, 1500))
    plain = [Delivery(one.at_s, nth, one.is_active) for nth, one in enumerate(proofs, start=1)]
    ends_s = proofs[-1].at_s
    with db.begin_nested() as attempt:
        offer = make_worked(db)
        # The rate changes, and so does the week, somewhere in between.
        raised = SUNDAY + timedelta(seconds=promoted_s)
        assign_tier(db, offer.expert_id, "T3", at=raised, reason="did well")
        wanted = paid_lines(db, offer, SUNDAY, plain, set(), ends_s)
        found = paid_lines(db, offer, SUNDAY, told, cuts, ends_s)
        attempt.rollback()
    db.expire_all()
    assert found == wanted


def test_a_record_that_its_heartbeats_do_not_give_is_found(db: Session) -> None:
    offer = make_worked(db)
    work_steadily(db, offer, AT, 600)
    assert unproven_time(db) == []
    # An entry keeps its bounds equal to its seconds; what is paid of them could be wrong.
    db.execute(update(TimeEntry).values(capped_s=200))
    (found,) = unproven_time(db)
    assert found.endswith("its proofs pay 600 s, recorded are 400 s")


def test_time_taken_out_frees_the_day_and_the_record_still_agrees(db: Session) -> None:
    offer = make_worked(db, cap_s=20 * 3600)
    work_steadily(db, offer, AT, DAY_CAP_S)
    (entry,) = db.query(TimeEntry).filter(TimeEntry.offer_id == offer.id)
    noon = AT + timedelta(seconds=DAY_CAP_S + 60)
    change_time(db, entry.id, "void", actor_id=offer.expert_id, at=noon)
    row = work_steadily(db, offer, noon + timedelta(seconds=60), 600)
    assert (row.paid_s, row.capped_s) == (600, 0)
    assert differences(db, offer) == []


def test_time_past_the_cap_of_a_week_is_recorded_unpaid_and_shown_live(db: Session) -> None:
    offer = make_worked(db, cap_s=4 * 3600, weekly_cap_s=1200)
    who = offer.expert_id
    row = start_session(db, offer.id, expert_id=who, at=AT)
    assert (figures(row).left_s, figures(row).is_near_cap) == (1200, False)
    for seq in range(1, 26):
        at = AT + timedelta(seconds=60 * seq)
        pulse = beat(db, row.id, expert_id=who, seq=seq, is_active=True, at=at)
        assert pulse.figures.left_s == max(0, 1200 - 60 * seq)
        # Ten minutes before it, the expert is told.
        assert pulse.figures.is_near_cap is (seq >= 10)
    row = end_session(db, row.id, expert_id=who, at=AT + timedelta(seconds=1500))
    assert (row.paid_s, row.capped_s) == (1200, 300)
    assert figures(row).cap_left_s == 4 * 3600 - 1200
    assert differences(db, offer) == []


def test_a_weeks_cap_begins_anew_on_monday_by_utc(db: Session) -> None:
    offer = make_worked(db, cap_s=4 * 3600, weekly_cap_s=300)
    row = work_steadily(db, offer, SUNDAY, 1200)
    assert (row.paid_s, row.capped_s) == (600, 600)
    (sunday, monday) = (
        db.query(TimeEntry).filter(TimeEntry.offer_id == offer.id).order_by(TimeEntry.during)
    )
    assert (sunday.paid_s, monday.paid_s) == (300, 300)
    assert differences(db, offer) == []


def test_an_expert_reads_its_time_beside_what_its_heartbeats_prove(
    db: Session, web: TestClient[Any]
) -> None:
    from tests.factories import make_caller

    me, other = make_caller(db, web, Part.EXPERT), make_caller(db, web, Part.EXPERT)
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db, rate_minor_per_hour=3000)
    from market.experts.actions import create_profile
    from market.experts.rules import Profile

    create_profile(db, me.person_id, Profile(), at=AT)
    offer = make_active_offer(db, project, make_task(db, project), me.person_id)
    row = work_steadily(db, offer, AT, 600)
    db.commit()
    found = me.get("/v1/time/proofs").json()
    assert found["is_equal"] is True
    assert found["items"] == [
        {
            "session_id": f"ses_{row.id.hex}",
            "starts_at": "2026-03-02T09:00:00Z",
            "ends_at": "2026-03-02T09:10:00Z",
            "proven_s": 600,
            "recorded_s": 600,
        }
    ]
    assert other.get("/v1/time/proofs").json()["items"] == []
    path = f"/v1/time/proofs?expert_id=per_{me.person_id.hex}"
    assert len(ops.get(path).json()["items"]) == 1
    assert other.get(path).status_code == 403
    assert ops.get("/v1/time/proofs").json()["items"] == []
