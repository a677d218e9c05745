"""Why a payout waits: the reasons, who has to act on each, and the sentence its expert reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from payouts.errors import UnknownHold
from payouts.models import Payee, Payout, PayoutHold
from payouts.money import Money
from payouts.payees import is_ready, missing
from payouts.recoveries import Owner, unexplained
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

    def minimum(self, currency: str) -> int:
        """The least that is sent in a currency.

        Units: minor units.
        """
        return self.minimum_minor.get(currency, self.least_minor)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to hold a payout, before it is written down."""

    code: HoldCode
    acts: HoldOwner
    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of whom a payout goes to, by which it may have to wait.

    Units: minor units; `waiting_minor` is all that has not left yet, this payout apart.
    """

    payee: Payee | None
    unexplained_minor: int
    waiting_minor: int


def standings(
    session: Session, owed: Sequence[Owner], *, but: UUID | None = None, policy: HoldPolicy
) -> dict[Owner, Standing]:
    """How each of some owners stands now, apart from one payout of theirs that is looked at."""
    owner_ids = [owner_id for owner_id, _ in owed]
    payees = {
        payee.owner_id: payee
        for payee in session.scalars(select(Payee).where(Payee.owner_id.in_(owner_ids)))
    }
    explained = unexplained(session, owed)
    waiting: dict[Owner, int] = {}
    if any(policy.minimum(currency) for _, currency in owed):
        rows = session.execute(
            select(Payout.owner_id, Payout.currency, func.sum(Payout.amount_minor))
            .where(
                Payout.owner_id.in_(owner_ids),
                Payout.state.in_((*NOT_SENT, PayoutState.BATCHED)),
                Payout.id.is_distinct_from(but),
            )
            .group_by(Payout.owner_id, Payout.currency)
        )
        waiting = {(owner_id, currency): int(total) for owner_id, currency, total in rows}
    return {
        owner: Standing(payees.get(owner[0]), explained[owner], waiting.get(owner, 0))
        for owner in owed
    }


def standing_of(session: Session, payout: Payout, *, policy: HoldPolicy) -> Standing:
    """How the owner of a payout that is there stands."""
    owner = payout.owner_id, payout.currency
    return standings(session, [owner], but=payout.id, policy=policy)[owner]


def reasons_to_hold(
    payout: Payout, standing: Standing, *, at: datetime, policy: HoldPolicy
) -> list[Reason]:
    """Every reason that holds now and that a machine can see, most pressing first."""
    found = []
    later = at + policy.escalate_after
    payee = standing.payee

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
    owed = standing.unexplained_minor
    if owed > 0:
        because(
            HoldCode.RECEIVABLE,
            HoldOwner.PLATFORM,
            f"The books say that you owe {Money(owed, payout.currency)}, and no decided case says "
            "why. A person looks at it; until then this payout waits.",
        )
    minimum = policy.minimum(payout.currency)
    # All that has not left yet may reach it together; whoever leaves is sent all of it.
    is_leaving = payee is not None and payee.is_leaving
    if not is_leaving and standing.waiting_minor + payout.amount_minor < minimum:
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
        else:
            session.add(new_hold(payout, reason, at=at, placed_by=placed_by))
    session.flush()


def new_hold(
    payout: Payout, reason: Reason, *, at: datetime, placed_by: UUID | None = None
) -> PayoutHold:
    """A reason as a row."""
    return PayoutHold(
        payout_id=payout.id,
        owner_id=payout.owner_id,
        code=reason.code,
        acts=reason.acts,
        text=reason.text,
        placed_at=at,
        expires_at=reason.expires_at,
        placed_by=placed_by,
    )


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
