"""How what is owed leaves for the bank, and what happened to money at Stripe."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from market.earnings.actions import lock_pay
from market.earnings.models import Earning
from market.events import Event, News, emit, emit_all
from market.fundings.actions import FUNDING_MOVES, move_funding, tell_overdue
from market.settings import SettingMissing, in_force
from market.treasury.queries import payout as any_payout
from market.treasury.rules import (
    EXTRA_REASONS,
    CallNotFound,
    CallStillOpen,
    ExtraReasonUnknown,
    HoldNotFound,
    NothingOwed,
    PayoutNotMovable,
    checked_note,
    checked_period_end,
)
from payouts.calls import Fact, FactKind
from payouts.decisions import approve_new_attempt
from payouts.errors import CallNotOpen, PayoutStateConflict, UnknownCall, UnknownHold
from payouts.holds import HoldPolicy
from payouts.models import Payout, PayoutHold
from payouts.opening import WEEKLY, Opened, open_payouts
from payouts.recoveries import Owner
from payouts.transfers import clear_hold, next_payout
from payouts.withdrawals import plan_recall, withdraw_payout

if TYPE_CHECKING:
    from payouts.gateway import Gateway

FACTS: dict[FactKind, Event] = {
    FactKind.PAYEE_OPENED: Event.PAYEE_OPENED,
    FactKind.PAYEE_READY: Event.PAYEE_READY,
    FactKind.PAYEE_NOT_READY: Event.PAYEE_NOT_READY,
    FactKind.REFUND_SENT: Event.REFUND_SENT,
    FactKind.REFUND_REFUSED: Event.REFUND_REFUSED,
    FactKind.PAYOUT_BATCHED: Event.PAYOUT_BATCHED,
    FactKind.PAYOUT_HELD: Event.PAYOUT_HELD,
    FactKind.PAYOUT_HOLD_ESCALATED: Event.PAYOUT_ESCALATED,
    FactKind.PAYOUT_TRANSFERRED: Event.PAYOUT_TRANSFERRED,
    FactKind.PAYOUT_ON_ITS_WAY: Event.PAYOUT_ON_ITS_WAY,
    FactKind.PAYOUT_PAID: Event.PAYOUT_PAID,
    FactKind.PAYOUT_FAILED: Event.PAYOUT_FAILED,
    FactKind.PAYOUT_RETURNED: Event.PAYOUT_RETURNED,
    FactKind.PAYOUT_CANCELLED: Event.PAYOUT_CANCELLED,
    FactKind.PAYOUT_REVERSED: Event.PAYOUT_REVERSED,
    FactKind.CALL_UNKNOWN: Event.CALL_UNKNOWN,
    # Its job runs once more, and dies where a person finds it.
    FactKind.EVENT_BROKEN: Event.STRIPE_EVENT_RECEIVED,
    FactKind.PAYOUT_WITHDRAWN: Event.PAYOUT_WITHDRAWN,
    FactKind.PAYOUT_RECALLED: Event.PAYOUT_RECALLED,
    FactKind.DISPUTE_OPENED: Event.DISPUTE_OPENED,
    FactKind.DISPUTE_WON: Event.DISPUTE_WON,
    FactKind.DISPUTE_LOST: Event.DISPUTE_LOST,
    FactKind.DISPUTE_CLOSED: Event.DISPUTE_CLOSED,
    FactKind.DISPUTE_ANSWERED: Event.DISPUTE_ANSWERED,
    FactKind.PLATFORM_PAYOUT_SENT: Event.PLATFORM_PAYOUT_SENT,
    FactKind.PLATFORM_PAYOUT_PAID: Event.PLATFORM_PAYOUT_PAID,
    FactKind.PLATFORM_PAYOUT_FAILED: Event.PLATFORM_PAYOUT_FAILED,
}
"""What money's own facts are called here; those of fundings move a row of ours instead."""

_OF_LAB = (
    FactKind.REFUND_SENT,
    FactKind.REFUND_REFUSED,
    FactKind.DISPUTE_OPENED,
    FactKind.DISPUTE_WON,
    FactKind.DISPUTE_LOST,
    FactKind.DISPUTE_CLOSED,
    FactKind.DISPUTE_ANSWERED,
)
_GIVES_BACK = (FactKind.PAYOUT_WITHDRAWN, FactKind.PAYOUT_RECALLED)
_OF_NOBODY = (
    # The subject of an unknown call may be anybody's; that is for the platform's people only.
    FactKind.CALL_UNKNOWN,
    FactKind.EVENT_BROKEN,
    FactKind.PLATFORM_PAYOUT_SENT,
    FactKind.PLATFORM_PAYOUT_PAID,
    FactKind.PLATFORM_PAYOUT_FAILED,
)


@lru_cache(maxsize=4)
def _gateway_to(key: str, base_url: str) -> "Gateway":
    from payouts.gateway import Gateway

    return Gateway(api_key=key, base_url=base_url or None)


def has_stripe() -> bool:
    """Whether an operator gave a key; a market without one keeps its books and sends nothing."""
    return bool(in_force.settings.stripe_key)


def gateway() -> "Gateway":
    """The way to Stripe under the settings in force; one for each process, as it keeps its
    connections.

    Raises:
        SettingMissing, before anything is sent, when no key was given.
    """
    settings = in_force.settings
    if not settings.stripe_key:
        raise SettingMissing("STRIPE_KEY", "the secret key of the Stripe account")
    return _gateway_to(settings.stripe_key, settings.stripe_base_url)


def hold_policy() -> HoldPolicy:
    """How long payouts wait under the settings in force."""
    settings = in_force.settings
    return HoldPolicy(
        first_payout_wait=timedelta(seconds=settings.first_payout_wait_s),
        bank_change_wait=timedelta(seconds=settings.bank_change_wait_s),
        least_minor=settings.payout_minimum_minor,
    )


def is_live() -> bool:
    """Whether the key in force moves real money."""
    return "_live_" in in_force.settings.stripe_key


def pay_owners(
    session: Session,
    owed: Sequence[Owner],
    *,
    period_end: date,
    at: datetime,
    policy: HoldPolicy,
    run_id: UUID | None = None,
    reason_code: str = WEEKLY,
) -> Opened:
    """Open the payouts of a period, each with all that is owed, and say what became of them.

    Their lines are those that no payout has taken yet; the lock keeps new ones out between the
    amounts and the lines. A payout that this period has already comes back as it is.
    """
    lock_pay(session, *{expert_id for expert_id, _ in owed})
    opened = open_payouts(
        session,
        owed,
        period_end=period_end,
        at=at,
        policy=policy,
        run_id=run_id,
        reason_code=reason_code,
    )
    if opened.new:
        session.execute(
            update(Earning)
            .where(
                Payout.id.in_([payout.id for payout in opened.new]),
                Earning.expert_id == Payout.owner_id,
                Earning.currency == Payout.currency,
                Earning.payout_id.is_(None),
                # What waits for its approval is held apart, and no part of the amount.
                Earning.state == "approved",
            )
            .values(payout_id=Payout.id)
            .execution_options(synchronize_session=False)
        )
    record_facts(session, opened.facts, at=at)
    return opened


def ask_for_more(session: Session, *, at: datetime) -> UUID | None:
    """Have the payout sent next whose transfer has waited longest, when a sender's time was over;
    None when none waits.
    """
    waiting = next_payout(session, at)
    if waiting is not None:
        emit(session, Event.PAYOUTS_LEFT, waiting, at=at)
    return waiting


def pay_again(
    session: Session,
    expert_id: UUID,
    currency: str,
    *,
    period_end: date,
    reason_code: str,
    at: datetime,
    policy: HoldPolicy,
) -> Payout:
    """Pay an expert a second time in a period, for a reason that is kept.

    Raises:
        ExtraReasonUnknown, PeriodEndInvalid, NothingOwed.
    """
    if reason_code not in EXTRA_REASONS:
        raise ExtraReasonUnknown(reason_code)
    opened = pay_owners(
        session,
        [(expert_id, currency)],
        period_end=checked_period_end(period_end, at=at),
        at=at,
        policy=policy,
        reason_code=reason_code,
    )
    if not opened.payouts:
        raise NothingOwed(expert_id)
    return opened.payouts[expert_id, currency]


def take_out(session: Session, payout_id: UUID, *, by: UUID, note: str, at: datetime) -> Payout:
    """Take one payout out that has not been sent.

    Raises:
        PayoutNotFound, PayoutNotMovable, NoteMissing.
    """
    reason = checked_note(note)
    found = any_payout(session, payout_id)
    try:
        facts = withdraw_payout(session, payout_id, by=by, note=reason, at=at)
    except PayoutStateConflict as sent:
        raise PayoutNotMovable(sent.state, "withdrawn") from None
    record_facts(session, facts, at=at)
    return found


def bring_back(session: Session, payout_id: UUID, *, by: UUID, note: str, at: datetime) -> Payout:
    """Ask Stripe for money back that an expert's bank would not take; it is owed again then.

    Raises:
        PayoutNotFound, PayoutNotMovable, NoteMissing.
    """
    reason = checked_note(note)
    found = any_payout(session, payout_id)
    try:
        call = plan_recall(session, payout_id=payout_id, by=by, reason=reason, at=at)
    except PayoutStateConflict as conflict:
        raise PayoutNotMovable(conflict.state, "recalled") from None
    emit(session, Event.PAYOUT_RECALL_REQUESTED, call.id, at=at, actor_id=by)
    return found


def record_facts(session: Session, facts: Sequence[Fact], *, at: datetime) -> None:
    """Say here what happened to money, in the transaction that made it so.

    Raises:
        StateConflict: a funding of ours stands where this cannot happen.
    """
    news = []
    for fact in facts:
        if fact.kind in FUNDING_MOVES:
            move_funding(session, fact, at=at)
        elif fact.kind is FactKind.FUNDING_OVERDUE:
            tell_overdue(session, fact, at=at)
        else:
            news.append(_news(fact))
    given_back = [fact.subject_id for fact in facts if fact.kind in _GIVES_BACK]
    if given_back:
        # The lines of pay wait for the next payout, as the money does.
        session.execute(
            update(Earning).where(Earning.payout_id.in_(given_back)).values(payout_id=None)
        )
    emit_all(session, news, at=at)


def _news(fact: Fact) -> News:
    is_lab = fact.kind in _OF_LAB
    data: dict[str, object] = {"text": fact.text} if fact.text else {}
    if fact.amount_minor:
        data |= {"amount_minor": fact.amount_minor, "currency": fact.currency}
    return News(
        FACTS[fact.kind],
        fact.subject_id,
        organisation_id=fact.owner_id if is_lab else None,
        person_id=None if is_lab or fact.kind in _OF_NOBODY else fact.owner_id,
        data=data,
    )


def approve_again(
    session: Session, call_id: UUID, *, by: UUID, note: str, at: datetime, policy: HoldPolicy
) -> None:
    """Decide, as a person, that a call of unknown outcome never happened: its money is free again.

    A payout is held then, and is sent anew when its hold is ended.

    Raises:
        CallNotFound, CallStillOpen, NoteMissing.
    """
    reason = checked_note(note)
    try:
        facts = approve_new_attempt(session, call_id, by=by, reason=reason, at=at, policy=policy)
    except UnknownCall:
        raise CallNotFound(call_id) from None
    except CallNotOpen as open_still:
        raise CallStillOpen(call_id, open_still.why) from None
    record_facts(session, facts, at=at)


def end_hold(
    session: Session, hold_id: UUID, *, by: UUID, note: str, at: datetime, policy: HoldPolicy
) -> Payout:
    """Let a payout go on, by a person's decision, as far as nothing else holds it.

    Raises:
        HoldNotFound, NoteMissing.
    """
    reason = checked_note(note)
    try:
        facts = clear_hold(session, hold_id, by=by, note=reason, at=at, policy=policy)
    except UnknownHold:
        raise HoldNotFound(hold_id) from None
    record_facts(session, facts, at=at)
    return session.get_one(Payout, session.get_one(PayoutHold, hold_id).payout_id)
