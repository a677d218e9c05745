"""Payouts of a period, opened for many owners at once: what each is owed, and whether it may leave.

However many owners are asked for, it takes the same few statements; only what is out of the common
(a case that wants money back, a payout that still waits) costs some more for each. The caller's
transaction makes all of them or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, or_, select, text
from sqlalchemy.orm import Session

from payouts import chart
from payouts.calls import Fact, FactKind, plan_calls
from payouts.holds import (
    NOT_SENT,
    HoldPolicy,
    Reason,
    Standing,
    new_hold,
    reasons_to_hold,
    standings,
)
from payouts.ledger import balances
from payouts.models import Payee, Payout
from payouts.money import Money
from payouts.recoveries import Owner, outstanding, recover_before_payout
from payouts.reservations import Reservation, reserve_many
from payouts.states import PayoutState
from payouts.transfers import (
    POLICY,
    RESERVED,
    Step,
    move_payouts,
    name_reservation,
    payout_fact,
    review_payout,
    transfer_lines,
    transfer_plan,
)

WEEKLY = "weekly"

# In the order of the locks themselves, so that two runs over the same owners never wait in a
# circle.
_ONE_AT_A_TIME = text(
    """
    select pg_advisory_xact_lock(lock) from (
        select hashtextextended(name, 0) as lock from unnest(:names) name order by 1
    ) wanted
    """
).bindparams(bindparam("names", type_=ARRAY(Text())))


@dataclass(frozen=True, slots=True)
class Opened:
    """The payouts of a period by their owners, those that were there before too; which of them are
    new; and what happened, to others of the same owners as well.
    """

    payouts: Mapping[Owner, Payout]
    new: Sequence[Payout]
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A payout that may be made, and why it waits: for nothing, when there is where to send it."""

    payout: Payout
    reasons: list[Reason]
    send_to: Payee | None


def open_payout(
    session: Session,
    *,
    owner_id: UUID,
    currency: str,
    period_end: date,
    at: datetime,
    reason_code: str = WEEKLY,
    policy: HoldPolicy = POLICY,
    run_id: UUID | None = None,
) -> Payout | None:
    """Pay one owner, as `open_payouts` does; None when nothing is owed."""
    owner = owner_id, currency
    opened = open_payouts(
        session,
        [owner],
        period_end=period_end,
        at=at,
        reason_code=reason_code,
        policy=policy,
        run_id=run_id,
    )
    return opened.payouts.get(owner)


def open_payouts(
    session: Session,
    owed: Sequence[Owner],
    *,
    period_end: date,
    at: datetime,
    reason_code: str = WEEKLY,
    policy: HoldPolicy = POLICY,
    run_id: UUID | None = None,
) -> Opened:
    """Pay each owner all that is owed and free, once per period and reason; none where nothing is.

    At most half of it goes first to what decided cases want back. A payout of this period that
    was withdrawn or recalled makes room for another.

    The money is reserved at once. A new payout is `held`, with its reasons in `open_holds`, or
    `batched`, with the planned transfer in `call_id` for a sender. One that waits for the minimum
    is looked at again together with a new one.
    """
    _lock(session, owed)
    unsent = _unsent(session, owed, period_end, reason_code)
    there = {
        owner: one
        for owner, kept in unsent.items()
        for one in kept
        if (one.period_end, one.reason_code) == (period_end, reason_code)
    }
    fresh = [owner for owner in owed if owner not in there]
    accounts = {owner: chart.owed_to(*owner) for owner in fresh}
    found = balances(session, list(accounts.values()))
    wanted = outstanding(session, fresh)
    asked = []
    for owner in fresh:
        free = found[accounts[owner]].available_minor
        # What a refused payout gave back and still means to pay is not free for another.
        free -= sum(one.amount_minor for one in unsent[owner] if one.reservation_key is None)
        recovered = 0
        if wanted[owner]:
            recovered = recover_before_payout(
                session,
                *owner,
                free_minor=free,
                period_end=period_end,
                reason_code=reason_code,
                at=at,
            )
        amount = Money(free - recovered, owner[1]).payable()
        if amount.amount_minor > 0:
            payout = Payout(
                owner_id=owner[0],
                currency=owner[1],
                period_end=period_end,
                amount_minor=amount.amount_minor,
                opened_at=at,
                state_at=at,
                reason_code=reason_code,
                run_id=run_id,
                recovered_minor=recovered,
            )
            asked.append(payout)
    new = _reserved(session, asked, at=at)
    facts = _hold_or_batch(session, new, at=at, policy=policy)
    for payout in new:
        for other in unsent[payout.owner_id, payout.currency]:
            if other.state == PayoutState.HELD:
                facts += review_payout(session, other.id, at=at, policy=policy)
    return Opened(there | {(one.owner_id, one.currency): one for one in new}, new, facts)


def _lock(session: Session, owed: Sequence[Owner]) -> None:
    names = [f"payout:{owner_id}:{currency}" for owner_id, currency in owed]
    session.execute(_ONE_AT_A_TIME, {"names": names})


def _unsent(
    session: Session, owed: Sequence[Owner], period_end: date, reason_code: str
) -> dict[Owner, list[Payout]]:
    """Each owner's payouts that bear on a new one, oldest first: this very one, and those that a
    refusal or a look would change meanwhile. They are held until the transaction ends.
    """
    is_this = (Payout.period_end == period_end) & (Payout.reason_code == reason_code)
    kept: dict[Owner, list[Payout]] = {owner: [] for owner in owed}
    found = session.scalars(
        select(Payout)
        .where(
            Payout.owner_id.in_([owner_id for owner_id, _ in owed]),
            Payout.state != PayoutState.CANCELLED,
            # What is reserved may be given back by a refusal at this very moment.
            or_(is_this, Payout.state.in_(NOT_SENT), Payout.reservation_key.is_not(None)),
        )
        .order_by(Payout.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for one in sorted(found, key=lambda one: (one.opened_at, one.id)):
        if (one.owner_id, one.currency) in kept:
            kept[one.owner_id, one.currency].append(one)
    return kept


def _reserved(session: Session, asked: Sequence[Payout], *, at: datetime) -> list[Payout]:
    """Those whose money is theirs from now on; somebody may have taken it since it was counted."""
    wanted = [
        Reservation(name_reservation(payout), RESERVED, tuple(transfer_lines(payout)))
        for payout in asked
    ]
    granted = reserve_many(session, wanted, at=at)
    return [payout for payout in asked if payout.reservation_key in granted]


def _hold_or_batch(
    session: Session, new: Sequence[Payout], *, at: datetime, policy: HoldPolicy
) -> list[Fact]:
    """Write new payouts down, each with why it waits or with its planned transfer."""
    if not new:
        return []
    standing = standings(session, [(one.owner_id, one.currency) for one in new], policy=policy)
    decided = [_decide(one, standing[one.owner_id, one.currency], at, policy) for one in new]
    sent = [(one.payout, one.send_to) for one in decided if one.send_to is not None]
    plans = [transfer_plan(payout, payee) for payout, payee in sent]
    for (payout, _), call in zip(sent, plan_calls(session, plans, at=at), strict=True):
        payout.call_id = call.id
    session.add_all(new)
    for one in decided:
        session.add_all([new_hold(one.payout, reason, at=at) for reason in one.reasons])
    move_payouts(session, [Step(payout, "lock_period") for payout in new], at=at)
    steps, facts = [], []
    for one in decided:
        if one.send_to is None:
            said = " ".join(reason.text for reason in one.reasons)
            steps.append(Step(one.payout, "hold", reason_code=one.reasons[0].code))
            facts.append(payout_fact(FactKind.PAYOUT_HELD, one.payout, said))
        else:
            steps.append(Step(one.payout, "batch"))
            facts.append(payout_fact(FactKind.PAYOUT_BATCHED, one.payout))
    move_payouts(session, steps, at=at)
    return facts


def _decide(payout: Payout, standing: Standing, at: datetime, policy: HoldPolicy) -> _Decided:
    reasons = reasons_to_hold(payout, standing, at=at, policy=policy)
    return _Decided(payout, reasons, None if reasons else standing.payee)
