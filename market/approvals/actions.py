"""How lines of pay become free to pay out, are cut or withheld, and what time under them does."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from market.approvals.queries import next_part
from market.db import new_id
from market.earnings.actions import accrue_earning, hold_pay, lock_pay, lock_time, post_from_budget
from market.earnings.models import Earning
from market.earnings.rules import EARNING, Period
from market.events import Changes, Event, change_state
from market.offers.models import Offer
from market.offers.rules import LIVE
from market.projects.models import Project
from market.submissions.models import Submission
from market.work.models import TimeEntry
from market.work.rules import TIME_ENTRY
from payouts import chart, ledger
from payouts.pay import pay_minor


def lock_weeks(session: Session, *, before: datetime, at: datetime, limit: int) -> int:
    """Lock recorded time that ended before a week began; how many stretches this time."""
    due = (
        select(TimeEntry.id)
        .where(
            TimeEntry.state.in_(("recorded", "confirmed")),
            func.upper(TimeEntry.during) <= before,
        )
        .order_by(TimeEntry.id)
        .limit(limit)
    )
    return lock_time(session, TimeEntry.id.in_(due), at=at)


def credit_locked(session: Session, offer_id: UUID, *, at: datetime) -> list[Earning]:
    """Credit the locked time of an offer, whether or not its work goes on or waits for a verdict.

    Raises:
        OfferNotFound.
    """
    is_live = session.scalar(select(Offer.state).where(Offer.id == offer_id)) in LIVE
    handed_in = session.scalar(
        select(Submission.id).where(
            Submission.offer_id == offer_id, Submission.submitted_at.is_not(None)
        )
    )
    return accrue_earning(session, offer_id, at=at, submission_id=handed_in, locked_only=is_live)


def approve_lines(
    session: Session,
    expert_id: UUID,
    line_ids: Sequence[UUID] | None = None,
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> list[Earning]:
    """Free lines of an expert to be paid out: the ones named, or all whose time to look is over.

    What is not waiting any more stays as it is, so that doing it twice is harmless.
    """
    lock_pay(session, expert_id)
    waiting = select(Earning).where(Earning.expert_id == expert_id, Earning.state == "accrued")
    if line_ids is None:
        waiting = waiting.where(Earning.review_until <= at)
    else:
        waiting = waiting.where(Earning.id.in_(line_ids))
    lines = list(
        session.scalars(
            waiting.order_by(Earning.id).with_for_update().execution_options(populate_existing=True)
        )
    )
    for line in lines:
        free_line(session, line, "approve", at=at, actor_id=actor_id)
    for offer_id, week in sorted({(line.offer_id, line.week) for line in lines if line.offer_id}):
        approve_time(session, offer_id, Period(week).starts_at, at=at, actor_id=actor_id)
    return lines


def free_line(
    session: Session,
    line: Earning,
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
    note: str | None = None,
) -> None:
    """Take a line to `approved` by one of the moves that lead there, with its money; the caller
    holds its expert's pay and the line locked.

    Raises:
        StateConflict.
    """
    EARNING.target(line.state, action)
    if line.pay_minor:
        free = chart.owed_to(line.expert_id, line.currency)
        held = chart.held_for(line.expert_id, line.currency)
        ledger.post_entry(
            session,
            key=f"earning:{line.id}:approved",
            kind="earning approved",
            lines=[ledger.Line(held, free, line.pay_minor)],
            at=at,
        )
    line.approved_at = at
    change_state(
        session,
        EARNING,
        line,
        action,
        at=at,
        event=Event.EARNING_APPROVED,
        organisation_id=line.organisation_id,
        person_id=line.expert_id,
        actor_id=actor_id,
        reason_code=None if actor_id else "review_time_over",
        note=note,
    )


def split_line(session: Session, line: Earning, seconds: int, *, at: datetime) -> Earning:
    """Cut so many seconds off a line of hours into one of their own, which is returned; together
    they pay what the one did. The whole line is returned when that is all of it.
    """
    if seconds >= line.seconds:
        return line
    left_pay = min(line.pay_minor, pay_minor(line.seconds - seconds, line.rate_minor_per_hour))
    left_fee = line.fee_minor * left_pay // line.pay_minor if line.pay_minor else line.fee_minor
    part = Earning(
        organisation_id=line.organisation_id,
        project_id=line.project_id,
        expert_id=line.expert_id,
        offer_id=line.offer_id,
        submission_id=line.submission_id,
        week=line.week,
        kind=line.kind,
        seconds=seconds,
        rate_minor_per_hour=line.rate_minor_per_hour,
        pay_minor=line.pay_minor - left_pay,
        fee_minor=line.fee_minor - left_fee,
        currency=line.currency,
        entry_key=line.entry_key,
        part=next_part(session, line.offer_id or new_id()),
        at=at,
        review_until=line.review_until,
        dispute_id=line.dispute_id,
    )
    line.seconds -= seconds
    line.pay_minor, line.fee_minor = left_pay, left_fee
    line.version += 1
    session.add(part)
    session.flush()
    return part


def money_source(session: Session, line: Earning) -> chart.AccountRef:
    """Where a line's money goes back to: its project, or its lab once that is over."""
    project = session.get_one(Project, line.project_id)
    if project.state in ("closed", "archived", "cancelled"):
        return chart.lab_funding(line.organisation_id, line.currency)
    return chart.project_budget(line.project_id, line.organisation_id, line.currency)


def withhold_line(session: Session, line: Earning, *, at: datetime, actor_id: UUID | None) -> None:
    """Give a line's money back to where it came from."""
    source = money_source(session, line)
    lines = [
        ledger.Line(debit, source, amount)
        for debit, amount in (
            (chart.held_for(line.expert_id, line.currency), line.pay_minor),
            (chart.platform_fee(line.currency), line.fee_minor),
        )
        if amount
    ]
    if lines:
        ledger.post_entry(
            session,
            key=f"earning:{line.id}:withheld",
            kind="earning withheld",
            lines=lines,
            at=at,
            memo=f"dispute {line.dispute_id}",
        )
    change_state(session, EARNING, line, "withhold", at=at, actor_id=actor_id)


def restore_line(session: Session, line: Earning, *, at: datetime, actor_id: UUID | None) -> None:
    """Pay a withheld line after all; the platform covers what the project has no money for."""
    offer = session.get_one(Offer, line.offer_id)
    key = f"earning:{line.id}:restored"
    if line.pay_minor + line.fee_minor:
        post_from_budget(session, offer, line.pay_minor, line.fee_minor, key=key, at=at)
        hold_pay(session, line.expert_id, line.currency, line.pay_minor, key, at)
    free_line(session, line, "restore", at=at, actor_id=actor_id)


def approve_time(
    session: Session, offer_id: UUID, monday: datetime, *, at: datetime, actor_id: UUID | None
) -> int:
    """Make a week's time on an offer payable, once none of its lines waits or is disputed; how many
    stretches.
    """
    waits = session.scalar(
        select(func.count()).where(
            Earning.offer_id == offer_id,
            Earning.week == monday.date(),
            Earning.state.in_(("accrued", "disputed")),
        )
    )
    if waits:
        return 0
    begins = func.lower(TimeEntry.during)
    return _move_time(
        session,
        [
            TimeEntry.offer_id == offer_id,
            begins >= monday,
            begins < monday + timedelta(days=7),
            TimeEntry.state.in_(("locked", "adjusted")),
        ],
        "approve",
        at=at,
        actor_id=actor_id,
    )


def settle_time(session: Session, payout_id: UUID, *, at: datetime) -> int:
    """The time under a payout's lines is settled with it; how many stretches."""
    settled = 0
    for offer_id, week in session.execute(
        select(Earning.offer_id, Earning.week)
        .where(Earning.payout_id == payout_id, Earning.kind == "hours")
        .distinct()
        .order_by(Earning.offer_id, Earning.week)
    ).all():
        monday, begins = Period(week).starts_at, func.lower(TimeEntry.during)
        settled += _move_time(
            session,
            [
                TimeEntry.offer_id == offer_id,
                begins >= monday,
                begins < monday + timedelta(days=7),
                TimeEntry.state == "payable",
            ],
            "settle",
            at=at,
            actor_id=None,
        )
    return settled


def _move_time(
    session: Session,
    which: Sequence[ColumnElement[bool]],
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> int:
    changes = Changes(at, actor_id)
    rows = session.execute(
        select(TimeEntry.id, TimeEntry.state).where(*which).order_by(TimeEntry.id).with_for_update()
    ).all()
    for entry_id, state in rows:
        after = changes.move(TIME_ENTRY, entry_id, state, action)
    if rows:
        session.execute(
            update(TimeEntry)
            .where(TimeEntry.id.in_([row.id for row in rows]))
            .values(state=after, version=TimeEntry.version + 1)
        )
    changes.write(session)
    return len(rows)
