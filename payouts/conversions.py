"""What Stripe changed into another currency on its way: booked at Stripe's rate, whatever it was.

An expert earns in the project's currency and is owed that sum; where the expert's account at Stripe
keeps another, Stripe changes the money when a transfer arrives. Its line of that balance is the
fact. The sum passes through `fx_position`, one leg in each currency, and both legs are nothing
again once the bank has the money. A reversal changes back at another rate: what comes back less is
`fx_gain_loss`, ours, and never the expert's.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from uuid import UUID

from sqlalchemy import exists, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts import chart
from payouts.bank_models import Conversion
from payouts.ledger import Line, post_entry
from payouts.ledger_models import JournalEntry
from payouts.models import Transfer
from payouts.money import EXPONENTS, Money
from payouts.proof_models import StripeLine
from payouts.seen import TransactionSeen

STRIPE = "stripe"
"""Who says what the rate was; so far nobody else does."""

RATE_DIGITS = 10

LARGEST_DENOMINATOR = 10**18
"""Of a rate that is kept; Stripe spells rates with far fewer decimals."""

_TAKEN = text(
    """
    select answer::jsonb ->> 'refund' as refund, theirs.net_minor
    from payouts.external_call
    left join payouts.stripe_line theirs
        on theirs.place = :owner and theirs.reference = 'refund:' || (answer::jsonb ->> 'refund')
    where subject_id = :payout and operation = 'reversal' and state = 'confirmed'
      and answer::jsonb ->> 'transfer' = :transfer
    """
)

# What was asked for in the currency of the transfer, what came of it, and what was taken for it.
_RETURNS = text(
    """
    select v.transfer_id, r.object_id, r.refund, r.asked, ours.net_minor, -theirs.net_minor
    from payouts.conversion v
    join payouts.transfer t on t.id = v.transfer_id
    join lateral (
        select object_id, answer::jsonb ->> 'refund' as refund,
            (answer::jsonb ->> 'amount')::bigint as asked
        from payouts.external_call
        where subject_id = v.payout_id and operation = 'reversal' and state = 'confirmed'
          and answer::jsonb ->> 'transfer' = t.stripe_id
    ) r on true
    join payouts.stripe_line ours
        on ours.place = 'platform' and ours.reference = 'reversal:' || r.object_id
    join payouts.stripe_line theirs
        on theirs.place = v.owner_id::text and theirs.reference = 'refund:' || r.refund
    where not exists (
        select from payouts.journal_entry where key =
            'conversion:' || v.transfer_id || ':reversed:' || r.object_id || ':' || r.refund)
    order by r.object_id
    """
)


def record_arrivals(
    session: Session, lines: Sequence[TransactionSeen], *, at: datetime
) -> list[Conversion]:
    """Book the transfers among the lines of a connected balance that arrived in another currency;
    those that are booked already, or are being booked by somebody else, are left as they are.

    What arrived as nothing, or in a currency that the ledger cannot keep, is left too: it stays a
    break, for a person to look at.
    """
    by_payment = {
        line.source_id: line
        for line in lines
        if line.category == "charge" and line.net_minor > 0 and line.currency in EXPONENTS
    }
    transfers = session.scalars(
        select(Transfer)
        .where(
            Transfer.destination_payment.in_(list(by_payment)),
            ~exists().where(Conversion.transfer_id == Transfer.id),
        )
        .order_by(Transfer.id)
    ).all()
    return [
        found
        for transfer in transfers
        if (line := by_payment[transfer.destination_payment]).currency != transfer.currency
        and (found := _arrived(session, transfer, line, at=at)) is not None
    ]


def conversion_of(session: Session, transfer_id: UUID) -> Conversion | None:
    """What Stripe made of a transfer, if it changed it."""
    return session.scalars(
        select(Conversion).where(Conversion.transfer_id == transfer_id).with_for_update()
    ).one_or_none()


def conversions_of(session: Session, payout_ids: Sequence[UUID]) -> dict[UUID, Conversion]:
    """What Stripe made of the transfers of some payouts that it changed; of each the newest."""
    found = session.scalars(
        select(Conversion).where(Conversion.payout_id.in_(payout_ids)).order_by(Conversion.id)
    )
    return {one.payout_id: one for one in found}


def rate_of(found: Conversion) -> str:
    """The rate as a decimal, to ten digits that count."""
    with localcontext() as context:
        context.prec = RATE_DIGITS
        return f"{Decimal(found.rate_numerator) / Decimal(found.rate_denominator):f}"


def conversion_in_words(found: Conversion) -> str:
    """What became of the money, at what rate and by whom, for its expert to read."""
    sent = Money(found.from_minor, found.from_currency)
    came = Money(found.to_minor, found.to_currency)
    return (
        f"{sent} arrived as {came}: Stripe changed it on {found.converted_at:%Y-%m-%d} at "
        f"{rate_of(found)}. What Stripe takes for it is in that rate; we take nothing."
    )


def changes_in_words(session: Session, payout_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The same of some payouts; of those only that were changed."""
    found = conversions_of(session, payout_ids)
    return {payout_id: conversion_in_words(one) for payout_id, one in found.items()}


def book_bank(
    session: Session,
    transfer: Transfer,
    what: str,
    stripe_payout_id: str,
    told: Sequence[TransactionSeen],
    *,
    at: datetime,
) -> None:
    """Take what was changed out of the position when the bank has it, `paid`; or put it back in,
    when the bank returned it; nothing for a transfer that was not changed.

    `told` are lines of the expert's balance that may not be stored yet: what was taken back of the
    transfer is not at the bank, whether or not both balances have told of it so far.
    """
    found = conversion_of(session, transfer.id)
    if found is None:
        return
    from_minor = transfer.amount_minor - transfer.reversed_minor
    to_minor = max(0, found.to_minor - _taken_back(session, found, transfer, told))
    lines = _changed(found, from_minor, to_minor)
    post_entry(
        session,
        key=f"conversion:{transfer.id}:{what}:{stripe_payout_id}",
        kind="payout_converted",
        lines=lines if what == "returned" else [_other_way(line) for line in lines],
        at=at,
    )


def _taken_back(
    session: Session, found: Conversion, transfer: Transfer, told: Sequence[TransactionSeen]
) -> int:
    """What reversals took of a changed transfer, those counted that are not booked yet."""
    just_told = {line.source_id: line.net_minor for line in told}
    given = {
        "owner": str(found.owner_id),
        "payout": found.payout_id,
        "transfer": transfer.stripe_id,
    }
    return -sum(
        net_minor if net_minor is not None else just_told.get(refund, 0)
        for refund, net_minor in session.execute(_TAKEN, given)
    )


def book_conversions(session: Session, *, at: datetime) -> int:
    """Book what the stored lines of Stripe's tell of changed money: transfers that arrived, and
    those that were taken back; how many it were.
    """
    lines = session.scalars(
        select(StripeLine)
        .join(Transfer, Transfer.destination_payment == StripeLine.source_id)
        .where(
            StripeLine.category == "charge",
            StripeLine.currency != Transfer.currency,
            ~exists().where(Conversion.transfer_id == Transfer.id),
        )
    ).all()
    booked = record_arrivals(session, [_seen(line) for line in lines], at=at)
    return len(booked) + _book_returns(session, at=at)


def _arrived(
    session: Session, transfer: Transfer, line: TransactionSeen, *, at: datetime
) -> Conversion | None:
    """Keep and book a conversion; None where somebody else has just done so."""
    rate = _rate(transfer, line)
    # The bank's payout and the reconciliation tell of the same transfer, and can do so at once.
    found = session.scalars(
        insert(Conversion)
        .values(
            id=uuid7(),
            transfer_id=transfer.id,
            payout_id=transfer.payout_id,
            owner_id=transfer.owner_id,
            from_currency=transfer.currency,
            from_minor=transfer.amount_minor,
            to_currency=line.currency,
            to_minor=line.net_minor,
            rate_numerator=rate.numerator,
            rate_denominator=rate.denominator,
            source=STRIPE,
            line_id=line.id,
            converted_at=line.created_at,
            booked_at=at,
        )
        .on_conflict_do_nothing()
        .returning(Conversion)
    ).one_or_none()
    if found is None:
        return None
    post_entry(
        session,
        key=f"conversion:{transfer.id}:arrived",
        kind="transfer_converted",
        lines=_changed(found, found.from_minor, found.to_minor),
        at=at,
        memo=f"{rate.numerator}/{rate.denominator} by {STRIPE}",
    )
    return found


def _rate(transfer: Transfer, line: TransactionSeen) -> Fraction:
    """What one unit of the transfer's currency is worth in the line's."""
    if line.exchange_rate:
        return line.exchange_rate.limit_denominator(LARGEST_DENOMINATOR)
    # Without a word of Stripe's the two sums say what the rate was.
    decimals = EXPONENTS[transfer.currency] - EXPONENTS[line.currency]
    return Fraction(line.net_minor, transfer.amount_minor) * Fraction(10) ** decimals


def _changed(found: Conversion, from_minor: int, to_minor: int) -> list[Line]:
    """One currency out of the expert's balance at Stripe, another into it; what is nothing is no
    line.
    """
    owner_id, source, target = found.owner_id, found.from_currency, found.to_currency
    lines = []
    if from_minor:
        held = chart.connected_balance(owner_id, source)
        lines.append(Line(chart.fx_position(source), held, from_minor))
    if to_minor:
        held = chart.connected_balance(owner_id, target)
        lines.append(Line(held, chart.fx_position(target), to_minor))
    return lines


def _other_way(line: Line) -> Line:
    return Line(line.credit, line.debit, line.amount_minor)


def _book_returns(session: Session, *, at: datetime) -> int:
    """Reversals of changed transfers, once Stripe has told on both balances what they came to."""
    booked = 0
    for transfer_id, object_id, refund, asked, came, taken in session.execute(_RETURNS).all():
        found = conversion_of(session, transfer_id)
        assert found is not None
        key = f"conversion:{transfer_id}:reversed:{object_id}:{refund}"
        if session.scalar(select(JournalEntry.id).where(JournalEntry.key == key)) is not None:
            # Another reconciliation has booked it since the list was read.
            continue
        lines = [_other_way(line) for line in _changed(found, asked, taken)]
        ours, lost = chart.stripe_clearing(found.from_currency), asked - came
        if lost:
            line = Line(chart.fx_gain_loss(found.from_currency), ours, abs(lost))
            lines.append(line if lost > 0 else _other_way(line))
        post_entry(
            session,
            key=key,
            kind="reversal_converted",
            lines=lines,
            at=at,
        )
        # At another rate more can be taken than ever arrived; what is left is then nothing.
        found.back_minor = min(found.to_minor, found.back_minor + taken)
        found.lost_minor += lost
        session.flush()
        booked += 1
    return booked


def _seen(line: StripeLine) -> TransactionSeen:
    return TransactionSeen(
        id=line.id,
        type=line.type,
        category=line.category,
        amount_minor=line.amount_minor,
        fee_minor=line.fee_minor,
        net_minor=line.net_minor,
        currency=line.currency,
        status="available",
        source_id=line.source_id,
        source_transfer=None,
        created_at=line.created_at,
        stated_rate=line.exchange_rate,
    )
