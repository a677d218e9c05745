"""Stripe's own payouts: which of our transfers one takes to the bank, and how far it has come.

A connected account is paid out by Stripe, on its schedule, everything at once. The lines of such
a payout name the transfers in it; that is how a payout of ours learns what became of its money.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.calls import Fact, FactKind
from payouts.conversions import book_bank, record_arrivals
from payouts.ledger import Line, post_entry
from payouts.models import Payout, PayoutMove, Transfer
from payouts.seen import PayoutSeen, TransactionSeen
from payouts.states import PayoutState
from payouts.transfers import locked_payout, move_payout, payout_fact

PATHS: dict[str, tuple[str, ...]] = {
    "pending": ("start_payout",),
    "in_transit": ("start_payout", "leave_for_bank"),
    "paid": ("start_payout", "leave_for_bank", "pay"),
    "canceled": ("start_payout", "cancel"),
}
"""Stripe's word for how far a payout is, and the steps that lead there from the transfer."""

FACTS = {
    PayoutState.IN_TRANSIT: FactKind.PAYOUT_ON_ITS_WAY,
    PayoutState.PAID: FactKind.PAYOUT_PAID,
    PayoutState.FAILED: FactKind.PAYOUT_FAILED,
    PayoutState.RETURNED: FactKind.PAYOUT_RETURNED,
    PayoutState.CANCELLED: FactKind.PAYOUT_CANCELLED,
}
RESTING = (PayoutState.TRANSFERRED, PayoutState.FAILED, PayoutState.RETURNED)
"""From where a payout of Stripe's may take the money (again)."""

FAILURE_WORDS = {
    "account_closed": "Your bank account is closed.",
    "account_frozen": "Your bank account is frozen.",
    "bank_account_restricted": "Your bank account does not take this kind of payment.",
    "could_not_process": "Your bank could not process the payment.",
    "debit_not_authorized": "Your bank did not authorise the payment.",
    "declined": "Your bank declined the payment.",
    "incorrect_account_holder_name": "The name on your bank account differs from yours at Stripe.",
    "invalid_account_number": "The account number does not seem to be right.",
    "invalid_currency": "Your bank account does not take this currency.",
    "no_account": "Your bank account could not be found.",
}


def record_stripe_payout(
    session: Session, seen: PayoutSeen, lines: list[TransactionSeen], *, at: datetime
) -> list[Fact] | None:
    """Move every payout of ours that this one carries; None when it carries none that we know.

    Safe in any order and any number of times: nothing moves backwards, and an old payout of
    Stripe's says nothing about money that a newer one has taken up.
    """
    carried = _carried(session, seen, lines)
    if not carried:
        return None
    # Before the bank's part is booked: these lines tell what was changed, the first of all.
    record_arrivals(session, lines, at=at)
    facts = []
    for payout_id in carried:
        payout = locked_payout(session, payout_id)
        facts += _follow(session, payout, seen, lines, at=at)
    return facts


def _carried(session: Session, seen: PayoutSeen, lines: list[TransactionSeen]) -> list[UUID]:
    sources = [line.source_id for line in lines if line.source_id is not None]
    transfers = [line.source_transfer for line in lines if line.source_transfer is not None]
    found = set(
        session.scalars(
            select(Transfer.payout_id).where(
                or_(Transfer.stripe_id.in_(transfers), Transfer.destination_payment.in_(sources))
            )
        )
    )
    # Money that came back from the bank is in the next payout as the failure of the one before.
    returned = [line.source_id for line in lines if line.type == "payout_failure"]
    found |= set(
        session.scalars(
            select(Payout.id).where(
                or_(Payout.stripe_payout_id == seen.id, Payout.stripe_payout_id.in_(returned))
            )
        )
    )
    return sorted(found)


def _follow(
    session: Session,
    payout: Payout,
    seen: PayoutSeen,
    lines: list[TransactionSeen],
    *,
    at: datetime,
) -> list[Fact]:
    if payout.stripe_payout_id != seen.id:
        if payout.state not in RESTING or _was_carried_by(session, payout, seen.id):
            return []
        steps = PATHS["in_transit"] if seen.status == "failed" else PATHS.get(seen.status, ())
        steps = (*steps, "fail") if seen.status == "failed" else steps
    else:
        steps = _rest_of_the_way(payout.state, seen.status)
    facts = []
    for step in steps:
        if step == "start_payout":
            payout.stripe_payout_id = seen.id
            payout.failure_code = payout.failure_text = None
        move_payout(session, payout, step, at=at, reason_code=seen.id)
        if step == "pay":
            _book(session, payout, "paid", seen.id, lines, at=at)
        elif step == "return":
            _book(session, payout, "returned", seen.id, lines, at=at)
        if step in ("fail", "return"):
            payout.failure_code = seen.failure_code or "unknown"
            payout.failure_text = failure_in_words(seen)
            session.flush()
        if payout.state in FACTS:
            facts.append(payout_fact(FACTS[payout.state], payout, payout.failure_text or ""))
    return facts


def _rest_of_the_way(state: PayoutState, status: str) -> tuple[str, ...]:
    """The steps from a state to where Stripe's payout is; none when that lies behind."""
    if status == "failed":
        return {
            PayoutState.PAYOUT_PENDING: ("leave_for_bank", "fail"),
            PayoutState.IN_TRANSIT: ("fail",),
            PayoutState.PAID: ("return",),
        }.get(state, ())
    passed = {
        PayoutState.PAYOUT_PENDING: ("start_payout",),
        PayoutState.IN_TRANSIT: PATHS["in_transit"],
    }.get(state)
    path = PATHS.get(status, ())
    if passed is None or path[: len(passed)] != passed:
        return ()
    return path[len(passed) :]


def _was_carried_by(session: Session, payout: Payout, stripe_payout_id: str) -> bool:
    """Whether this payout of Stripe's had the money before, and gave it back."""
    return (
        session.scalars(
            select(PayoutMove.id)
            .where(
                PayoutMove.payout_id == payout.id,
                PayoutMove.action == "start_payout",
                PayoutMove.reason_code == stripe_payout_id,
            )
            .limit(1)
        ).first()
        is not None
    )


def _book(
    session: Session,
    payout: Payout,
    what: str,
    stripe_payout_id: str,
    lines: list[TransactionSeen],
    *,
    at: datetime,
) -> None:
    """J9, the money has left Stripe for the bank; J10, it came back to Stripe."""
    transfer = session.scalars(
        select(Transfer).where(
            Transfer.payout_id == payout.id, Transfer.reversed_minor < Transfer.amount_minor
        )
    ).one()
    left = transfer.amount_minor - transfer.reversed_minor
    on_its_way = chart.in_transit_to(payout.owner_id, payout.currency)
    at_stripe = chart.connected_balance(payout.owner_id, payout.currency)
    line = Line(on_its_way, at_stripe, left)
    if what == "returned":
        line = Line(at_stripe, on_its_way, left)
    post_entry(
        session,
        key=f"payout:{payout.id}:{what}:{stripe_payout_id}",
        kind=f"payout_{what}",
        lines=[line],
        at=at,
    )
    book_bank(session, transfer, what, stripe_payout_id, lines, at=at)


def failure_in_words(seen: PayoutSeen) -> str:
    """Why the bank did not take the money, for the expert to read."""
    why = FAILURE_WORDS.get(seen.failure_code or "", seen.failure_text or "Your bank refused it.")
    return (
        f"{why} The money is back on your balance at Stripe; correct your bank account there, "
        "and it is sent again."
    )
