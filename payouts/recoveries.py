"""Money that a decided case takes back: owed to us from then on, and recovered with restraint.

What an expert owes is a balance of its own and never makes what they are owed negative. It is
recovered by a reversal while the money is still at Stripe, else by at most half of what each later
payout would be; what is left after half a year is written off.

Source: the payouts design, section 8, negative balances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.bank_models import Recovery
from payouts.chart import AccountRef
from payouts.errors import RecoveryUnderWay
from payouts.ledger import Line, balance, balances, post_entry
from payouts.ledger_models import JournalEntry
from payouts.money import checked_amount

WRITE_OFF_AFTER = timedelta(days=180)
SHARE = 2
"""The divisor of a payout that recovery leaves alone: half of it is the expert's in any case."""


Owner: TypeAlias = tuple[UUID, str]
"""Somebody who is paid, in one currency."""


@dataclass(frozen=True, slots=True)
class DecidedCase:
    """Who decided that money goes back, by which case, and why, for the expert to read."""

    id: UUID
    decided_by: UUID
    reason: str


def claw_back(
    session: Session,
    *,
    case: DecidedCase,
    owner_id: UUID,
    project: AccountRef,
    pay_minor: int,
    fee_minor: int,
    at: datetime,
) -> Recovery:
    """Give a project back what a case says was paid wrongly; the expert owes it, once per case.

    Raises:
        BadAmount.
        EntryConflict: the same case decided something else before.
    """
    currency = project.currency
    lines = [Line(chart.receivable_from(owner_id, currency), project, checked_amount(pay_minor))]
    if fee_minor:
        lines.append(Line(chart.platform_fee(currency), project, fee_minor))
    post_entry(
        session,
        key=f"clawback:{case.id}",
        kind="clawback",
        lines=lines,
        at=at,
        memo=case.reason[:200],
    )
    known = session.scalars(select(Recovery).where(Recovery.case_id == case.id)).one_or_none()
    if known is not None:
        return known
    made = Recovery(
        case_id=case.id,
        owner_id=owner_id,
        currency=currency,
        amount_minor=pay_minor,
        reason=case.reason,
        decided_by=case.decided_by,
        decided_at=at,
    )
    session.add(made)
    session.flush()
    return made


def outstanding(session: Session, owed: Sequence[Owner]) -> dict[Owner, int]:
    """What decided cases still want from each of some owners.

    Units: minor units.
    """
    rows = session.execute(
        select(
            Recovery.owner_id,
            Recovery.currency,
            func.sum(Recovery.amount_minor - Recovery.recovered_minor - Recovery.written_off_minor),
        )
        .where(
            Recovery.owner_id.in_([owner_id for owner_id, _ in owed]),
            Recovery.closed_at.is_(None),
        )
        .group_by(Recovery.owner_id, Recovery.currency)
    )
    wanted = {(owner_id, currency): int(total) for owner_id, currency, total in rows}
    return {owner: wanted.get(owner, 0) for owner in owed}


def unexplained(session: Session, owed: Sequence[Owner]) -> dict[Owner, int]:
    """What the books say each owner owes beyond its decided cases: a person has to look at it.

    Units: minor units.
    """
    accounts = {owner: chart.receivable_from(*owner) for owner in owed}
    found = balances(session, list(accounts.values()))
    due = {owner: found[account].posted_minor for owner, account in accounts.items()}
    # Nothing is owed almost always, and then there is nothing to explain.
    owing = [owner for owner, amount in due.items() if amount]
    wanted = outstanding(session, owing) if owing else {}
    return {owner: amount - wanted.get(owner, 0) for owner, amount in due.items()}


def recover_before_payout(
    session: Session,
    owner_id: UUID,
    currency: str,
    *,
    free_minor: int,
    period_end: date,
    reason_code: str,
    at: datetime,
) -> int:
    """Take what is outstanding from what would be paid, at most half of it, once per payout.

    Returns what was taken.

    Units: minor units.
    """
    cases = open_cases(session, owner_id, currency)
    left = sum(one.amount_minor - one.recovered_minor - one.written_off_minor for one in cases)
    # What a reversal at Stripe is to bring back is counted there, and not taken twice.
    owing = balance(session, chart.receivable_from(owner_id, currency)).available_minor
    part = min(left, owing, free_minor // SHARE)
    if part <= 0:
        return 0
    key = f"recovery:{owner_id}:{currency}:{period_end}:{reason_code}"
    # A payout that was withdrawn and is opened again was lessened before.
    if session.scalar(select(exists().where(JournalEntry.key == key))):
        return 0
    line = Line(chart.owed_to(owner_id, currency), chart.receivable_from(owner_id, currency), part)
    post_entry(session, key=key, kind="recovered", lines=[line], at=at)
    record_recovered(session, owner_id, currency, part, at=at)
    return part


def recover_unpaid(session: Session, case_id: UUID, amount_minor: int, *, at: datetime) -> int:
    """Keep money that a case says was wrong and that was never paid out, all of it, once per case.

    Returns what was kept: what is free of it, and not more than is owed.

    Units: minor units.
    """
    case = _of_case(session, case_id)
    owed = chart.owed_to(case.owner_id, case.currency)
    left = case.amount_minor - case.recovered_minor - case.written_off_minor
    owing = chart.receivable_from(case.owner_id, case.currency)
    part = min(
        amount_minor,
        left,
        balance(session, owed).available_minor,
        # What a reversal at Stripe is to bring back is counted there.
        balance(session, owing).available_minor,
    )
    key = f"recovery:{case.id}:unpaid"
    if part <= 0 or session.scalar(select(exists().where(JournalEntry.key == key))):
        return 0
    post_entry(session, key=key, kind="recovered", lines=[Line(owed, owing, part)], at=at)
    case.recovered_minor += part
    if part == left:
        case.closed_at = at
    session.flush()
    return part


def undo_claw_back(session: Session, case_id: UUID, *, at: datetime) -> None:
    """Take nothing more for a case that did not hold; the caller has given its pay again.

    What was never recovered, and what we gave up, comes out of that pay: the expert ends with what
    the case had cost it.

    Raises:
        RecoveryUnderWay: money of it is on its way back at Stripe.
    """
    case = _of_case(session, case_id)
    left = case.amount_minor - case.recovered_minor - case.written_off_minor
    owed = chart.owed_to(case.owner_id, case.currency)
    owing = chart.receivable_from(case.owner_id, case.currency)
    if left > balance(session, owing).available_minor:
        raise RecoveryUnderWay(case_id)
    lines = [
        Line(owed, account, amount)
        for account, amount in (
            (owing, left),
            (chart.dispute_loss(case.currency), case.written_off_minor),
        )
        if amount
    ]
    if lines:
        key = f"recovery:{case.id}:undone"
        post_entry(session, key=key, kind="recovery undone", lines=lines, at=at)
    case.closed_at = case.closed_at or at
    session.flush()


def _of_case(session: Session, case_id: UUID) -> Recovery:
    return session.scalars(
        select(Recovery).where(Recovery.case_id == case_id).with_for_update()
    ).one()


def record_recovered(
    session: Session, owner_id: UUID, currency: str, amount_minor: int, *, at: datetime
) -> None:
    """Count money that came back towards the oldest case first."""
    for one in open_cases(session, owner_id, currency):
        part = min(amount_minor, one.amount_minor - one.recovered_minor - one.written_off_minor)
        one.recovered_minor += part
        amount_minor -= part
        if one.recovered_minor + one.written_off_minor == one.amount_minor:
            one.closed_at = at
        if amount_minor == 0:
            break
    session.flush()


def open_cases(session: Session, owner_id: UUID, currency: str) -> list[Recovery]:
    """What is to be recovered from somebody still, oldest first; locked, before any balance is, as
    by whoever gives up what is old.
    """
    return list(
        session.scalars(
            select(Recovery)
            .where(
                Recovery.owner_id == owner_id,
                Recovery.currency == currency,
                Recovery.closed_at.is_(None),
            )
            .order_by(Recovery.decided_at, Recovery.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def write_off_old(session: Session, *, at: datetime, limit: int = 100) -> list[Recovery]:
    """Give up what could not be recovered for half a year: it is our loss; safe to run twice.

    What a reversal at Stripe may yet bring back is not given up before that is known.
    """
    old = session.scalars(
        select(Recovery)
        .where(Recovery.closed_at.is_(None), Recovery.decided_at <= at - WRITE_OFF_AFTER)
        .order_by(Recovery.decided_at, Recovery.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    given_up = []
    for one in old:
        left = one.amount_minor - one.recovered_minor - one.written_off_minor
        owing = chart.receivable_from(one.owner_id, one.currency)
        if left > balance(session, owing).available_minor:
            continue
        line = Line(chart.dispute_loss(one.currency), owing, left)
        key = f"recovery:{one.id}:written_off"
        post_entry(session, key=key, kind="written_off", lines=[line], at=at)
        one.written_off_minor += left
        one.closed_at = at
        given_up.append(one)
    session.flush()
    return given_up
