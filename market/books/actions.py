"""How reconciliation is asked for, its breaks end, proofs come out and our own money leaves."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.books.queries import check_under_way
from market.books.rules import (
    BOOKS_CHECK,
    BreakNotFound,
    BreakUnbookable,
    OwnMoneyShort,
    ResolutionUnknown,
    checked_explanation,
)
from market.db import new_id
from market.events import Event, emit
from market.operations import Operation, open_operation
from payouts.bank_models import PlatformPayout
from payouts.breaks import assign_break, resolve_break
from payouts.errors import BreakNotBookable, FloorBreached, UnknownBreak
from payouts.money import Money
from payouts.platform_payouts import plan_platform_payout
from payouts.proof_models import Break, Proof, Resolution
from payouts.proofs import publish_proof
from payouts.reconciliation import Reconciled

BY_HAND = (Resolution.EXPLAINED, Resolution.SUSPENSE)


def request_reconciliation(session: Session, *, by: UUID, at: datetime) -> UUID:
    """Ask for a reconciliation and a proof now, beside the daily one."""
    asked = new_id()
    emit(session, Event.RECONCILIATION_REQUESTED, asked, at=at, actor_id=by)
    return asked


def open_check(session: Session, *, by: UUID | None, at: datetime) -> Operation:
    """Announce a look at every invariant; asked for by a person, it is begun at once.

    One that was asked for and has not ended is the answer to being asked again.
    """
    waiting = check_under_way(session, at=at) if by is not None else None
    if waiting is not None:
        return waiting
    opened = open_operation(session, BOOKS_CHECK, new_id(), at=at, organisation_id=None)
    if by is not None:
        emit(session, Event.BOOKS_CHECK_REQUESTED, opened.subject_id, at=at, actor_id=by)
    return opened


def publish(
    session: Session, found: Reconciled, books: Mapping[str, int], *, at: datetime
) -> Proof:
    """Publish the proof of what a reconciliation found, and say so."""
    proof = publish_proof(
        session,
        at=at,
        stripe={
            "lines": found.lines,
            "currencies": {
                currency: {"stripe_minor": theirs, "books_minor": books.get(currency, 0)}
                for currency, theirs in found.theirs_minor.items()
            },
        },
        breaks={
            "open": found.open_breaks,
            "over_a_day": found.overdue_breaks,
            "by_kind": dict(found.by_kind),
        },
    )
    emit(
        session,
        Event.PROOF_PUBLISHED,
        UUID(proof.digest[:32]),
        at=at,
        data={"number": proof.number, "digest": proof.digest},
    )
    return proof


def take_break(session: Session, break_id: UUID, *, by: UUID) -> Break:
    """Say that one looks into a break.

    Raises:
        BreakNotFound.
    """
    try:
        return assign_break(session, break_id, to=by)
    except UnknownBreak:
        raise BreakNotFound(break_id) from None


def end_break(
    session: Session, break_id: UUID, *, how: str, note: str, by: UUID, at: datetime
) -> Break:
    """End a break by a person's decision.

    Raises:
        BreakNotFound, BreakUnbookable, ResolutionUnknown, ExplanationMissing.
    """
    if how not in BY_HAND:
        raise ResolutionUnknown(how)
    said = checked_explanation(note)
    try:
        return resolve_break(session, break_id, how=Resolution(how), by=by, note=said, at=at)
    except UnknownBreak:
        raise BreakNotFound(break_id) from None
    except BreakNotBookable:
        raise BreakUnbookable(break_id) from None


def send_own_money(session: Session, *, money: Money, by: UUID, at: datetime) -> PlatformPayout:
    """Send fees that we have earned to our own bank.

    Raises:
        OwnMoneyShort, BadAmount.
    """
    try:
        payout = plan_platform_payout(session, money=money, by=by, at=at)
    except FloorBreached as short:
        raise OwnMoneyShort(short.available_minor) from None
    assert payout.call_id is not None
    emit(session, Event.PLATFORM_PAYOUT_REQUESTED, payout.call_id, at=at, actor_id=by)
    return payout
