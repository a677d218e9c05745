"""An expert's payout, from what is owed to the transfer that Stripe confirms.

`states.MOVES` says what may follow what; every step is written beside its effect. The money of a
payout is reserved in the ledger while its transfer is planned, sent or of unknown outcome, and let
go only when Stripe has definitely refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Text, Uuid, bindparam, select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from uuid_utils.compat import uuid7

from payouts import chart
from payouts.calls import Fact, FactKind, Plan, plan_calls
from payouts.errors import FloorBreached, PayoutStateConflict, UnknownPayout
from payouts.holds import (
    BY_PEOPLE,
    HoldPolicy,
    Reason,
    end_hold,
    open_hold,
    open_holds,
    reasons_to_hold,
    standing_of,
    write_holds,
)
from payouts.ledger import Line, reserve
from payouts.models import ExternalCall, Payee, Payout
from payouts.states import (
    TARGET,
    CallOperation,
    CallState,
    HoldCode,
    HoldOwner,
    PayoutState,
)

POLICY = HoldPolicy()
RESERVED = "payout_reserved"
# Where each stands and how it came there, in one round trip.
_MOVE = text(
    """
    with step as (
        select * from unnest(:ids, :payouts, :owners, :sources, :targets, :actions, :actors,
            :reasons, :notes)
            as step (id, payout, owner, source, target, action, actor, reason, note)
    ), moved as (
        update payouts.payout set state = step.target, state_at = :at
        from step where payout.id = step.payout
    )
    insert into payouts.payout_move (id, payout_id, owner_id, number, from_state, to_state,
        action, at, actor_id, reason_code, note)
    select step.id, payout, owner, coalesce(
            (select max(number) from payouts.payout_move where payout_id = step.payout), 0) + 1,
        source, target, action, :at, actor, reason, note
    from step
    """
).bindparams(
    bindparam("at", type_=DateTime(timezone=True)),
    *(bindparam(name, type_=ARRAY(Uuid())) for name in ("ids", "payouts", "owners", "actors")),
    *(
        bindparam(name, type_=ARRAY(Text()))
        for name in ("sources", "targets", "actions", "reasons", "notes")
    ),
)


@dataclass(frozen=True, slots=True)
class Step:
    """What a payout is to do next, who says so, and why."""

    payout: Payout
    action: str
    actor_id: UUID | None = None
    reason_code: str = ""
    note: str = ""


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
    move_payouts(session, [Step(payout, action, actor_id, reason_code, note)], at=at)


def move_payouts(session: Session, steps: Sequence[Step], *, at: datetime) -> None:
    """Take a step with each of many payouts; none is taken when one of them does not lead away.

    Raises:
        PayoutStateConflict.
    """
    targets = []
    for step in steps:
        target = TARGET.get((step.payout.state, step.action))
        if target is None:
            raise PayoutStateConflict(step.payout.id, step.payout.state, step.action)
        targets.append(target)
    # What stands in the session only would not be found by the statement.
    session.flush()
    session.execute(
        _MOVE,
        {
            "ids": [uuid7() for _ in steps],
            "payouts": [step.payout.id for step in steps],
            "owners": [step.payout.owner_id for step in steps],
            "sources": [step.payout.state for step in steps],
            "targets": targets,
            "actions": [step.action for step in steps],
            "actors": [step.actor_id for step in steps],
            "reasons": [step.reason_code for step in steps],
            "notes": [step.note for step in steps],
            "at": at,
        },
    )
    for step, target in zip(steps, targets, strict=True):
        # Written above already, so that the session has nothing to write about it.
        set_committed_value(step.payout, "state", target)
        set_committed_value(step.payout, "state_at", at)


def locked_payout(session: Session, payout_id: UUID) -> Payout:
    """The payout, held until the transaction ends.

    Raises:
        UnknownPayout.
    """
    payout = session.get(Payout, payout_id, with_for_update=True, populate_existing=True)
    if payout is None:
        raise UnknownPayout(payout_id)
    return payout


def locked_payouts(session: Session, payout_ids: Sequence[UUID]) -> dict[UUID, Payout]:
    """Many payouts, held until the transaction ends; locked in the order of their ids."""
    found = session.scalars(
        select(Payout)
        .where(Payout.id.in_(payout_ids))
        .order_by(Payout.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {payout.id: payout for payout in found}


def held_payouts(
    session: Session,
    *,
    owner_id: UUID | None = None,
    after: UUID | None = None,
    limit: int = 1000,
) -> list[UUID]:
    """Payouts that wait, in the order they were opened, for whoever reviews them; of one owner, or
    of all, from the one that follows another.
    """
    query = select(Payout.id).where(Payout.state == PayoutState.HELD)
    if owner_id is not None:
        query = query.where(Payout.owner_id == owner_id)
    if after is not None:
        query = query.where(Payout.id > after)
    return list(session.scalars(query.order_by(Payout.id).limit(limit)))


def next_payout(session: Session, at: datetime) -> UUID | None:
    """The payout whose transfer has been planned longest and that nobody has begun to send."""
    return session.scalars(
        select(Payout.id)
        .join(ExternalCall, ExternalCall.id == Payout.call_id)
        .where(ExternalCall.state == CallState.PLANNED, ExternalCall.next_try_at <= at)
        .order_by(ExternalCall.next_try_at, ExternalCall.id)
        .limit(1)
    ).one_or_none()


def name_reservation(payout: Payout) -> str:
    """The key under which the money of the payout's next attempt is reserved."""
    payout.attempt += 1
    payout.reservation_key = f"payout:{payout.id}:{payout.attempt}"
    return payout.reservation_key


def _reserve(session: Session, payout: Payout, *, at: datetime) -> None:
    reserve(
        session,
        key=name_reservation(payout),
        kind=RESERVED,
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
    standing = standing_of(session, payout, policy=policy)
    payee = standing.payee
    reasons = reasons_to_hold(payout, standing, at=at, policy=policy)
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
    move_payout(session, payout, "batch", at=at)
    (call,) = plan_calls(session, [transfer_plan(payout, payee)], at=at)
    payout.call_id = call.id
    session.flush()
    return [payout_fact(FactKind.PAYOUT_BATCHED, payout)]


def transfer_plan(payout: Payout, payee: Payee) -> Plan:
    """The transfer of a payout; where it goes is pinned by it."""
    assert payee.account_id is not None
    payout.destination = payee.account_id
    payout.destination_version = payee.destination_version
    natural_key = f"transfer:{payout.id}"
    return Plan(
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
    )


def review_payout(
    session: Session, payout_id: UUID, *, at: datetime, policy: HoldPolicy = POLICY
) -> list[Fact]:
    """Look again at a payout that waits: end what has gone away, send it when nothing is left.

    A hold whose time runs out while its reason stands is passed to the platform's people, once.
    """
    payout = locked_payout(session, payout_id)
    if payout.state != PayoutState.HELD:
        return []
    standing = standing_of(session, payout, policy=policy)
    reasons = reasons_to_hold(payout, standing, at=at, policy=policy)
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
