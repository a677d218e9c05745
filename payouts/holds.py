"""Why a payout waits: the reasons, who has to act on each, and the sentence its expert reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from payouts.errors import UnknownHold
from payouts.models import Payee, Payout, PayoutHold
from payouts.money import Money
from payouts.payees import is_ready, missing
from payouts.recoveries import unexplained
from payouts.states import HoldCode, HoldOwner, PayoutState

BY_PEOPLE = frozenset(
    {
        HoldCode.SANCTIONS,
        HoldCode.DISPUTE_AMOUNT,
        HoldCode.PROVIDER_REFUSED,
        HoldCode.AMOUNT_CHANGED,
    }
)
"""Holds that only a person ends; the others end when their reason does."""

NOT_SENT = (PayoutState.ACCRUED, PayoutState.ELIGIBLE, PayoutState.HELD)


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """How long, and below what amount, payouts wait; examples, to be set by whoever operates.

    Units: minimums in minor units by currency; `least_minor` is that of every other currency.
    """

    first_payout_wait: timedelta = timedelta(days=7)
    bank_change_wait: timedelta = timedelta(hours=72)
    funds_wait: timedelta = timedelta(hours=1)
    escalate_after: timedelta = timedelta(days=7)
    minimum_minor: Mapping[str, int] = field(default_factory=dict)
    least_minor: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to hold a payout, before it is written down."""

    code: HoldCode
    acts: HoldOwner
    text: str
    expires_at: datetime


def reasons_to_hold(
    session: Session, payout: Payout, payee: Payee | None, *, at: datetime, policy: HoldPolicy
) -> list[Reason]:
    """Every reason that holds now and that a machine can see, most pressing first."""
    found = []
    later = at + policy.escalate_after

    def because(code: HoldCode, acts: HoldOwner, text: str, until: datetime = later) -> None:
        found.append(Reason(code, acts, text, until))

    if payee is None:
        because(
            HoldCode.PAYEE_REQUIREMENTS,
            HoldOwner.EXPERT,
            "We do not know yet where to pay you: set up your payouts, and this is sent.",
        )
    elif not is_ready(payee):
        because(HoldCode.PAYEE_REQUIREMENTS, HoldOwner.EXPERT, " ".join(missing(payee)))
    # What decided cases want is taken from each payout in part and holds none.
    owed = unexplained(session, payout.owner_id, payout.currency)
    if owed > 0:
        because(
            HoldCode.RECEIVABLE,
            HoldOwner.PLATFORM,
            f"The books say that you owe {Money(owed, payout.currency)}, and no decided case says "
            "why. A person looks at it; until then this payout waits.",
        )
    minimum = policy.minimum_minor.get(payout.currency, policy.least_minor)
    if minimum and _waiting_minor(session, payout) < minimum:
        because(
            HoldCode.MINIMUM,
            HoldOwner.TIME,
            f"Below the least amount for a payout, {Money(minimum, payout.currency)}. It is kept "
            "for you and paid together with your next earnings.",
        )
    if payee is not None:
        changed = payee.bank_changed_at
        if changed is not None and changed + policy.bank_change_wait > at:
            until = changed + policy.bank_change_wait
            because(
                HoldCode.BANK_CHANGED,
                HoldOwner.TIME,
                "Your bank account was changed. To protect you we wait until "
                f"{until:%Y-%m-%d %H:%M} UTC before we send money to the new one.",
                until,
            )
        first_at = payee.created_at + policy.first_payout_wait
        if first_at > at:
            because(
                HoldCode.FIRST_PAYOUT,
                HoldOwner.TIME,
                f"A first payout can leave on {first_at:%Y-%m-%d %H:%M} UTC at the earliest.",
                first_at,
            )
    return found


def _waiting_minor(session: Session, payout: Payout) -> int:
    """All that has not left yet for this expert: together it may reach the minimum."""
    total = session.scalar(
        select(func.sum(Payout.amount_minor)).where(
            Payout.owner_id == payout.owner_id,
            Payout.currency == payout.currency,
            Payout.state.in_((*NOT_SENT, PayoutState.BATCHED)),
        )
    )
    return int(total or 0)


def open_holds(session: Session, payout_id: UUID) -> list[PayoutHold]:
    """What a payout waits for, in the order in which it was placed."""
    return list(
        session.scalars(
            select(PayoutHold)
            .where(PayoutHold.payout_id == payout_id, PayoutHold.cleared_at.is_(None))
            .order_by(PayoutHold.placed_at, PayoutHold.id)
        )
    )


def write_holds(
    session: Session,
    payout: Payout,
    reasons: list[Reason],
    *,
    at: datetime,
    placed_by: UUID | None = None,
) -> None:
    """Write reasons down; one that stands already gets the sentence of today."""
    standing = {hold.code: hold for hold in open_holds(session, payout.id)}
    for reason in reasons:
        if reason.code in standing:
            standing[reason.code].text = reason.text
            continue
        session.add(
            PayoutHold(
                payout_id=payout.id,
                owner_id=payout.owner_id,
                code=reason.code,
                acts=reason.acts,
                text=reason.text,
                placed_at=at,
                expires_at=reason.expires_at,
                placed_by=placed_by,
            )
        )
    session.flush()


def end_hold(hold: PayoutHold, *, at: datetime, by: UUID | None = None, note: str = "") -> None:
    """Close a hold; by nobody when its reason went away."""
    hold.cleared_at = at
    hold.cleared_by = by
    hold.clear_note = note


def open_hold(session: Session, hold_id: UUID) -> PayoutHold:
    """A hold that still stands.

    Raises:
        UnknownHold.
    """
    hold = session.get(PayoutHold, hold_id)
    if hold is None or hold.cleared_at is not None:
        raise UnknownHold(hold_id)
    return hold
