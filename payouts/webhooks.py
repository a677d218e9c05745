"""Stripe's webhooks applied: hints about what to fetch, of which nothing more is believed.

Arrival order, repeats and delays mean nothing: the object is fetched as it is now, compared with
what is stored, and moved forward along its table or not at all. One fetch answers every event about
the same object that was in the inbox before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Text, cast, or_, select
from sqlalchemy.orm import Session

from payouts.arrivals import record_stripe_payout
from payouts.calls import Fact, FactKind, Tell, locked_call, tell_nobody
from payouts.disputes import record_dispute
from payouts.errors import EventUnclear, GatewayKeyRejected, GatewayRefused
from payouts.funding import (
    locked_funding,
    record_intent,
    record_settling,
    unsettled_fundings,
)
from payouts.holds import HoldPolicy
from payouts.inbox import DONE, OPEN, locked_events, open_about_the_same
from payouts.invoice_models import FundingInvoice
from payouts.invoices import record_invoice
from payouts.models import ExternalCall, Funding, Payee, StripeEvent, Transfer
from payouts.outcomes import Begin, Now, confirm_call
from payouts.payees import payee_of, record_account, record_bank_change
from payouts.platform_payouts import record_platform_payout
from payouts.refunds import record_refund
from payouts.states import CallOperation, CallState, InboxState
from payouts.transfers import POLICY, held_payouts, review_payout
from payouts.wire import transfer_answer

if TYPE_CHECKING:
    from payouts.gateway import Gateway

PARK_FOR = timedelta(hours=24)
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an event, and what happened because of it; when to try again if parked."""

    event_id: UUID
    type: str
    state: InboxState
    facts: tuple[Fact, ...] = ()
    retry_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Hint:
    """Where an event points."""

    type: str
    account: str | None
    object_id: str | None
    payload: bytes


Apply = Callable[[Session, datetime, Tell], list[Fact] | None]
"""Changes our rows by what was fetched; None when the object is not known here yet."""


def apply_event(
    begin: Begin,
    gateway: "Gateway",
    event_id: UUID,
    *,
    now: Now,
    tell: Tell = tell_nobody,
    policy: HoldPolicy = POLICY,
) -> Applied:
    """Fetch what an event points at and move our rows along; safe to run any number of times.

    An object that is not known here, or that Stripe does not show, is parked and tried again for a
    day, later each time, since an event may come before our own call has returned; then it is
    `broken`, for a person to look at, and is only tried when somebody asks for it.

    Raises:
        GatewayKeyRejected: of fetching; the event stays due.
        GatewayUnknown: of fetching; it is due again a little later, as after whatever else keeps
            it from being recorded, so that it holds no others up.
    """
    try:
        return _apply(begin, gateway, event_id, now=now, tell=tell, policy=policy)
    except GatewayKeyRejected:
        raise
    except Exception:
        with begin() as session:
            for event in locked_events(session, [event_id]).values():
                _put_off(event, now())
        raise


def _apply(
    begin: Begin,
    gateway: "Gateway",
    event_id: UUID,
    *,
    now: Now,
    tell: Tell,
    policy: HoldPolicy,
) -> Applied:
    with begin() as session:
        event = session.get_one(StripeEvent, event_id)
        if event.state in DONE:
            return _as_it_is(event)
        hint = _Hint(event.type, event.account, event.object_id, event.payload)
        alike = open_about_the_same(session, event)
    refused = ""
    apply: Apply | None = None
    try:
        apply = _fetch(begin, gateway, hint, now, policy)
    except GatewayRefused as no:
        refused = f"Stripe does not show {hint.object_id}: {no.text}"
    at = now()
    with begin() as session:
        waiting = locked_events(session, alike)
        if event_id not in waiting:
            return _as_it_is(session.get_one(StripeEvent, event_id))
        event = waiting.pop(event_id)
        if refused:
            return _park(session, event, at, tell, refused)
        if apply is None:
            return _close(session, event, InboxState.IGNORED, at, note="nothing follows from it")
        try:
            facts = apply(session, at, tell)
        except EventUnclear as unclear:
            return _break(session, event, at, tell, str(unclear))
        if facts is None:
            return _park(session, event, at, tell, f"{hint.object_id} is not known here yet")
        for other in waiting.values():
            _close(session, other, InboxState.APPLIED, at, note=f"told by {event.event_id}")
        return _close(session, event, InboxState.APPLIED, at, facts)


def _as_it_is(event: StripeEvent) -> Applied:
    return Applied(event.id, event.type, event.state, note=event.note)


def _close(
    session: Session,
    event: StripeEvent,
    state: InboxState,
    at: datetime,
    facts: list[Fact] | None = None,
    note: str = "",
) -> Applied:
    event.tries += 1
    event.state = state
    event.applied_at = at
    event.note = note
    session.flush()
    return Applied(event.id, event.type, state, tuple(facts or ()), note=note)


def _break(session: Session, event: StripeEvent, at: datetime, tell: Tell, note: str) -> Applied:
    """Leave an event to a person; it is told once, however often it is tried again."""
    is_news = event.state in OPEN
    facts = [Fact(FactKind.EVENT_BROKEN, event.id, event.id, text=note)] if is_news else []
    return _close(session, event, InboxState.BROKEN, at, _told(session, facts, tell), note)


def _put_off(event: StripeEvent, at: datetime) -> None:
    # Ten times twice as long is beyond the longest wait already.
    event.next_try_at = at + min(FIRST_WAIT * 2 ** min(event.tries, 10), LONGEST_WAIT)
    event.tries += 1


def _park(session: Session, event: StripeEvent, at: datetime, tell: Tell, note: str) -> Applied:
    if at - event.received_at >= PARK_FOR:
        return _break(session, event, at, tell, f"for a day: {note}")
    event.state = InboxState.PARKED
    event.note = note
    _put_off(event, at)
    session.flush()
    return Applied(
        event.id, event.type, InboxState.PARKED, retry_at=event.next_try_at, note=event.note
    )


def _fetch(
    begin: Begin, gateway: "Gateway", hint: _Hint, now: Now, policy: HoldPolicy
) -> Apply | None:
    """Read what an event is about, and say how to apply it; None when nothing follows."""
    kind, object_id, account = hint.type, hint.object_id, hint.account
    if kind == "balance.available" and account is None:
        return _settling(begin, gateway)
    if object_id is None:
        return None
    if kind.startswith("payment_intent.") and account is None:
        return _intent(gateway, object_id)
    if kind.startswith("invoice.") and account is None:
        return _invoice(gateway, object_id)
    if kind.startswith("refund.") and account is None:
        return _refund(gateway, object_id)
    if kind.startswith("transfer.") and account is None:
        return _transfer(gateway, object_id)
    if kind.startswith("payout."):
        return (
            _own_payout(gateway, object_id)
            if account is None
            else _payout(gateway, object_id, account)
        )
    if kind.startswith("charge.dispute.") and account is None:
        return _dispute(gateway, object_id)
    if kind.startswith("account.external_account.") and account is not None:
        return _bank(account, kind, policy)
    if kind.startswith("v2.core.account"):
        return _account(gateway, object_id, now, policy)
    return None


def _told(session: Session, facts: list[Fact], tell: Tell) -> list[Fact]:
    tell(session, facts)
    return facts


def _intent(gateway: "Gateway", intent_id: str) -> Apply:
    seen = gateway.payment_intent(intent_id)
    if "funding_id" not in seen.metadata:
        # Whatever pays an invoice is made by Stripe, and carries nothing of ours.
        invoice_id = gateway.invoice_of_payment(intent_id)
        if invoice_id is not None:
            return _invoice(gateway, invoice_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        # Its own call may not have returned yet; then what it carries names the funding.
        named = seen.metadata.get("funding_id", "")
        found = session.scalars(
            select(Funding.id).where(
                or_(Funding.payment_intent_id == intent_id, cast(Funding.id, Text) == named)
            )
        ).one_or_none()
        if found is None:
            return None
        return _told(
            session, record_intent(session, locked_funding(session, found), seen, at), tell
        )

    return apply


def _invoice(gateway: "Gateway", invoice_id: str) -> Apply:
    seen = gateway.invoice(invoice_id)
    paid_by = gateway.payments_of_invoice(invoice_id) if seen.status == "paid" else []
    only = paid_by[0] if len(paid_by) == 1 else None
    payment = gateway.payment_intent(only) if only is not None else None

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        if "funding_id" not in seen.metadata:
            # An invoice of somebody else's on the same account.
            return []
        if payment is not None and payment.transaction is None:
            # Paid a moment ago: the line of our balance comes behind.
            return None
        found = session.scalars(
            select(FundingInvoice.funding_id).where(FundingInvoice.invoice_id == invoice_id)
        ).one_or_none()
        if found is None:
            return None
        funding = locked_funding(session, found)
        return _told(session, record_invoice(session, funding, seen, payment, at), tell)

    return apply


def _refund(gateway: "Gateway", refund_id: str) -> Apply:
    seen = gateway.refund(refund_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        call = session.scalars(
            select(ExternalCall)
            .where(
                ExternalCall.operation == CallOperation.REFUND, ExternalCall.object_id == refund_id
            )
            .with_for_update()
        ).one_or_none()
        return (
            None if call is None else _told(session, record_refund(session, call, seen, at), tell)
        )

    return apply


def _settling(begin: Begin, gateway: "Gateway") -> Apply:
    with begin() as session:
        waiting = unsettled_fundings(session)
    lines = [(funding_id, gateway.transaction(line)) for funding_id, line in waiting]

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact]:
        facts = []
        for funding_id, line in lines:
            facts += record_settling(session, locked_funding(session, funding_id), line, at)
        return _told(session, facts, tell)

    return apply


def _transfer(gateway: "Gateway", transfer_id: str) -> Apply:
    seen = gateway.transfer(transfer_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        known = session.scalars(
            select(Transfer).where(Transfer.stripe_id == transfer_id)
        ).one_or_none()
        if known is not None:
            # What we took back ourselves is booked by its own call; more than that is not ours,
            # and waits for that call or for a person.
            return [] if seen.reversed_minor <= known.reversed_minor else None
        call_id = session.scalars(
            select(ExternalCall.id).where(
                ExternalCall.operation == CallOperation.TRANSFER,
                ExternalCall.natural_key == seen.metadata.get("natural_key", ""),
                cast(ExternalCall.attempt, Text) == seen.metadata.get("attempt", ""),
            )
        ).one_or_none()
        if call_id is None:
            return None
        call = locked_call(session, call_id)
        if call.state not in (CallState.SENT, CallState.UNKNOWN):
            return None
        return list(confirm_call(session, call_id, transfer_answer(seen), at, tell).facts)

    return apply


def _payout(gateway: "Gateway", payout_id: str, account: str) -> Apply:
    seen = gateway.payout(payout_id, account)
    lines = gateway.transactions_of_payout(payout_id, account)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        facts = record_stripe_payout(session, seen, lines, at=at)
        return None if facts is None else _told(session, facts, tell)

    return apply


def _own_payout(gateway: "Gateway", payout_id: str) -> Apply:
    seen = gateway.payout(payout_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        facts = record_platform_payout(session, seen, at=at)
        return None if facts is None else _told(session, facts, tell)

    return apply


def _dispute(gateway: "Gateway", dispute_id: str) -> Apply:
    seen = gateway.dispute(dispute_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        facts = record_dispute(session, seen, at=at)
        return None if facts is None else _told(session, facts, tell)

    return apply


def _account(gateway: "Gateway", account_id: str, now: Now, policy: HoldPolicy) -> Apply:
    fetched_at = now()
    seen = gateway.account(account_id)

    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        payee = session.scalars(
            select(Payee).where(Payee.account_id == account_id).with_for_update()
        ).one_or_none()
        if payee is None:
            return None
        facts = record_account(session, payee, seen, fetched_at=fetched_at)
        return _told(session, facts + review_owner(session, payee.owner_id, at, policy), tell)

    return apply


def _bank(account: str, kind: str, policy: HoldPolicy) -> Apply:
    def apply(session: Session, at: datetime, tell: Tell) -> list[Fact] | None:
        payee = session.scalars(
            select(Payee).where(Payee.account_id == account).with_for_update()
        ).one_or_none()
        if payee is None:
            return None
        is_first = kind.endswith(".created") and payee.destination_version == 0
        record_bank_change(session, payee, is_first=is_first, at=at)
        return _told(session, review_owner(session, payee.owner_id, at, policy), tell)

    return apply


def review_owner(
    session: Session, owner_id: UUID, at: datetime, policy: HoldPolicy = POLICY
) -> list[Fact]:
    """Look again at everything of one owner's that waits, oldest first."""
    facts = []
    for payout_id in held_payouts(session, owner_id=owner_id):
        facts += review_payout(session, payout_id, at=at, policy=policy)
    return facts


def refresh_payee(
    begin: Begin,
    gateway: "Gateway",
    owner_id: UUID,
    *,
    now: Now,
    tell: Tell = tell_nobody,
    policy: HoldPolicy = POLICY,
) -> list[Fact]:
    """Look at a payee's account now, as someone does who comes back from onboarding."""
    with begin() as session:
        payee = payee_of(session, owner_id)
        account_id = payee.account_id if payee is not None else None
    if account_id is None:
        return []
    apply = _account(gateway, account_id, now, policy)
    with begin() as session:
        return apply(session, now(), tell) or []
