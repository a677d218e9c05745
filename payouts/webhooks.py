"""Stripe's webhooks: kept as they came, once, and then taken as hints about what to fetch.

Arrival order, repeats and delays mean nothing: the object is fetched as it is now, compared with
what is stored, and moved forward along its table or not at all. The signature is checked here and
not by Stripe's library, which reads the clock itself and lets times from the future pass.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Text, cast, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.arrivals import record_stripe_payout
from payouts.calls import Fact, Tell, locked_call, tell_nobody
from payouts.disputes import record_dispute
from payouts.errors import EventRefused, EventUnclear, SignatureRefused
from payouts.funding import (
    locked_funding,
    record_intent,
    record_refund,
    record_settling,
    unsettled_fundings,
)
from payouts.holds import HoldPolicy
from payouts.invoice_models import FundingInvoice
from payouts.invoices import record_invoice
from payouts.models import ExternalCall, Funding, Payee, StripeEvent, Transfer
from payouts.outcomes import Begin, Now, confirm_call
from payouts.payees import payee_of, record_account, record_bank_change
from payouts.platform_payouts import record_platform_payout
from payouts.states import CallOperation, CallState, InboxState
from payouts.transfers import POLICY, held_payouts, review_payout
from payouts.wire import transfer_answer

if TYPE_CHECKING:
    from payouts.gateway import Gateway

TOLERANCE = timedelta(minutes=5)
PARK_FOR = timedelta(hours=24)
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)
SNAPSHOT, THIN = "snapshot", "thin"
OBJECT_OF = {SNAPSHOT: "event", THIN: "v2.core.event"}


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


def verify_signature(payload: bytes, header: str, secret: str, *, at: datetime) -> None:
    """Check that Stripe sent these very bytes, within five minutes of now in either direction.

    Several `v1` parts are allowed, as there are while a secret is being replaced.

    Raises:
        SignatureRefused.
    Source: Stripe, "Verify webhook signatures manually".
    """
    if not secret:
        raise SignatureRefused("no secret is set")
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name.strip() == "t"]
    marks = [value for name, _, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or not marks:
        raise SignatureRefused("the signature header cannot be read")
    signed = times[0].encode() + b"." + payload
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    # Every mark is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(expected, mark.encode()) for mark in marks]
    if not any(matches):
        raise SignatureRefused("the signature does not belong to this body")
    age = abs(at.timestamp() - int(times[0]))
    if age > TOLERANCE.total_seconds():
        raise SignatureRefused("the signature is too old, or from the future")


def store_event(
    session: Session,
    *,
    payload: bytes,
    signature: str,
    secret: str,
    at: datetime,
    endpoint: str = SNAPSHOT,
    expect_livemode: bool = False,
) -> UUID | None:
    """Keep a webhook's raw bytes, once; None when it is here already.

    Raises:
        SignatureRefused: answer 400 and keep nothing.
        EventRefused: signed well, and still not ours: another mode, or another kind of body.
    """
    verify_signature(payload, signature, secret, at=at)
    return _keep(session, payload, at=at, endpoint=endpoint, expect_livemode=expect_livemode)


def _keep(
    session: Session, payload: bytes, *, at: datetime, endpoint: str, expect_livemode: bool
) -> UUID | None:
    try:
        body = json.loads(payload.decode("utf-8"))
    except ValueError as error:
        raise EventRefused("the body is no JSON in UTF-8") from error
    if not isinstance(body, dict) or body.get("object") != OBJECT_OF[endpoint]:
        raise EventRefused(f"this endpoint takes {OBJECT_OF[endpoint]} bodies")
    if body.get("livemode") is not expect_livemode:
        raise EventRefused("the event is from the other mode")
    kind, event_id = body.get("type"), body.get("id")
    if not isinstance(kind, str) or not isinstance(event_id, str):
        raise EventRefused("the event has no type or no id")
    row = {
        "id": uuid7(),
        "endpoint": endpoint,
        "event_id": event_id,
        "type": kind,
        "account": body.get("account"),
        "object_id": _object_of(body, endpoint),
        "api_version": body.get("api_version"),
        "payload": payload,
        "received_at": at,
        "next_try_at": at,
        "state": InboxState.STORED,
    }
    return session.scalar(
        insert(StripeEvent).values(**row).on_conflict_do_nothing().returning(StripeEvent.id)
    )


def _object_of(body: dict[str, object], endpoint: str) -> str | None:
    """The id of the object that an event is about, which is all that is believed of it."""
    found: object = body.get("related_object")
    if endpoint == SNAPSHOT:
        data = body.get("data")
        found = data.get("object") if isinstance(data, dict) else None
    object_id = found.get("id") if isinstance(found, dict) else None
    return object_id if isinstance(object_id, str) else None


def due_events(session: Session, at: datetime, *, limit: int = 100) -> list[UUID]:
    """Events that nobody has applied yet and whose time has come, oldest first."""
    return list(
        session.scalars(
            select(StripeEvent.id)
            .where(
                StripeEvent.state.in_((InboxState.STORED, InboxState.PARKED)),
                StripeEvent.next_try_at <= at,
            )
            .order_by(StripeEvent.received_at, StripeEvent.id)
            .limit(limit)
        )
    )


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

    An object that is not known here is parked and tried again for a day, since an event may
    come before our own call has returned; then it is `broken`, for a person to look at.

    Raises:
        GatewayRefused, GatewayUnknown, GatewayKeyRejected: of fetching; the event stays due.
    """
    with begin() as session:
        event = session.get_one(StripeEvent, event_id)
        if event.state not in (InboxState.STORED, InboxState.PARKED):
            return Applied(event.id, event.type, event.state, note=event.note)
        hint = _Hint(event.type, event.account, event.object_id, event.payload)
    apply = _fetch(begin, gateway, hint, now, policy)
    at = now()
    with begin() as session:
        # Held, so that two workers on one event do their work one after the other.
        event = session.get_one(StripeEvent, event_id, with_for_update=True, populate_existing=True)
        if event.state not in (InboxState.STORED, InboxState.PARKED):
            return Applied(event.id, event.type, event.state, note=event.note)
        event.tries += 1
        if apply is None:
            return _close(session, event, InboxState.IGNORED, at, note="nothing follows from it")
        try:
            facts = apply(session, at, tell)
        except EventUnclear as unclear:
            return _close(session, event, InboxState.BROKEN, at, note=str(unclear))
        if facts is None:
            return _park(session, event, at)
        return _close(session, event, InboxState.APPLIED, at, facts)


def _close(
    session: Session,
    event: StripeEvent,
    state: InboxState,
    at: datetime,
    facts: list[Fact] | None = None,
    note: str = "",
) -> Applied:
    event.state = state
    event.applied_at = at
    event.note = note
    session.flush()
    return Applied(event.id, event.type, state, tuple(facts or ()), note=note)


def _park(session: Session, event: StripeEvent, at: datetime) -> Applied:
    if at - event.received_at >= PARK_FOR:
        return _close(
            session, event, InboxState.BROKEN, at, note=f"{event.object_id} was not known for a day"
        )
    event.state = InboxState.PARKED
    event.note = f"{event.object_id} is not known here yet"
    event.next_try_at = at + min(FIRST_WAIT * 2 ** (event.tries - 1), LONGEST_WAIT)
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


def catch_up(
    begin: Begin,
    gateway: "Gateway",
    *,
    since: datetime,
    now: Now,
    accounts: tuple[str, ...] = (),
    expect_livemode: bool = False,
) -> list[UUID]:
    """List the events since a moment and keep those whose webhook never came; their new ids.

    The platform's own events, and those of the connected accounts that are named. Run it each
    hour with a moment two hours before the last run.
    """
    at = now()
    payloads = []
    for account_id in (None, *accounts):
        payloads += [event.payload for event in gateway.events(since=since, account_id=account_id)]
    new = []
    with begin() as session:
        for payload in payloads:
            kept = _keep(
                session, payload, at=at, endpoint=SNAPSHOT, expect_livemode=expect_livemode
            )
            if kept is not None:
                new.append(kept)
    return new


def accounts_to_watch(session: Session, *, since: datetime) -> tuple[str, ...]:
    """The connected accounts that money went to lately, for `catch_up`."""
    found = session.scalars(
        select(Transfer.destination)
        .where(Transfer.at >= since.astimezone(UTC))
        .distinct()
        .order_by(Transfer.destination)
    )
    return tuple(found)
