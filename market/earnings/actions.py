"""How time becomes pay."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, bindparam, select, text, update
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.earnings.queries import (
    credited,
    fixed_facts,
    paid_time,
    rates_of,
    still_reserved,
)
from market.earnings.rules import (
    Fixed,
    Line,
    OfferNotOver,
    fixed_lines,
    is_hourly,
    overtime_of,
    priced,
    review_until,
    spans_in_force,
    week_of,
)
from market.events import Changes, Event, emit
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.rules import LIVE, RECORDING, reservation_key
from market.submissions.models import Submission
from market.work.models import TimeEntry
from market.work.rules import TIME_ENTRY
from payouts import chart, ledger
from payouts.chart import account_id
from payouts.errors import FloorBreached

_NOT_WHILE_RECORDING = text("select pg_advisory_xact_lock_shared(hashtextextended(:name, 7))")
# In the order of the locks themselves, so that two who lock several never wait in a circle.
_LOCK_PAY = text(
    """
    select pg_advisory_xact_lock(lock) from (
        select hashtextextended('earnings:' || expert, 0) as lock
        from unnest(:experts) expert order by 1
    ) wanted
    """
).bindparams(bindparam("experts", type_=ARRAY(Text())))


def accrue_earning(
    session: Session,
    offer_id: UUID,
    *,
    at: datetime,
    submission_id: UUID | None = None,
    locked_only: bool = False,
) -> list[Earning]:
    """Credit what the work on an offer is worth so far, and let go what it can no longer cost.

    Safe to run any number of times: what was credited before is not credited again, and what has
    become due since (time that a person granted, a verdict overturned) is added as another part.
    Time is locked by it: from then on only a dispute can touch it. With `locked_only` the work may
    still go on, and the weeks that are locked already are credited.

    Raises:
        OfferNotFound, OfferNotOver.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state in LIVE and not locked_only:
        raise OfferNotOver(offer_id, offer.state)
    keep_from_recording(session)
    lock_pay(session, offer.expert_id)
    if offer.state not in LIVE:
        lock_time(session, TimeEntry.offer_id == offer_id, at=at)
    fixed = fixed_facts(session, offer)
    before = credited(session, offer_id)
    lines = _due(session, offer, fixed, before, at=at)
    part = 1 + max((line.part for line in before), default=0)
    key = f"earning:{offer_id}" if part == 1 else f"earning:{offer_id}:{part}"
    is_open = offer.state in LIVE or (fixed.can_add and not fixed.is_decided)
    if not lines:
        if not is_open:
            _let_go(session, offer, part, at=at)
        return []
    waived = _post(session, offer, lines, part=part, key=key, is_open=is_open, at=at)
    earnings = [
        Earning(
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            expert_id=offer.expert_id,
            offer_id=offer_id,
            submission_id=submission_id,
            week=line.week,
            kind=line.kind,
            seconds=line.seconds,
            rate_minor_per_hour=line.rate_minor_per_hour,
            pay_minor=line.pay_minor,
            fee_minor=fee,
            currency=offer.currency,
            entry_key=key,
            part=part,
            at=at,
            review_until=review_until(line.week, at),
        )
        for line, fee in zip(lines, _after_waiver(lines, waived), strict=True)
    ]
    session.add_all(earnings)
    session.flush()
    total = sum(line.pay_minor for line in lines)
    hold_pay(session, offer.expert_id, offer.currency, total, key, at)
    for earning in earnings:
        emit(
            session,
            Event.EARNING_ACCRUED,
            earning.id,
            at=at,
            person_id=offer.expert_id,
            data={
                "offer_id": str(offer_id),
                "kind": earning.kind,
                "seconds": earning.seconds,
                "amount_minor": earning.pay_minor,
                "currency": earning.currency,
            },
        )
    return earnings


def _due(
    session: Session, offer: Offer, fixed: Fixed, before: Sequence[Earning], *, at: datetime
) -> list[Line]:
    if fixed.is_void:
        return []
    stretches = paid_time(session, offer.id, locked_only=offer.state in LIVE)
    spans = spans_in_force(offer.terms, rates_of(session, offer, stretches))
    fee_basis_points = cast("int", offer.terms["fee_basis_points"])
    seen = [
        Line(
            line.week,
            line.rate_minor_per_hour,
            line.seconds,
            line.pay_minor,
            line.fee_minor,
            line.kind,
        )
        for line in before
    ]
    overtime = overtime_of(offer.terms)

    def worth(credited: Sequence[Line]) -> list[Line]:
        return priced(
            stretches,
            spans,
            fee_basis_points=fee_basis_points,
            credited=credited,
            overtime_basis_points=overtime,
        )

    hours = worth(seen)
    if offer.state in LIVE:
        return hours if is_hourly(offer.terms) else []
    worth_minor = sum(line.pay_minor for line in worth([]))
    floor_minor = None
    if not is_hourly(offer.terms):
        floor_minor, hours = worth_minor, []
    more = fixed_lines(
        week_of(offer.ended_at or at),
        fixed,
        floor_minor=floor_minor,
        fee_basis_points=fee_basis_points,
        credited=seen,
        worth_minor=worth_minor,
    )
    return hours + more


def lock_time(session: Session, which: ColumnElement[bool], *, at: datetime) -> int:
    """Lock recorded time, so that no one takes it out any more; how many stretches there were.

    What its expert had not confirmed is confirmed by that: nobody objected.
    """
    changes, waiting = Changes(at), ("recorded", "confirmed")
    rows = session.execute(
        select(TimeEntry.id, TimeEntry.state)
        .where(which, TimeEntry.state.in_(waiting))
        .order_by(TimeEntry.id)
        .with_for_update()
    ).all()
    for entry_id, state in rows:
        if state == "recorded":
            changes.move(TIME_ENTRY, entry_id, state, "confirm", reason_code="locked")
        changes.move(TIME_ENTRY, entry_id, "confirmed", "lock")
    for state in ("confirmed", "locked"):
        session.execute(
            update(TimeEntry)
            .where(TimeEntry.id.in_([row.id for row in rows]), TimeEntry.state != state)
            .values(state=state, version=TimeEntry.version + 1)
        )
    changes.write(session)
    return len(rows)


def hold_pay(
    session: Session, expert_id: UUID, currency: str, pay_minor: int, key: str, at: datetime
) -> None:
    """Keep what was credited apart from what is free to pay out, until it is approved."""
    if pay_minor:
        line = ledger.Line(
            chart.owed_to(expert_id, currency), chart.held_for(expert_id, currency), pay_minor
        )
        ledger.post_entry(session, key=f"{key}/held", kind="earning held", lines=[line], at=at)


def accrue_submission(session: Session, submission_id: UUID, *, at: datetime) -> list[Earning]:
    """Credit the time behind a submission, whatever the verdict on it was.

    Poor work is a matter for its task and for its expert's standing; the time was honest, and only
    a decided case undoes pay.

    Raises:
        As `accrue_earning`.
    """
    submission = session.get_one(Submission, submission_id)
    return accrue_earning(session, submission.offer_id, at=at, submission_id=submission_id)


def accrue_decided_time(session: Session, entry_id: UUID, *, at: datetime) -> list[Earning]:
    """Credit time on work that is over, now that somebody has decided about it.

    Work that still waits for its verdict is left to that.

    Raises:
        As `accrue_earning`.
    """
    entry = session.get_one(TimeEntry, entry_id)
    offer = any_offer(session, entry.offer_id)
    handed_in = session.scalar(select(Submission).where(Submission.offer_id == offer.id))
    if offer.state in ("released", "abandoned"):
        return accrue_earning(session, offer.id, at=at)
    if handed_in is not None and handed_in.decided_at is not None:
        return accrue_earning(session, offer.id, at=at, submission_id=handed_in.id)
    return []


def keep_from_recording(session: Session) -> None:
    """Wait until no matching run records: it reserves for many experts in an order of its own."""
    session.execute(_NOT_WHILE_RECORDING, {"name": RECORDING})


def lock_pay(session: Session, *expert_ids: UUID) -> None:
    """Keep everybody else from crediting these experts, and from paying them out, until the end of
    the transaction: so that a payout takes along the very lines that its amount is made of.
    """
    session.execute(_LOCK_PAY, {"experts": [str(one) for one in expert_ids]})


def _let_go(session: Session, offer: Offer, part: int, *, at: datetime) -> None:
    reserved = still_reserved(session, offer.id, part)
    # Whoever ended the offer may have let the money go with it, or its time ran out.
    if reserved is None:
        return
    key = f"earning:{offer.id}:none" if part == 1 else f"earning:{offer.id}:{part}:none"
    ledger.void_pending(session, reserved.key, key=key, at=at, memo="nothing more is due")


def _post(
    session: Session,
    offer: Offer,
    lines: Sequence[Line],
    *,
    part: int,
    key: str,
    is_open: bool,
    at: datetime,
) -> int:
    """Book the lines: from the reservation first, then from what the project has free.

    While more can become due, what the reservation has left is reserved again at once.
    Work that was done is paid even when neither is enough, which a rate that rose since the offer
    was made can bring about: the platform then goes without its fee, and gives of what it has.
    Returns the part of the fee that nobody was charged.

    Units: minor units.
    """
    budget = chart.project_budget(offer.project_id, offer.organisation_id, offer.currency)
    expert = chart.owed_to(offer.expert_id, offer.currency)
    platform = chart.platform_fee(offer.currency)
    pay = sum(line.pay_minor for line in lines)
    fee = sum(line.fee_minor for line in lines)
    if pay + fee == 0:
        # A second or two, worth less than half of the smallest unit.
        if not is_open:
            _let_go(session, offer, part, at=at)
        return 0
    reserved = still_reserved(session, offer.id, part)
    if reserved is not None:
        most_pay = reserved.by_account.get(account_id(expert), 0)
        most_fee = reserved.by_account.get(account_id(platform), 0)
        kept_pay, kept_fee = min(pay, most_pay), min(fee, most_fee)
        ledger.post_pending(
            session,
            reserved.key,
            key=key,
            kind="earning",
            lines=_ledger_lines((budget, expert, kept_pay), (budget, platform, kept_fee)),
            at=at,
        )
        rest = _ledger_lines(
            (budget, expert, most_pay - kept_pay), (budget, platform, most_fee - kept_fee)
        )
        if is_open and rest:
            again = f"{reservation_key(offer.id)}/{part}"
            ledger.reserve(session, key=again, kind="J3", lines=rest, at=at, memo="offer, the rest")
        pay, fee, key = pay - kept_pay, fee - kept_fee, f"{key}/more"
    if pay + fee == 0:
        return 0
    return post_from_budget(session, offer, pay, fee, key=key, at=at)


def post_from_budget(
    session: Session, offer: Offer, pay: int, fee: int, *, key: str, at: datetime
) -> int:
    """Book pay and its fee from what the project has free, and from the platform where that ends;
    the part of the fee that nobody was charged.

    Units: minor units.
    """
    budget = chart.project_budget(offer.project_id, offer.organisation_id, offer.currency)
    expert = chart.owed_to(offer.expert_id, offer.currency)
    platform = chart.platform_fee(offer.currency)
    try:
        more = _ledger_lines((budget, expert, pay), (budget, platform, fee))
        ledger.post_entry(session, key=key, kind="earning", lines=more, at=at)
    except FloorBreached as short:
        return _cover(session, offer, pay, fee, short.available_minor, key=key, at=at)
    return 0


def _cover(
    session: Session, offer: Offer, pay: int, fee: int, left: int, *, key: str, at: datetime
) -> int:
    budget = chart.project_budget(offer.project_id, offer.organisation_id, offer.currency)
    expert = chart.owed_to(offer.expert_id, offer.currency)
    platform = chart.platform_fee(offer.currency)
    from_budget = min(pay, left)
    charged = min(fee, left - from_budget)
    lines = _ledger_lines(
        (budget, expert, from_budget),
        (budget, platform, charged),
        (platform, expert, pay - from_budget),
    )
    ledger.post_entry(session, key=key, kind="earning", lines=lines, at=at)
    emit(
        session,
        Event.BUDGET_EXHAUSTED,
        offer.project_id,
        at=at,
        organisation_id=offer.organisation_id,
        data={
            "offer_id": str(offer.id),
            "covered_minor": pay - from_budget,
            "waived_minor": fee - charged,
            "currency": offer.currency,
        },
    )
    return fee - charged


def _ledger_lines(*amounts: tuple[chart.AccountRef, chart.AccountRef, int]) -> list[ledger.Line]:
    return [ledger.Line(debit, credit, amount) for debit, credit, amount in amounts if amount]


def _after_waiver(lines: Sequence[Line], waived: int) -> list[int]:
    """The fee of each line, less what was waived, which the last lines bear."""
    fees = []
    for line in reversed(lines):
        less = min(line.fee_minor, waived)
        fees.append(line.fee_minor - less)
        waived -= less
    return fees[::-1]
