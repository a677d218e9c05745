"""How time becomes pay."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.earnings.queries import (
    credited,
    has_disputed_time,
    paid_time,
    rates_of,
    still_reserved,
)
from market.earnings.rules import (
    Line,
    OfferNotOver,
    priced,
    spans_in_force,
)
from market.events import Event, emit
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.rules import LIVE, RECORDING, reservation_key
from market.submissions.models import Submission
from market.work.models import TimeEntry
from payouts import chart, ledger
from payouts.chart import account_id
from payouts.errors import FloorBreached, PendingResolved

_NOT_WHILE_RECORDING = text("select pg_advisory_xact_lock_shared(hashtextextended(:name, 7))")
_LOCK_PAY = text("select pg_advisory_xact_lock(hashtextextended('earnings:' || :expert_id, 0))")


def accrue_earning(
    session: Session, offer_id: UUID, *, at: datetime, submission_id: UUID | None = None
) -> list[Earning]:
    """Credit what the time on an ended offer is worth, and let the rest of its reservation go.

    Safe to run any number of times: what was credited before is not credited again, and time that
    has become payable since (a dispute decided for the expert) is added as another part.

    Raises:
        OfferNotFound, OfferNotOver.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state in LIVE:
        raise OfferNotOver(offer_id, offer.state)
    # A run that records reserves for many experts in an order of its own.
    session.execute(_NOT_WHILE_RECORDING, {"name": RECORDING})
    lock_pay(session, offer.expert_id)
    stretches = paid_time(session, offer_id)
    spans = spans_in_force(offer.terms, rates_of(session, offer, stretches))
    before = credited(session, offer_id)
    seen = [
        Line(line.week, line.rate_minor_per_hour, line.seconds, line.pay_minor, line.fee_minor)
        for line in before
    ]
    fee_basis_points = cast("int", offer.terms["fee_basis_points"])
    lines = priced(stretches, spans, fee_basis_points=fee_basis_points, credited=seen)
    if not lines:
        # While time is in dispute, the money for it stays where it is.
        if not before and not has_disputed_time(session, offer_id):
            _let_go(session, offer, at=at)
        return []
    part = 1 + max((line.part for line in before), default=0)
    key = f"earning:{offer_id}" if part == 1 else f"earning:{offer_id}:{part}"
    waived = _post(session, offer, lines, key=key, at=at)
    earnings = [
        Earning(
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            expert_id=offer.expert_id,
            offer_id=offer_id,
            submission_id=submission_id,
            week=line.week,
            seconds=line.seconds,
            rate_minor_per_hour=line.rate_minor_per_hour,
            pay_minor=line.pay_minor,
            fee_minor=fee,
            currency=offer.currency,
            entry_key=key,
            part=part,
            at=at,
        )
        for line, fee in zip(lines, _after_waiver(lines, waived), strict=True)
    ]
    session.add_all(earnings)
    session.flush()
    for earning in earnings:
        emit(
            session,
            Event.EARNING_ACCRUED,
            earning.id,
            at=at,
            person_id=offer.expert_id,
            data={
                "offer_id": str(offer_id),
                "seconds": earning.seconds,
                "amount_minor": earning.pay_minor,
                "currency": earning.currency,
            },
        )
    return earnings


def accrue_submission(session: Session, submission_id: UUID, *, at: datetime) -> list[Earning]:
    """Credit the time behind a submission, whatever the verdict on it was.

    Poor work is a matter for its task and for its expert's standing; the time was honest, and only
    a decided case undoes pay.

    Raises:
        As `accrue_earning`.
    """
    submission = session.get_one(Submission, submission_id)
    return accrue_earning(session, submission.offer_id, at=at, submission_id=submission_id)


def accrue_decided_time(session: Session, entry_id: UUID, *, at: datetime) -> list[Earning]:
    """Credit time on work that is over, now that somebody has decided about it.

    Work that still waits for its verdict is left to that.

    Raises:
        As `accrue_earning`.
    """
    entry = session.get_one(TimeEntry, entry_id)
    offer = any_offer(session, entry.offer_id)
    handed_in = session.scalar(select(Submission).where(Submission.offer_id == offer.id))
    if offer.state in ("released", "abandoned"):
        return accrue_earning(session, offer.id, at=at)
    if handed_in is not None and handed_in.decided_at is not None:
        return accrue_earning(session, offer.id, at=at, submission_id=handed_in.id)
    return []


def lock_pay(session: Session, expert_id: UUID) -> None:
    """Keep everybody else from crediting this expert, and from paying it out, until the end of the
    transaction: so that a payout takes along the very lines that its amount is made of.
    """
    session.execute(_LOCK_PAY, {"expert_id": str(expert_id)})


def _let_go(session: Session, offer: Offer, *, at: datetime) -> None:
    key = reservation_key(offer.id)
    try:
        ledger.void_pending(
            session, key, key=f"earning:{offer.id}:none", at=at, memo="no time was worked"
        )
    except PendingResolved:
        # Whoever ended the offer let the money go with it, or its time ran out: nothing is kept.
        return


def _post(session: Session, offer: Offer, lines: Sequence[Line], *, key: str, at: datetime) -> int:
    """Book the lines: from the reservation first, then from what the project has free.

    Work that was done is paid even when neither is enough, which a rate that rose since the offer
    was made can bring about: the platform then goes without its fee, and gives of what it has.
    Returns the part of the fee that nobody was charged.

    Units: minor units.
    """
    budget = chart.project_budget(offer.project_id, offer.organisation_id, offer.currency)
    expert = chart.owed_to(offer.expert_id, offer.currency)
    platform = chart.platform_fee(offer.currency)
    pay = sum(line.pay_minor for line in lines)
    fee = sum(line.fee_minor for line in lines)
    if pay + fee == 0:
        # A second or two, worth less than half of the smallest unit.
        _let_go(session, offer, at=at)
        return 0
    reserved = still_reserved(session, reservation_key(offer.id))
    if reserved is not None:
        kept_pay = min(pay, reserved.get(account_id(expert), 0))
        kept_fee = min(fee, reserved.get(account_id(platform), 0))
        ledger.post_pending(
            session,
            reservation_key(offer.id),
            key=key,
            kind="earning",
            lines=_ledger_lines((budget, expert, kept_pay), (budget, platform, kept_fee)),
            at=at,
        )
        pay, fee, key = pay - kept_pay, fee - kept_fee, f"{key}/more"
    if pay + fee == 0:
        return 0
    try:
        more = _ledger_lines((budget, expert, pay), (budget, platform, fee))
        ledger.post_entry(session, key=key, kind="earning", lines=more, at=at)
    except FloorBreached as short:
        return _cover(session, offer, pay, fee, short.available_minor, key=key, at=at)
    return 0


def _cover(
    session: Session, offer: Offer, pay: int, fee: int, left: int, *, key: str, at: datetime
) -> int:
    budget = chart.project_budget(offer.project_id, offer.organisation_id, offer.currency)
    expert = chart.owed_to(offer.expert_id, offer.currency)
    platform = chart.platform_fee(offer.currency)
    from_budget = min(pay, left)
    charged = min(fee, left - from_budget)
    lines = _ledger_lines(
        (budget, expert, from_budget),
        (budget, platform, charged),
        (platform, expert, pay - from_budget),
    )
    ledger.post_entry(session, key=key, kind="earning", lines=lines, at=at)
    emit(
        session,
        Event.BUDGET_EXHAUSTED,
        offer.project_id,
        at=at,
        organisation_id=offer.organisation_id,
        data={
            "offer_id": str(offer.id),
            "covered_minor": pay - from_budget,
            "waived_minor": fee - charged,
            "currency": offer.currency,
        },
    )
    return fee - charged


def _ledger_lines(*amounts: tuple[chart.AccountRef, chart.AccountRef, int]) -> list[ledger.Line]:
    return [ledger.Line(debit, credit, amount) for debit, credit, amount in amounts if amount]


def _after_waiver(lines: Sequence[Line], waived: int) -> list[int]:
    """The fee of each line, less what was waived, which the last lines bear."""
    fees = []
    for line in reversed(lines):
        less = min(line.fee_minor, waived)
        fees.append(line.fee_minor - less)
        waived -= less
    return fees[::-1]
