"""Reads about payouts and what is owed."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.treasury.rules import PayoutNotFound
from payouts import chart
from payouts.chart import Code
from payouts.ledger import Balance, balances, trial_balance
from payouts.ledger_models import LedgerAccount, LedgerBalance
from payouts.models import ExternalCall, Payout, PayoutHold
from payouts.states import HoldCode


def owed(session: Session) -> list[tuple[UUID, str]]:
    """Everybody whom something is owed that no payout has reserved, with the currency."""
    rows = session.execute(
        select(LedgerAccount.owner_id, LedgerAccount.currency)
        .join(LedgerBalance, LedgerBalance.account_id == LedgerAccount.id)
        .where(
            LedgerAccount.code == Code.EXPERT_PAYABLE,
            LedgerBalance.posted_minor > LedgerBalance.promised_minor,
        )
        .order_by(LedgerAccount.owner_id, LedgerAccount.currency)
    )
    return [(owner, currency) for owner, currency in rows if owner is not None]


def payouts(*, owner_id: UUID | None = None, state: str | None = None) -> Select[Payout]:
    """Payouts, as a statement to page through."""
    wanted = select(Payout)
    if owner_id is not None:
        wanted = wanted.where(Payout.owner_id == owner_id)
    return wanted if state is None else wanted.where(Payout.state == state)


def calls(*, state: str | None = None) -> Select[ExternalCall]:
    """Writes to Stripe, as a statement to page through."""
    wanted = select(ExternalCall)
    return wanted if state is None else wanted.where(ExternalCall.state == state)


def payout(session: Session, payout_id: UUID) -> Payout:
    """One payout.

    Raises:
        PayoutNotFound.
    """
    found = session.scalar(select(Payout).where(Payout.id == payout_id))
    if found is None:
        raise PayoutNotFound(payout_id)
    return found


def holds_of(session: Session, payout_ids: list[UUID]) -> dict[UUID, list[PayoutHold]]:
    """Why each of some payouts waits: its holds that still stand, oldest first."""
    found: dict[UUID, list[PayoutHold]] = {one: [] for one in payout_ids}
    for hold in session.scalars(
        select(PayoutHold)
        .where(PayoutHold.payout_id.in_(payout_ids), PayoutHold.cleared_at.is_(None))
        .order_by(PayoutHold.id)
    ):
        found[hold.payout_id].append(hold)
    return found


def owners_unready(session: Session, payout_ids: list[UUID]) -> list[UUID]:
    """Whose payouts, among some that wait, wait for what Stripe still needs of them."""
    return list(
        session.scalars(
            select(PayoutHold.owner_id)
            .where(
                PayoutHold.payout_id.in_(payout_ids),
                PayoutHold.code == HoldCode.PAYEE_REQUIREMENTS,
                PayoutHold.cleared_at.is_(None),
            )
            .distinct()
            .order_by(PayoutHold.owner_id)
        )
    )


def what_is_owed(session: Session, expert_id: UUID) -> list[tuple[str, Balance, int]]:
    """By currency, what an expert has earned and not been sent: what is approved, and in minor
    units what waits for its approval or for a decision.
    """
    return what_many_are_owed(session, [expert_id])[expert_id]


def what_many_are_owed(
    session: Session, expert_ids: Sequence[UUID]
) -> dict[UUID, list[tuple[str, Balance, int]]]:
    """The same of some experts, by their ids."""
    rows = session.execute(
        select(LedgerAccount.owner_id, LedgerAccount.currency)
        .where(LedgerAccount.code == Code.EXPERT_PAYABLE, LedgerAccount.owner_id.in_(expert_ids))
        .order_by(LedgerAccount.currency)
    )
    accounts = [
        (
            expert_id,
            currency,
            chart.owed_to(expert_id, currency),
            chart.held_for(expert_id, currency),
        )
        for expert_id, currency in rows
        if expert_id is not None
    ]
    figures = balances(session, [one for *_, free, held in accounts for one in (free, held)])
    found: dict[UUID, list[tuple[str, Balance, int]]] = {one: [] for one in expert_ids}
    for expert_id, currency, free, held in accounts:
        found[expert_id].append((currency, figures[free], figures[held].posted_minor))
    return found


def at_stripe(session: Session) -> dict[str, int]:
    """What the books say lies on the platform's Stripe balance, by currency, in minor units."""
    return {
        row.currency: row.debit_minor - row.credit_minor
        for row in trial_balance(session)
        if row.code is Code.STRIPE_CLEARING
    }
