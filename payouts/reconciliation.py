"""Reconciliation: every line of every balance at Stripe against the books, in both directions.

Lines are pulled once and kept as they came. A line and our entry about the same movement share a
reference, made from Stripe's ids on both sides, and their sums must be equal for each balance,
currency and reference. Whatever is not equal is a break, with an age and an owner, until it went
away by itself or a person has said why.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import exists, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from payouts import chart
from payouts.breaks import PLATFORM, Difference, keep_breaks
from payouts.conversions import book_conversions
from payouts.errors import GatewayRefused
from payouts.ledger import Line, post_entry
from payouts.ledger_models import JournalEntry
from payouts.models import Payee
from payouts.money import EXPONENTS
from payouts.outcomes import Begin, Now
from payouts.proof_models import Break, BreakKind, PullMark, StripeLine
from payouts.seen import BalanceSeen, TransactionSeen

if TYPE_CHECKING:
    from payouts.gateway import Gateway

PULL_AGAIN = timedelta(hours=48)
"""How far before the last pull each one begins: lines may appear late."""
OVERDUE = timedelta(hours=24)
"""From what age on a break is an alarm."""
EVER = datetime(2020, 1, 1, tzinfo=UTC)

BY_SOURCE = {
    "charge": "charge",
    "transfer": "transfer",
    "transfer_reversal": "reversal",
    "refund": "refund",
    "refund_failure": "refund_failure",
    # A payout that came back cancels the one that went out.
    "payout": "payout",
    "payout_reversal": "payout",
}
"""Stripe's reporting category, and what our entries call such a movement; others are matched line
by line."""

_DIFFERENT = text(
    """
    with leg as (
        select e.key, e.kind, a.currency, a.code,
            split_part(e.key, ':', 2) as second, split_part(e.key, ':', 3) as third,
            split_part(e.key, ':', 4) as fourth, split_part(e.key, ':', 5) as fifth,
            case a.code when 'stripe_clearing' then 'platform' else a.owner_id::text end as place,
            case when p.debit_account_id = a.id then p.amount_minor else -p.amount_minor end
                as amount
        from payouts.ledger_account a
        join payouts.posting p on a.id in (p.debit_account_id, p.credit_account_id)
        join payouts.journal_entry e on e.id = p.entry_id and e.phase = 'posted'
        where a.code in ('stripe_clearing', 'connected_balance')
    ), named as (
        select leg.place, leg.currency, leg.amount,
            coalesce(case
                when leg.kind = 'funding_received' then 'charge:' || f.charge_id
                when leg.kind = 'payout_transferred' and leg.code = 'stripe_clearing'
                    then 'transfer:' || t.stripe_id
                when leg.kind = 'payout_transferred' then 'charge:' || t.destination_payment
                when leg.kind in ('payout_paid', 'payout_returned') then 'payout:' || leg.fourth
                when leg.kind in ('payout_reversed', 'payout_recalled')
                    and leg.code = 'stripe_clearing' then 'reversal:' || c.object_id
                when leg.kind in ('payout_reversed', 'payout_recalled')
                    then 'refund:' || (c.answer::jsonb ->> 'refund')
                when leg.kind = 'refund_left' then 'refund:' || c.object_id
                when leg.kind = 'refund_failed' then 'refund_failure:' || c.object_id
                when leg.kind in ('platform_payout_sent', 'platform_payout_returned')
                    then 'payout:' || o.stripe_id
                when leg.kind in ('card_dispute_taken', 'card_dispute_returned')
                    then 'line:' || leg.third
                when leg.kind = 'stripe_fee' then 'line:' || leg.second
                when leg.kind = 'transfer_converted' then 'charge:' || v.destination_payment
                when leg.kind = 'payout_converted' then 'payout:' || leg.fourth
                when leg.kind = 'reversal_converted' and leg.code = 'stripe_clearing'
                    then 'reversal:' || leg.fourth
                when leg.kind = 'reversal_converted' then 'refund:' || leg.fifth
                when leg.kind = 'suspense' then b.reference
            end, 'entry:' || leg.key) as reference
        from leg
        left join payouts.funding f
            on leg.kind = 'funding_received' and f.id::text = leg.second
        left join payouts.external_call c
            on c.natural_key = case leg.kind
                when 'payout_transferred' then 'transfer:' || leg.second
                when 'payout_reversed' then 'reversal:' || leg.second
                when 'payout_recalled' then 'reversal:' || leg.second
                when 'refund_left' then 'refund:' || leg.second
                when 'refund_failed' then 'refund:' || leg.second end
            and c.attempt::text = leg.third
        left join payouts.transfer t on t.call_id = c.id
        left join payouts.transfer v
            on leg.kind = 'transfer_converted' and v.id::text = leg.second
        left join payouts.platform_payout o
            on leg.kind like 'platform_payout%' and o.id::text = leg.second
        left join payouts.reconciliation_break b
            on leg.kind = 'suspense' and b.id::text = leg.second
    ), ours as (
        select place, currency, reference, sum(amount)::bigint as amount, count(*) as lines
        from named group by place, currency, reference
    ), theirs as (
        select place, currency, reference, sum(net_minor)::bigint as amount, count(*) as lines
        from payouts.stripe_line group by place, currency, reference
    )
    select place, currency, reference,
        coalesce(ours.amount, 0) as ours, coalesce(theirs.amount, 0) as theirs,
        coalesce(ours.lines, 0) as ours_lines, coalesce(theirs.lines, 0) as theirs_lines
    from ours full join theirs using (place, currency, reference)
    where coalesce(ours.amount, 0) <> coalesce(theirs.amount, 0)
      -- Stripe takes the money off the balance when it starts, we when the bank has it.
      and not (ours.amount is null and exists (
        select from payouts.payout y
        where 'payout:' || y.stripe_payout_id = reference
          and y.state in ('payout_pending', 'in_transit')))
    order by place, currency, reference
    """
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one reconciliation came to."""

    at: datetime
    new_lines: int
    fees_booked: int
    conversions_booked: int
    lines: int
    theirs_minor: Mapping[str, int]
    opened: int
    closed: int
    open_breaks: int
    overdue_breaks: int
    by_kind: Mapping[str, int]
    unread: Sequence[UUID] = ()


def reference_of(seen: TransactionSeen) -> str:
    """What our own entry about a line of Stripe's is found by."""
    name = BY_SOURCE.get(seen.category)
    return f"{name}:{seen.source_id}" if name and seen.source_id else f"line:{seen.id}"


def reconcile(
    begin: Begin, gateway: "Gateway", *, now: Now, owners: Sequence[UUID] = ()
) -> Reconciled:
    """Pull what is new, book Stripe's own fees and its conversions, match everything, and keep what
    does not match.

    `owners` are those whose connected accounts are pulled beside the platform's balance. Reads
    Stripe outside of any transaction; safe to run again at any point.

    An account that Stripe does not show us any more (closed, or given up by its owner) is named in
    `unread` and holds up none of the others; what is not pulled of it is a break like any other.

    Raises:
        GatewayUnknown, GatewayRefused, GatewayKeyRejected: what was pulled before is kept.
    """
    new = _pull(begin, gateway, PLATFORM, None, now)
    unread = []
    for owner_id, account_id in _accounts(begin, owners):
        try:
            new += _pull(begin, gateway, str(owner_id), account_id, now)
        except GatewayRefused:
            unread.append(owner_id)
    held = gateway.balance()
    with begin() as session:
        fees, changed = book_fees(session, at=now()), book_conversions(session, at=now())
        found = [*differences(session), *_balance_differences(session, held)]
        opened, closed = keep_breaks(session, found, at=now())
        return _summary(session, now(), new, (fees, changed), opened, closed, tuple(unread))


def _accounts(begin: Begin, owners: Sequence[UUID]) -> list[tuple[UUID, str]]:
    with begin() as session:
        rows = session.execute(
            select(Payee.owner_id, Payee.account_id)
            .where(Payee.owner_id.in_(list(owners)), Payee.account_id.is_not(None))
            .order_by(Payee.owner_id)
        )
        return [(owner, account) for owner, account in rows if account is not None]


def _pull(begin: Begin, gateway: "Gateway", place: str, account_id: str | None, now: Now) -> int:
    """Store the lines of one balance that are not here yet; how many it were."""
    began = now()
    with begin() as session:
        mark = session.get(PullMark, place)
        since = mark.pulled_until - PULL_AGAIN if mark else EVER
    lines = list(gateway.transactions(since=since, account_id=account_id))
    with begin() as session:
        stored = 0
        for chunk in _chunks(lines, 500):
            rows = [_row(seen, place, began) for seen in chunk]
            made = session.scalars(
                insert(StripeLine).values(rows).on_conflict_do_nothing().returning(StripeLine.id)
            )
            stored += len(made.all())
        values = {"place": place, "pulled_until": began}
        session.execute(
            insert(PullMark)
            .values(**values)
            .on_conflict_do_update(index_elements=["place"], set_={"pulled_until": began})
        )
        return stored


def _chunks(lines: list[TransactionSeen], size: int) -> Iterable[list[TransactionSeen]]:
    return (lines[i : i + size] for i in range(0, len(lines), size))


def _row(seen: TransactionSeen, place: str, at: datetime) -> dict[str, object]:
    return {
        "id": seen.id,
        "place": place,
        "type": seen.type,
        "category": seen.category,
        "amount_minor": seen.amount_minor,
        "fee_minor": seen.fee_minor,
        "net_minor": seen.net_minor,
        "currency": seen.currency,
        "source_id": seen.source_id,
        "reference": reference_of(seen),
        "created_at": seen.created_at,
        "pulled_at": at,
        "exchange_rate": seen.stated_rate,
    }


def book_fees(session: Session, *, at: datetime) -> int:
    """Book what Stripe charged by itself; how many lines it were. With what Stripe changed into
    another currency these are the only ones that are booked by rule.
    """
    fees = session.scalars(
        select(StripeLine).where(
            StripeLine.place == PLATFORM,
            StripeLine.category == "fee",
            StripeLine.net_minor != 0,
            # Of another nobody has said how many decimals it has: it stays a break, for a person.
            StripeLine.currency.in_(EXPONENTS),
            ~exists().where(JournalEntry.key == func.concat("stripe_fee:", StripeLine.id)),
        )
    ).all()
    for fee in fees:
        held, cost = chart.stripe_clearing(fee.currency), chart.stripe_fees(fee.currency)
        line = (
            Line(cost, held, -fee.net_minor)
            if fee.net_minor < 0
            else Line(held, cost, fee.net_minor)
        )
        key = f"stripe_fee:{fee.id}"
        post_entry(session, key=key, kind="stripe_fee", lines=[line], at=at, memo=fee.type)
    return len(fees)


def differences(session: Session) -> list[Difference]:
    """Every movement that Stripe and the books say differently, from all lines and all entries."""
    rows = session.execute(_DIFFERENT).all()
    places = Counter((row.place, row.reference) for row in rows)
    return [
        Difference(
            row.place,
            row.currency,
            row.reference,
            _kind(
                (row.ours, row.ours_lines),
                (row.theirs, row.theirs_lines),
                in_two_currencies=places[row.place, row.reference] > 1,
            ),
            row.ours,
            row.theirs,
        )
        for row in rows
    ]


def _kind(ours: tuple[int, int], theirs: tuple[int, int], *, in_two_currencies: bool) -> BreakKind:
    """What kind of break it is; each side is its sum and its number of lines."""
    if in_two_currencies:
        return BreakKind.CURRENCY_DIFFERS
    if ours[1] == 0:
        return BreakKind.THEIRS_NOT_OURS
    if theirs[1] == 0:
        return BreakKind.OURS_NOT_THEIRS
    if ours[0] * theirs[0] > 0 and ours[1] != theirs[1]:
        larger, smaller = max(abs(ours[0]), abs(theirs[0])), min(abs(ours[0]), abs(theirs[0]))
        if larger % smaller == 0:
            return BreakKind.TWICE
    return BreakKind.AMOUNT_DIFFERS


def _balance_differences(session: Session, held: BalanceSeen) -> list[Difference]:
    """Whether Stripe's own balance is the sum of Stripe's own lines."""
    theirs = _totals(session, PLATFORM)
    found = []
    for currency in sorted({*theirs, *held.available, *held.pending}):
        stated = held.available.get(currency, 0) + held.pending.get(currency, 0)
        summed = theirs.get(currency, 0)
        if stated != summed:
            found.append(
                Difference(PLATFORM, currency, "balance", BreakKind.BALANCE_DIFFERS, summed, stated)
            )
    return found


def _totals(session: Session, place: str) -> dict[str, int]:
    rows = session.execute(
        select(StripeLine.currency, func.sum(StripeLine.net_minor))
        .where(StripeLine.place == place)
        .group_by(StripeLine.currency)
    )
    return {currency: int(total) for currency, total in rows}


def _summary(
    session: Session,
    at: datetime,
    new: int,
    booked: tuple[int, int],
    opened: int,
    closed: int,
    unread: tuple[UUID, ...],
) -> Reconciled:
    standing = session.execute(
        select(Break.kind, Break.found_at).where(Break.resolved_at.is_(None))
    ).all()
    return Reconciled(
        at=at,
        new_lines=new,
        fees_booked=booked[0],
        conversions_booked=booked[1],
        lines=int(session.scalar(select(func.count()).select_from(StripeLine)) or 0),
        theirs_minor=_totals(session, PLATFORM),
        opened=opened,
        closed=closed,
        open_breaks=len(standing),
        overdue_breaks=sum(1 for _, found_at in standing if at - found_at > OVERDUE),
        by_kind=dict(Counter(str(kind) for kind, _ in standing)),
        unread=unread,
    )
