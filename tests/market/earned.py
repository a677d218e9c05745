"""Offers with time on them, as rows: what pay is made of."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.candidates.rules import pay_lines
from market.db import new_id
from market.events import StateChange
from market.experts.queries import rate_spans
from market.offers.models import Offer
from market.offers.rules import Terms, reservation_key
from market.projects.models import Project
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.rules import GAP_S, by_day, seconds_between
from payouts import chart
from payouts.ledger import Line, reserve
from payouts.pay import worst_case_minor
from tests.factories import AT


def make_active_offer(
    db: Session,
    project: Project,
    task: Task,
    expert_id: UUID,
    *,
    at: datetime = AT,
    rate_minor_per_hour: int | None = None,
    reserved_s: int | None = None,
) -> Offer:
    """An active offer with its terms frozen and its money reserved; `reserved_s` instead of the cap
    when less is to be reserved.
    """
    own = project.rate_minor_per_hour
    rate = rate_minor_per_hour or own
    if rate is None:
        now = rate_spans(db, expert_id, project.currency, at, at + timedelta(seconds=1))
        rate = now[0].rate_minor_per_hour
    terms = Terms(
        project_id=str(project.id),
        project_name=project.name,
        project_version=project.version,
        round=project.round,
        domain=task.domain,
        complexity=1,
        currency=project.currency,
        rate_minor_per_hour=rate,
        rate_from="tier" if own is None else "project",
        tier="T1" if own is None else None,
        cap_s=project.cap_s,
        fee_basis_points=project.fee_basis_points,
        expected_s=task.expected_s,
        expected_pay_minor=1,
        most_pay_minor=1,
        expected_week_s=task.expected_s,
        expected_week_pay_minor=1,
        open_seats=1,
        review_within_s=project.review_ttl_s,
        reviews_per_submission=project.reviews_per_submission,
        work_ttl_s=project.work_ttl_s,
        binding_at=at.isoformat(),
        pay_basis="deliverable" if project.pay_basis == "deliverable" else "hourly",
        deliverable_minor=project.deliverable_minor,
        attempt_fee_minor=project.attempt_fee_minor,
        attempt_fees_max=project.attempt_fees_max,
        impact_bonus_minor=project.impact_bonus_minor,
        weekly_cap_s=project.weekly_cap_s,
        overtime_after_s=project.overtime_after_s,
        overtime_basis_points=project.overtime_basis_points,
    )
    slot = db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).first()
    assert slot is not None
    offer_id = new_id()
    cap_s = project.cap_s if reserved_s is None else reserved_s
    pay, fee = worst_case_minor(cap_s, rate, project.fee_basis_points)
    if reserved_s is None:
        more = pay_lines(project.offer_ttl_s, project.work_ttl_s) - 1
        fixed = (project.deliverable_minor or 0) + (project.attempt_fee_minor or 0) * (
            project.attempt_fees_max
        )
        fixed += project.impact_bonus_minor or 0
        pay, fee = pay + more + fixed, fee + more + fixed // 5 + 2
    budget = chart.project_budget(project.id, project.organisation_id, project.currency)
    lines = [
        Line(budget, chart.owed_to(expert_id, project.currency), pay),
        Line(budget, chart.platform_fee(project.currency), fee),
    ]
    reserve(db, key=reservation_key(offer_id), kind="J3", lines=lines, at=at)
    offer = Offer(
        id=offer_id,
        organisation_id=project.organisation_id,
        project_id=project.id,
        task_id=task.id,
        slot_id=slot.id,
        expert_id=expert_id,
        run_id=new_id(),
        value=1.0,
        parts={},
        explanation="it was made for a test",
        probability=1.0,
        task_price=0.0,
        expert_price=0.0,
        terms=terms.to_dict(),
        terms_digest="of a test",
        currency=project.currency,
        expected_s=task.expected_s,
        reserved_minor=pay + fee,
        created_at=at,
        expires_at=at + timedelta(days=1),
    )
    db.add(offer)
    db.flush()
    for state in ("accepted", "active"):
        offer.state = state
        db.flush()
    return offer


def work_on(
    db: Session, offer: Offer, starts_at: datetime, seconds: int, *, capped_s: int = 0
) -> list[TimeEntry]:
    """A session that has ended, with its proofs and its time, cut at midnight; the last seconds may
    be unpaid.
    """
    ends_at = starts_at + timedelta(seconds=seconds)
    work_session = WorkSession(
        organisation_id=offer.organisation_id,
        project_id=offer.project_id,
        task_id=offer.task_id,
        offer_id=offer.id,
        expert_id=offer.expert_id,
        started_at=starts_at,
        last_beat_at=ends_at,
        last_active_at=ends_at,
        stretch_at=starts_at,
        cap_left_s=seconds,
        day_used_s=0,
        quiet_s=600,
    )
    db.add(work_session)
    db.flush()
    work_session.state, work_session.stretch_at, work_session.ended_at = "ended", None, ends_at
    db.flush()
    beats = [
        {
            "session_id": work_session.id,
            "seq": seq,
            "at": starts_at + timedelta(seconds=offset),
            "is_active": True,
        }
        for seq, offset in enumerate(range(GAP_S, seconds, GAP_S), start=1)
    ]
    if beats:
        db.execute(insert(Heartbeat), beats)
    db.add(
        StateChange(
            machine="work_session",
            subject_id=work_session.id,
            from_state="running",
            to_state="ended",
            action="end",
            at=ends_at,
        )
    )
    entries = []
    pieces = list(by_day(starts_at.astimezone(UTC), ends_at))
    for first, last in pieces:
        entry = TimeEntry(
            session_id=work_session.id,
            offer_id=offer.id,
            expert_id=offer.expert_id,
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            during=Range(first, last, bounds="[)"),
            seconds=seconds_between(first, last),
            capped_s=capped_s if last == ends_at else 0,
            recorded_at=ends_at,
        )
        db.add(entry)
        entries.append(entry)
    db.flush()
    return entries


def end_offer(db: Session, offer: Offer, state: str = "completed") -> Offer:
    """The work is over."""
    offer.state = state
    db.flush()
    return offer


def hand_in(db: Session, offer: Offer, *, at: datetime = AT) -> Submission:
    """A submission that waits for its reviews, on an offer that is completed by it."""
    made = Submission(
        organisation_id=offer.organisation_id,
        project_id=offer.project_id,
        task_id=offer.task_id,
        slot_id=offer.slot_id,
        offer_id=offer.id,
        expert_id=offer.expert_id,
        payload={"answer": "42"},
        created_at=at,
    )
    db.add(made)
    db.flush()
    made.submitted_at = at
    made.state = "awaiting_review"
    db.flush()
    end_offer(db, offer)
    return made
