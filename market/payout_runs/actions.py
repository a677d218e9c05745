"""Rounds of payouts: asked for, begun, ended and stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import new_id
from market.earnings.actions import lock_pay
from market.events import Event, change_state, emit
from market.operations import Operation, cancel_operation, end_operation, open_operation
from market.payout_runs.models import PayoutRun
from market.payout_runs.queries import is_being_cancelled, payout_run, who_cancelled
from market.payout_runs.rules import IS_OVER, PAYOUT_RUN, PayoutRunStopping
from market.treasury.actions import record_facts
from market.treasury.rules import checked_note, checked_period_end
from payouts.calls import Fact
from payouts.errors import PayoutStateConflict
from payouts.models import Payout
from payouts.states import PayoutState
from payouts.withdrawals import withdraw_payout


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A payout run, and the operation under which its caller follows it."""

    run: PayoutRun
    operation: Operation


def request_payout_run(
    session: Session, *, period_end: date, requested_by: UUID | None, at: datetime
) -> OpenedRun | None:
    """Ask for everybody to be paid who is owed something.

    Nobody asks (`requested_by` is null) when it is the clock; it does so once for a period, and
    gets None the second time.

    Raises:
        PeriodEndInvalid, PayoutRunStopping.
    """
    if is_being_cancelled(session, period_end):
        raise PayoutRunStopping(period_end)
    made = session.scalar(
        insert(PayoutRun)
        .values(
            id=new_id(),
            period_end=checked_period_end(period_end, at=at),
            requested_at=at,
            requested_by=requested_by,
            state="pending",
            payouts=0,
            held=0,
            version=1,
        )
        .on_conflict_do_nothing()
        .returning(PayoutRun.id)
    )
    if made is None:
        return None
    operation = open_operation(session, "payout_run", made, at=at, organisation_id=None)
    emit(session, Event.PAYOUT_RUN_REQUESTED, made, at=at, actor_id=requested_by)
    return OpenedRun(payout_run(session, made), operation)


def start_run(session: Session, run_id: UUID, *, at: datetime) -> PayoutRun | None:
    """Begin a run, or go on with one that a crash ended; None when it is done.

    Raises:
        PayoutRunNotFound.
    """
    run = payout_run(session, run_id, locked=True)
    if run.state in IS_OVER:
        return None
    if run.state == "pending":
        change_state(session, PAYOUT_RUN, run, "start", at=at, actor_id=run.requested_by)
    return run


def end_run(session: Session, run_id: UUID, *, at: datetime) -> PayoutRun:
    """Close a run with what it came to, counted from the payouts themselves; one that is over stays
    as it is, since two workers may have run it.

    Raises:
        PayoutRunNotFound.
    """
    run = payout_run(session, run_id, locked=True)
    if run.state in IS_OVER:
        return run
    rows = session.execute(
        select(
            Payout.currency,
            func.count(),
            func.count().filter(Payout.state == PayoutState.HELD),
            func.sum(Payout.amount_minor),
        )
        .where(Payout.period_end == run.period_end, Payout.opened_at >= run.requested_at)
        .group_by(Payout.currency)
        .order_by(Payout.currency)
    ).all()
    run.payouts = sum(count for _, count, _, _ in rows)
    run.held = sum(held for _, _, held, _ in rows)
    run.ended_at = at
    change_state(session, PAYOUT_RUN, run, "finish", at=at)
    end_operation(
        session,
        run.id,
        at=at,
        result={
            "payouts": run.payouts,
            "held": run.held,
            "total_minor": {currency: int(total) for currency, _, _, total in rows},
        },
    )
    return run


def cancel_run(session: Session, run_id: UUID, *, by: UUID, note: str, at: datetime) -> OpenedRun:
    """Stop a run; what it has not sent is taken out as a reaction, under an operation of its own,
    and a new run of the period pays it again.

    What was sent, or may have been, goes its way.

    Raises:
        PayoutRunNotFound, StateConflict, NoteMissing.
    """
    reason = checked_note(note)
    run = payout_run(session, run_id, locked=True)
    change_state(
        session,
        PAYOUT_RUN,
        run,
        "cancel",
        at=at,
        event=Event.PAYOUT_RUN_STOPPED,
        actor_id=by,
        note=reason,
    )
    cancel_operation(session, run.id, at=at)
    operation = open_operation(
        session, "payout_run_cancellation", run.id, at=at, organisation_id=None
    )
    return OpenedRun(run, operation)


def clear_some(session: Session, run_id: UUID, payout_ids: Sequence[UUID], *, at: datetime) -> None:
    """Take some payouts of a cancelled run out; those that were sent meanwhile stay under way.

    Their experts' pay is locked first, as it is when payouts are opened.
    """
    by, reason = who_cancelled(session, run_id)
    owners = select(Payout.owner_id).where(Payout.id.in_(payout_ids))
    lock_pay(session, *session.scalars(owners.distinct()))
    facts: list[Fact] = []
    for payout_id in payout_ids:
        try:
            facts += withdraw_payout(session, payout_id, by=by, note=reason, at=at)
        except PayoutStateConflict:
            # Sent, or taken out, between the look and the lock.
            continue
    record_facts(session, facts, at=at)


def end_cancellation(session: Session, run_id: UUID, *, at: datetime) -> None:
    """Close a cancelled run when all that it had not sent is out; whoever comes second changes
    nothing.

    Raises:
        PayoutRunNotFound.
    """
    run = payout_run(session, run_id, locked=True)
    if run.state != "cancelling":
        return
    by, _ = who_cancelled(session, run_id)
    run.ended_at = run.ended_at or at
    change_state(session, PAYOUT_RUN, run, "clear", at=at, actor_id=by)
    taken = select(func.count()).where(
        Payout.run_id == run_id, Payout.state == PayoutState.CANCELLED
    )
    end_operation(session, run.id, at=at, result={"withdrawn": session.scalar(taken) or 0})
