"""Money of our own from the balance at Stripe to our bank: fees earned, never others' money.

What labs have paid in and experts are owed lies on the same balance at Stripe, so an amount is
refused that our own part does not cover.
"""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from payouts import chart
from payouts.arrivals import FAILURE_WORDS
from payouts.bank_models import PlatformPayout
from payouts.calls import (
    LOOK_BACK,
    Answer,
    Fact,
    FactKind,
    Operation,
    Refusal,
    params_of,
    plan_call,
)
from payouts.chart import Code
from payouts.errors import FloorBreached
from payouts.ledger import Line, post_entry, post_pending, reserve, trial_balance, void_pending
from payouts.models import ExternalCall
from payouts.money import Money, checked_amount
from payouts.seen import PayoutSeen
from payouts.states import CallOperation, PlatformPayoutState

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy

_S = PlatformPayoutState
OWED = (
    Code.LAB_FUNDING,
    Code.LAB_FUNDING_UNSETTLED,
    Code.PROJECT_ESCROW,
    Code.EXPERT_PAYABLE,
    Code.EXPERT_HELD,
    Code.RESERVE,
    Code.TAX_WITHHELD,
    Code.REFUND_IN_TRANSIT,
)
"""What lies on our balance at Stripe and belongs to others."""

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")


def own_money(session: Session, currency: str) -> int:
    """What of our balance at Stripe is nobody else's: it covers all that is owed, and this is left.

    What open card disputes took counts as gone, since it may be.

    Units: minor units.
    """
    held = owed = 0
    for row in trial_balance(session):
        if row.currency != currency:
            continue
        if row.code is Code.STRIPE_CLEARING:
            held = row.debit_minor - row.credit_minor
        elif row.code in OWED:
            owed += row.credit_minor - row.debit_minor
    planned = session.scalars(
        select(PlatformPayout.amount_minor).where(
            PlatformPayout.currency == currency, PlatformPayout.state == _S.PLANNED
        )
    )
    return held - owed - sum(planned)


def plan_platform_payout(
    session: Session, *, money: Money, by: UUID, at: datetime
) -> PlatformPayout:
    """Plan to send some of our own money to our bank; it is reserved until Stripe has answered.

    Raises:
        BadAmount.
        FloorBreached: more than is our own.
    """
    wanted, currency = checked_amount(money.amount_minor), money.currency
    # One at a time, so that two cannot be covered by the same money.
    session.execute(_ONE_AT_A_TIME, {"name": f"platform_payout:{currency}"})
    own = own_money(session, currency)
    if wanted > own:
        raise FloorBreached(chart.stripe_clearing(currency), own, wanted)
    payout = PlatformPayout(currency=currency, amount_minor=wanted, planned_at=at, planned_by=by)
    session.add(payout)
    session.flush()
    natural_key = f"platform_payout:{payout.id}"
    call = plan_call(
        session,
        operation=CallOperation.PLATFORM_PAYOUT,
        natural_key=natural_key,
        subject_id=payout.id,
        params={
            "amount": wanted,
            "currency": currency.lower(),
            "description": "Fees earned",
            "metadata": {"natural_key": natural_key, "attempt": "1"},
        },
        at=at,
    )
    call.approved_by = by
    payout.call_id = call.id
    reserve(
        session,
        key=natural_key,
        kind="platform_payout_reserved",
        lines=[_line(payout)],
        at=at,
    )
    session.flush()
    return payout


def _line(payout: PlatformPayout) -> Line:
    return Line(
        chart.bank(payout.currency), chart.stripe_clearing(payout.currency), payout.amount_minor
    )


def _fact(kind: FactKind, payout: PlatformPayout, said: str = "") -> Fact:
    return Fact(kind, payout.id, payout.planned_by, payout.amount_minor, payout.currency, said)


def _locked(session: Session, payout_id: UUID) -> PlatformPayout:
    return session.get_one(PlatformPayout, payout_id, with_for_update=True, populate_existing=True)


def _send(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _answer(gateway.create_payout(params_of(call), key=str(call.id)))


def _answer(seen: PayoutSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={"id": seen.id, "status": seen.status, "amount": seen.amount_minor},
        record=partial(_record_sent, seen=seen),
    )


def _record_sent(
    session: Session, call: ExternalCall, at: datetime, *, seen: PayoutSeen
) -> list[Fact]:
    payout = _locked(session, call.subject_id)
    payout.stripe_id = seen.id
    payout.state = _S.SENT
    post_pending(
        session,
        call.natural_key,
        key=f"{call.natural_key}:sent",
        kind="platform_payout_sent",
        lines=[_line(payout)],
        at=at,
    )
    session.flush()
    facts = [_fact(FactKind.PLATFORM_PAYOUT_SENT, payout)]
    return facts + (record_platform_payout(session, seen, at=at) or [])


def _refused(
    session: Session, call: ExternalCall, refusal: Refusal, at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    payout = _locked(session, call.subject_id)
    key = call.natural_key
    void_pending(session, key, key=f"{key}:refused", kind="platform_payout_refused", at=at)
    payout.state = _S.FAILED
    payout.failure_text = refusal.text
    payout.ended_at = at
    session.flush()
    return [_fact(FactKind.PLATFORM_PAYOUT_FAILED, payout, refusal.text)]


def record_platform_payout(
    session: Session, seen: PayoutSeen, *, at: datetime
) -> list[Fact] | None:
    """Take over how a payout to our bank stands, only ever forward; None when it is not known."""
    payout = session.scalars(
        select(PlatformPayout).where(PlatformPayout.stripe_id == seen.id).with_for_update()
    ).one_or_none()
    if payout is None:
        return None
    if seen.status == "paid" and payout.state == _S.SENT:
        payout.state = _S.PAID
        payout.ended_at = at
        session.flush()
        return [_fact(FactKind.PLATFORM_PAYOUT_PAID, payout)]
    if seen.status in ("failed", "canceled") and payout.state != _S.FAILED:
        back = Line(
            chart.stripe_clearing(payout.currency),
            chart.bank(payout.currency),
            payout.amount_minor,
        )
        post_entry(
            session,
            key=f"platform_payout:{payout.id}:returned",
            kind="platform_payout_returned",
            lines=[back],
            at=at,
        )
        payout.state = _S.FAILED
        payout.failure_text = FAILURE_WORDS.get(
            seen.failure_code or "", seen.failure_text or "The bank did not take it."
        )
        payout.ended_at = at
        session.flush()
        return [_fact(FactKind.PLATFORM_PAYOUT_FAILED, payout, payout.failure_text)]
    return []


def _find(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    since = (call.first_sent_at or call.planned_at) - LOOK_BACK
    for seen in gateway.payouts(since=since):
        if seen.metadata.get("natural_key") == call.natural_key:
            return _answer(seen)
    return None


OPERATIONS = {
    CallOperation.PLATFORM_PAYOUT: Operation(perform=_send, refused=_refused, look_up=_find)
}
