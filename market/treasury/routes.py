"""Payouts, calls to Stripe and its webhooks, over HTTP."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import litestar
from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, RawBody
from sqlalchemy.orm import Session

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.earnings.routes import ConversionOut, conversion_out
from market.events import Event, emit
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    page,
    page_of,
    post,
    read_id,
    wire_id,
)
from market.projects.routes import MoneyOut
from market.settings import in_force
from market.treasury.actions import (
    approve_again,
    bring_back,
    end_hold,
    hold_policy,
    is_live,
    pay_again,
    take_out,
)
from market.treasury.queries import calls, holds_of, payout, payouts
from payouts.bank_models import Conversion
from payouts.conversions import conversions_of
from payouts.inbox import SNAPSHOT, THIN, store_event
from payouts.models import ExternalCall, Payout, PayoutHold

# Payouts ------------------------------------------------------------------------------------------


class HoldOut(Wire):
    """Why a payout waits, and who has to act: `expert`, `platform`, or `time` alone."""

    id: str
    code: str
    acts: str
    text: str
    placed_at: datetime
    expires_at: datetime


class PayoutOut(Wire):
    """What you are paid for the time until a Monday, and how far it is on its way to your bank;
    `arrived` where Stripe changed it into another currency.
    """

    id: str
    expert_id: str
    amount: MoneyOut
    period_end: date
    state: str
    state_at: datetime
    opened_at: datetime
    holds: list[HoldOut]
    failure: str | None
    arrived: ConversionOut | None


class NoteIn(Wire):
    """Why, for whoever asks later."""

    note: str


@get("/payouts", scope="earning:read", tags=["Payouts"])
def get_payouts(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[PayoutOut]:
    """Your payouts, newest first, each with what it waits for."""
    own = None if principal.part is Part.OPS else principal.person_id
    with database.begin() as session:
        rows, following = page_of(
            session,
            payouts(owner_id=own, state=in_state),
            Payout.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|{in_state}",
        )
        return page(_payouts_out(session, rows), following)


@get("/payouts/{payout_id:str}", scope="earning:read", tags=["Payouts"])
def get_payout(payout_id: FromPath[str]) -> PayoutOut:
    """One payout, and what it waits for."""
    with database.begin() as session:
        found = payout(session, read_id("pay", payout_id))
        return _payouts_out(session, [found])[0]


@post("/payout-holds/{hold_id:str}/end", scope="pay:write", status_code=200, tags=["Payouts"])
def post_hold_end(
    hold_id: FromPath[str], data: JSONBody[NoteIn], principal: NamedDependency[Principal]
) -> PayoutOut:
    """Let a payout go on, as far as nothing else holds it; a machine's reason comes back if it
    still stands.
    """
    with database.begin() as session:
        moved = end_hold(
            session,
            read_id("hld", hold_id),
            by=principal.person_id,
            note=data.note,
            at=now(),
            policy=hold_policy(),
        )
        return _payouts_out(session, [moved])[0]


class ExtraPayoutIn(Wire):
    """Pay an expert a second time in a period, and why: `correction`, `retry`, `leaving` or
    `hardship`.
    """

    expert_id: str
    currency: str
    period_end: date
    reason_code: str


@post("/payouts", scope="pay:write", keyed="required", status_code=201, tags=["Payouts"])
def post_payout(data: JSONBody[ExtraPayoutIn]) -> PayoutOut:
    """Pay one expert what is owed and free, beside the week's own payout."""
    with database.begin() as session:
        made = pay_again(
            session,
            read_id("per", data.expert_id),
            data.currency,
            period_end=data.period_end,
            reason_code=data.reason_code,
            at=now(),
            policy=hold_policy(),
        )
        return _payouts_out(session, [made])[0]


@post("/payouts/{payout_id:str}/withdraw", scope="pay:write", status_code=200, tags=["Payouts"])
def post_withdrawal(
    payout_id: FromPath[str], data: JSONBody[NoteIn], principal: NamedDependency[Principal]
) -> PayoutOut:
    """Take a payout out that has not been sent."""
    with database.begin() as session:
        found = take_out(
            session, read_id("pay", payout_id), by=principal.person_id, note=data.note, at=now()
        )
        return _payouts_out(session, [found])[0]


@post("/payouts/{payout_id:str}/recall", scope="pay:write", status_code=202, tags=["Payouts"])
def post_recall(
    payout_id: FromPath[str], data: JSONBody[NoteIn], principal: NamedDependency[Principal]
) -> PayoutOut:
    """Ask Stripe for money back that a bank would not take, so that it can be paid anew."""
    with database.begin() as session:
        found = bring_back(
            session, read_id("pay", payout_id), by=principal.person_id, note=data.note, at=now()
        )
        return _payouts_out(session, [found])[0]


class CallOut(Wire):
    """A write to Stripe: `unknown` may have happened, and is looked for before anything else."""

    id: str
    operation: str
    state: str
    attempt: int
    tries: int
    lookups: int
    planned_at: datetime
    next_try_at: datetime
    object_id: str | None
    error: str | None


@get("/external-calls", scope="pay:read", tags=["Payouts"])
def get_calls(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[CallOut]:
    """What was asked of Stripe, newest first."""
    with database.begin() as session:
        return listed(
            session,
            calls(state=in_state),
            ExternalCall.id,
            _call_out,
            limit=limit,
            cursor=cursor,
            filters=f"calls|{in_state}",
        )


@post(
    "/external-calls/{call_id:str}/approval", scope="pay:write", status_code=200, tags=["Payouts"]
)
def post_call_approval(
    call_id: FromPath[str], data: JSONBody[NoteIn], principal: NamedDependency[Principal]
) -> CallOut:
    """Decide that a call which was looked for twice and not found never happened."""
    wanted = read_id("cal", call_id)
    with database.begin() as session:
        approve_again(
            session,
            wanted,
            by=principal.person_id,
            note=data.note,
            at=now(),
            policy=hold_policy(),
        )
        return _call_out(session.get_one(ExternalCall, wanted))


# What Stripe says ---------------------------------------------------------------------------------


@litestar.post("/webhooks/stripe", sync_to_thread=True, status_code=200, tags=["Stripe"])
def post_stripe_event(request: Request[Any, Any, Any], body: RawBody) -> dict[str, bool]:
    """Where Stripe says that something has changed; the work is done afterwards."""
    secret = in_force.settings.stripe_webhook_secret
    return _keep_event(request, body, secret, SNAPSHOT)


@litestar.post("/webhooks/stripe-thin", sync_to_thread=True, status_code=200, tags=["Stripe"])
def post_thin_event(request: Request[Any, Any, Any], body: RawBody) -> dict[str, bool]:
    """The same for events that name an object and say nothing about it."""
    secret = in_force.settings.stripe_thin_secret
    return _keep_event(request, body, secret, THIN)


def _keep_event(
    request: Request[Any, Any, Any], body: bytes, secret: str, endpoint: str
) -> dict[str, bool]:
    # As the platform: Stripe has no key of ours, its signature says who it is.
    with database.begin(PLATFORM) as session:
        kept = store_event(
            session,
            payload=body,
            signature=request.headers.get("stripe-signature", ""),
            secret=secret,
            at=now(),
            endpoint=endpoint,
            expect_livemode=is_live(),
        )
        if kept is not None:
            emit(session, Event.STRIPE_EVENT_RECEIVED, kept, at=now())
    return {"received": True}


# As they travel -----------------------------------------------------------------------------------


def _payouts_out(session: Session, rows: Sequence[Payout]) -> list[PayoutOut]:
    ids = [row.id for row in rows]
    holds, changed = holds_of(session, ids), conversions_of(session, ids)
    return [_payout_out(row, holds[row.id], changed.get(row.id)) for row in rows]


def _payout_out(found: Payout, holds: list[PayoutHold], changed: Conversion | None) -> PayoutOut:
    return PayoutOut(
        id=wire_id("pay", found.id),
        expert_id=wire_id("per", found.owner_id),
        amount=MoneyOut(amount_minor=found.amount_minor, currency=found.currency),
        period_end=found.period_end,
        state=str(found.state),
        state_at=found.state_at,
        opened_at=found.opened_at,
        holds=[
            HoldOut(
                id=wire_id("hld", hold.id),
                code=str(hold.code),
                acts=str(hold.acts),
                text=hold.text,
                placed_at=hold.placed_at,
                expires_at=hold.expires_at,
            )
            for hold in holds
        ],
        failure=found.failure_text,
        arrived=conversion_out(changed) if changed is not None else None,
    )


def _call_out(call: ExternalCall) -> CallOut:
    return CallOut(
        id=wire_id("cal", call.id),
        operation=str(call.operation),
        state=str(call.state),
        attempt=call.attempt,
        tries=call.tries,
        lookups=call.lookups,
        planned_at=call.planned_at,
        next_try_at=call.next_try_at,
        object_id=call.object_id,
        error=call.error_text,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_payouts,
    get_payout,
    post_hold_end,
    post_payout,
    post_withdrawal,
    post_recall,
    get_calls,
    post_call_approval,
]

WEBHOOKS: list[HTTPRouteHandler] = [post_stripe_event, post_thin_event]
"""Outside `/v1` and without a key: their signature is their key."""
