"""An expert's payout, from what is owed to the transfer that Stripe confirms.

`states.MOVES` says what may follow what; every step is written beside its effect. The money of a
payout is reserved in the ledger while its transfer is planned, sent or of unknown outcome, and let
go only when Stripe has definitely refused.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import DateTime, Text, Uuid, bindparam, or_, select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from uuid_utils.compat import uuid7

from payouts import chart
from payouts.calls import (
    Fact,
    FactKind,
    plan_call,
)
from payouts.errors import FloorBreached, PayoutStateConflict, UnknownPayout
from payouts.holds import (
    BY_PEOPLE,
    NOT_SENT,
    HoldPolicy,
    Reason,
    end_hold,
    open_hold,
    open_holds,
    reasons_to_hold,
    write_holds,
)
from payouts.ledger import Line, balance, reserve
from payouts.models import Payee, Payout
from payouts.money import Money
from payouts.payees import payee_of
from payouts.recoveries import recover_before_payout
from payouts.states import TARGET, CallOperation, HoldCode, HoldOwner, PayoutState

POLICY = HoldPolicy()
# The state and its history in one round trip.
_MOVE = text(
    """
    with moved as (
        update payouts.payout set state = :target, state_at = :at where id = :payout
    )
    insert into payouts.payout_move (id, payout_id, owner_id, number, from_state, to_state,
        action, at, actor_id, reason_code, note)
    select :id, :payout, :owner, coalesce(max(number), 0) + 1, :source, :target,
        :action, :at, :actor, :reason, :note
    from payouts.payout_move where payout_id = :payout
    """
).bindparams(
    bindparam("at", type_=DateTime(timezone=True)),
    *(bindparam(name, type_=Uuid()) for name in ("id", "payout", "owner", "actor")),
    *(bindparam(name, type_=Text()) for name in ("source", "target", "action", "reason", "note")),
)
_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")


def move_payout(
    session: Session,
    payout: Payout,
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
    reason_code: str = "",
    note: str = "",
) -> None:
    """Take one step, and write down that it was taken; the payout is locked by the caller.

    Raises:
        PayoutStateConflict: no such step leads away from where the payout is.
    """
    source = payout.state
    target = TARGET.get((source, action))
    if target is None:
        raise PayoutStateConflict(payout.id, source, action)
    values = {
        "id": uuid7(),
        "payout": payout.id,
        "owner": payout.owner_id,
        "source": source,
        "target": target,
        "action": action,
        "at": at,
        "actor": actor_id,
        "reason": reason_code,
        "note": note,
    }
    session.execute(_MOVE, values)
    # Written above already, so that the session has nothing to write about it.
    set_committed_value(payout, "state", target)
    set_committed_value(payout, "state_at", at)


def locked_payout(session: Session, payout_id: UUID) -> Payout:
    """The payout, held until the transaction ends.

    Raises:
        UnknownPayout.
    """
    payout = session.get(Payout, payout_id, with_for_update=True, populate_existing=True)
    if payout is None:
        raise UnknownPayout(payout_id)
    return payout


def open_payout(
    session: Session,
    *,
    owner_id: UUID,
    currency: str,
    period_end: date,
    at: datetime,
    reason_code: str = "weekly",
    policy: HoldPolicy = POLICY,
    run_id: UUID | None = None,
) -> Payout | None:
    """Pay an owner all that is owed and free, once per period and reason; None when nothing is.

    At most half of it goes first to what decided cases want back. A payout of this period that
    was withdrawn or recalled makes room for another.

    The money is reserved at once. The payout comes back `held`, with its reasons in `open_holds`,
    or `batched`, with the planned transfer in `call_id` for `run_call`. A payout that waits for
    the minimum is looked at again together with a new one.
    """
    session.execute(_ONE_AT_A_TIME, {"name": f"payout:{owner_id}:{currency}"})
    kept = _kept(session, owner_id, currency, period_end, reason_code)
    for one in kept:
        if (one.period_end, one.reason_code) == (period_end, reason_code):
            return one
    free = balance(session, chart.owed_to(owner_id, currency)).available_minor
    # What a refused payout gave back and still means to pay is not free for another.
    free -= sum(
        one.amount_minor for one in kept if one.state in NOT_SENT and one.reservation_key is None
    )
    recovered = recover_before_payout(
        session,
        owner_id,
        currency,
        free_minor=free,
        period_end=period_end,
        reason_code=reason_code,
        at=at,
    )
    amount = Money(free - recovered, currency).payable()
    if amount.amount_minor <= 0:
        return None
    payout = Payout(
        owner_id=owner_id,
        currency=currency,
        period_end=period_end,
        amount_minor=amount.amount_minor,
        opened_at=at,
        state_at=at,
        reason_code=reason_code,
        run_id=run_id,
        recovered_minor=recovered,
    )
    session.add(payout)
    _reserve(session, payout, at=at)
    move_payout(session, payout, "lock_period", at=at)
    hold_or_batch(session, payout, at=at, policy=policy)
    for other in kept:
        if other.state == PayoutState.HELD:
            review_payout(session, other.id, at=at, policy=policy)
    return payout


def _kept(
    session: Session, owner_id: UUID, currency: str, period_end: date, reason_code: str
) -> list[Payout]:
    """An owner's payouts that bear on a new one, oldest first: this very one, and the unsent."""
    is_this = (Payout.period_end == period_end) & (Payout.reason_code == reason_code)
    return list(
        session.scalars(
            select(Payout)
            .where(
                Payout.owner_id == owner_id,
                Payout.currency == currency,
                Payout.state != PayoutState.CANCELLED,
                or_(is_this, Payout.state.in_(NOT_SENT)),
            )
            .order_by(Payout.opened_at, Payout.id)
            .execution_options(populate_existing=True)
        )
    )


def held_payouts(
    session: Session, *, owner_id: UUID | None = None, limit: int = 1000
) -> list[UUID]:
    """Payouts that wait, oldest first, for whoever reviews them; of one owner, or of all."""
    query = select(Payout.id).where(Payout.state == PayoutState.HELD)
    if owner_id is not None:
        query = query.where(Payout.owner_id == owner_id)
    return list(session.scalars(query.order_by(Payout.state_at, Payout.id).limit(limit)))


def _reserve(session: Session, payout: Payout, *, at: datetime) -> None:
    payout.attempt += 1
    payout.reservation_key = f"payout:{payout.id}:{payout.attempt}"
    reserve(
        session,
        key=payout.reservation_key,
        kind="payout_reserved",
        lines=transfer_lines(payout),
        at=at,
    )


def transfer_lines(payout: Payout) -> list[Line]:
    """J8: out of what is owed and on its way; from our balance at Stripe to the expert's."""
    owner_id, currency, amount = payout.owner_id, payout.currency, payout.amount_minor
    return [
        Line(chart.owed_to(owner_id, currency), chart.in_transit_to(owner_id, currency), amount),
        Line(chart.connected_balance(owner_id, currency), chart.stripe_clearing(currency), amount),
    ]


def hold_or_batch(
    session: Session, payout: Payout, *, at: datetime, policy: HoldPolicy
) -> list[Fact]:
    """Decide on an eligible payout: write down why it waits, or plan its transfer."""
    payee = payee_of(session, payout.owner_id)
    reasons = reasons_to_hold(session, payout, payee, at=at, policy=policy)
    if reasons or payee is None:
        return hold_payout(session, payout, reasons, at=at)
    if payout.reservation_key is None:
        try:
            _reserve(session, payout, at=at)
        except FloorBreached:
            # Given back by a refusal, and less than this was left since.
            payout.attempt -= 1
            payout.reservation_key = None
            changed = Reason(
                HoldCode.AMOUNT_CHANGED,
                HoldOwner.PLATFORM,
                "What you have earned has changed since this payout was made. A person looks at "
                "it and sends you what is yours.",
                at + policy.escalate_after,
            )
            return hold_payout(session, payout, [changed], at=at)
    return _batch(session, payout, payee, at=at)


def hold_payout(
    session: Session,
    payout: Payout,
    reasons: list[Reason],
    *,
    at: datetime,
    by: UUID | None = None,
) -> list[Fact]:
    """Let an eligible payout wait; the payout is locked by the caller."""
    move_payout(session, payout, "hold", at=at, actor_id=by, reason_code=reasons[0].code)
    write_holds(session, payout, reasons, at=at, placed_by=by)
    return [payout_fact(FactKind.PAYOUT_HELD, payout, " ".join(reason.text for reason in reasons))]


def _batch(session: Session, payout: Payout, payee: Payee, *, at: datetime) -> list[Fact]:
    assert payee.account_id is not None
    move_payout(session, payout, "batch", at=at)
    natural_key = f"transfer:{payout.id}"
    call = plan_call(
        session,
        operation=CallOperation.TRANSFER,
        natural_key=natural_key,
        attempt=payout.attempt,
        subject_id=payout.id,
        params={
            "amount": payout.amount_minor,
            "currency": payout.currency.lower(),
            "destination": payee.account_id,
            "transfer_group": str(payout.id),
            "description": f"Earnings until {payout.period_end}",
            "metadata": {
                "payout_id": str(payout.id),
                "natural_key": natural_key,
                "attempt": str(payout.attempt),
            },
        },
        at=at,
    )
    payout.destination = payee.account_id
    payout.destination_version = payee.destination_version
    payout.call_id = call.id
    session.flush()
    return [payout_fact(FactKind.PAYOUT_BATCHED, payout)]


def review_payout(
    session: Session, payout_id: UUID, *, at: datetime, policy: HoldPolicy = POLICY
) -> list[Fact]:
    """Look again at a payout that waits: end what has gone away, send it when nothing is left.

    A hold whose time runs out while its reason stands is passed to the platform's people, once.
    """
    payout = locked_payout(session, payout_id)
    if payout.state != PayoutState.HELD:
        return []
    payee = payee_of(session, payout.owner_id)
    reasons = reasons_to_hold(session, payout, payee, at=at, policy=policy)
    still = {reason.code for reason in reasons}
    left = []
    facts = []
    for hold in open_holds(session, payout_id):
        over = hold.code == HoldCode.PLATFORM_FUNDS and hold.expires_at <= at
        gone = hold.code not in BY_PEOPLE and hold.code not in still
        if over or (gone and hold.code != HoldCode.PLATFORM_FUNDS):
            end_hold(hold, at=at, note="The reason went away.")
            continue
        left.append(hold)
        if hold.expires_at <= at and hold.escalated_at is None:
            hold.escalated_at = at
            hold.acts = HoldOwner.PLATFORM
            facts.append(payout_fact(FactKind.PAYOUT_HOLD_ESCALATED, payout, hold.text))
    write_holds(session, payout, reasons, at=at)
    if left or reasons:
        return facts
    move_payout(session, payout, "clear", at=at)
    return facts + hold_or_batch(session, payout, at=at, policy=policy)


def place_hold(
    session: Session, payout_id: UUID, *, reason: Reason, by: UUID, at: datetime
) -> list[Fact]:
    """Let a payout wait for a reason that a person gives; `sender.stop_payout` stops a planned one.

    Raises:
        PayoutStateConflict: the transfer is planned or sent.
    """
    payout = locked_payout(session, payout_id)
    if payout.state == PayoutState.HELD:
        write_holds(session, payout, [reason], at=at, placed_by=by)
        return [payout_fact(FactKind.PAYOUT_HELD, payout, reason.text)]
    return hold_payout(session, payout, [reason], at=at, by=by)


def clear_hold(
    session: Session,
    hold_id: UUID,
    *,
    by: UUID,
    note: str,
    at: datetime,
    policy: HoldPolicy = POLICY,
) -> list[Fact]:
    """End a hold by a person's decision; the payout goes on when it was the last.

    Raises:
        UnknownHold.
    """
    hold = open_hold(session, hold_id)
    payout = locked_payout(session, hold.payout_id)
    end_hold(hold, at=at, by=by, note=note)
    session.flush()
    return review_payout(session, payout.id, at=at, policy=policy)


def payout_fact(kind: FactKind, payout: Payout, text: str = "") -> Fact:
    """Something that happened to a payout."""
    return Fact(kind, payout.id, payout.owner_id, payout.amount_minor, payout.currency, text)
