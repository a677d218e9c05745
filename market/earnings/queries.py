"""Reads about earnings."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from sqlalchemy import Select, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from market.earnings.models import Earning
from market.earnings.rules import (
    UNPAID_TIME,
    Stretch,
)
from market.experts.queries import rate_spans
from market.offers.models import Offer
from market.work.models import TimeEntry
from payouts.models import (
    JournalEntry,
    Payout,
    Posting,
)
from payouts.pay import RateSpan


def paid_time(session: Session, offer_id: UUID) -> list[Stretch]:
    """The time on an offer that is paid: proven, within its caps, and not in dispute."""
    rows = session.execute(
        select(func.lower(TimeEntry.during), TimeEntry.seconds - TimeEntry.capped_s)
        .where(
            TimeEntry.offer_id == offer_id,
            TimeEntry.state.not_in(UNPAID_TIME),
            TimeEntry.seconds > TimeEntry.capped_s,
        )
        .order_by(func.lower(TimeEntry.during))
    )
    return [Stretch(starts_at, int(seconds)) for starts_at, seconds in rows]


def has_disputed_time(session: Session, offer_id: UUID) -> bool:
    """Whether somebody has still to decide on time that may have to be paid."""
    disputed = exists().where(
        TimeEntry.offer_id == offer_id,
        TimeEntry.state == "disputed",
        TimeEntry.seconds > TimeEntry.capped_s,
    )
    return bool(session.scalar(select(disputed)))


def rates_of(session: Session, offer: Offer, stretches: list[Stretch]) -> list[RateSpan]:
    """The rates in force over some time on an offer, as its expert sees them on its pay tier."""
    if not stretches:
        return []
    last = stretches[-1]
    return rate_spans(
        session, offer.expert_id, offer.currency, stretches[0].starts_at, last.ends_at
    )


def credited(session: Session, offer_id: UUID) -> list[Earning]:
    """What an offer has earned so far."""
    return list(
        session.scalars(select(Earning).where(Earning.offer_id == offer_id).order_by(Earning.id))
    )


def still_reserved(session: Session, key: str) -> dict[UUID, int] | None:
    """What an open reservation keeps, by the ledger account it is kept for; None when it is over.

    Units: minor units.
    """
    resolution = aliased(JournalEntry)
    entry_id = session.scalar(
        select(JournalEntry.id)
        .outerjoin(resolution, resolution.resolves_id == JournalEntry.id)
        .where(JournalEntry.key == key, resolution.id.is_(None))
    )
    if entry_id is None:
        return None
    rows = session.execute(
        select(Posting.credit_account_id, func.sum(Posting.amount_minor))
        .where(Posting.entry_id == entry_id)
        .group_by(Posting.credit_account_id)
    )
    return {account: int(total) for account, total in rows}


def earnings(*, expert_id: UUID | None = None, week: date | None = None) -> Select[Earning]:
    """Lines of pay, as a statement to page through."""
    wanted = select(Earning)
    if expert_id is not None:
        wanted = wanted.where(Earning.expert_id == expert_id)
    if week is not None:
        wanted = wanted.where(Earning.week == week)
    return wanted


def payout_states(session: Session, lines: Sequence[Earning]) -> dict[UUID, str]:
    """How far the payouts have come that took some lines along."""
    taken = {line.payout_id for line in lines if line.payout_id is not None}
    rows = session.execute(select(Payout.id, Payout.state).where(Payout.id.in_(taken)))
    return {payout_id: str(state) for payout_id, state in rows}


def statement_lines(
    session: Session, expert_id: UUID, *, first: date | None = None, last: date | None = None
) -> list[tuple[Earning, str, str | None]]:
    """Every line of an expert's pay, oldest first, of the weeks that begin within two days; each
    with its project's name and with the state of its payout, if it is in one.
    """
    # The name is the one that the expert accepted: a project itself is its lab's to see.
    name = Offer.terms["project_name"].astext
    wanted = (
        select(Earning, name, Payout.state)
        .join(Offer, Offer.id == Earning.offer_id)
        .outerjoin(Payout, Payout.id == Earning.payout_id)
        .where(Earning.expert_id == expert_id)
    )
    if first is not None:
        wanted = wanted.where(Earning.week >= first)
    if last is not None:
        wanted = wanted.where(Earning.week <= last)
    rows = session.execute(wanted.order_by(Earning.week, Earning.id)).all()
    return [(line, project_name, state) for line, project_name, state in rows]


def unbacked_lines(session: Session) -> list[str]:
    """What is wrong between lines of pay and the ledger, a sentence each: there must be none.

    Every entry's lines sum to what it credits to the expert and to the platform, and every line is
    its seconds at its rate, to the nearest minor unit.
    """
    wrong = [
        f"{key}: lines say {pay} and a fee of {fee}, the ledger {posted_pay} and {posted_fee}"
        for key, pay, fee, posted_pay, posted_fee in session.execute(_UNBACKED)
    ]
    wrong += [
        f"offer {offer}: {pay} was credited for {seconds} s at {rate} an hour"
        for offer, seconds, rate, pay in session.execute(_MISPRICED)
    ]
    return wrong


_UNBACKED = text(
    """
    with line as (
        select entry_key, sum(pay_minor) as pay, sum(fee_minor) as fee
        from market.earning group by entry_key
    ), booked as (
        select line.entry_key,
            coalesce(sum(p.amount_minor) filter (where a.code = 'expert_payable'), 0) as pay,
            coalesce(sum(p.amount_minor) filter (where a.code = 'platform_fee'), 0) as fee
        from line
        left join payouts.journal_entry e
            on e.key in (line.entry_key, line.entry_key || '/more') and e.phase = 'posted'
        left join payouts.posting p on p.entry_id = e.id
        left join payouts.ledger_account a on a.id = p.credit_account_id
        group by line.entry_key
    )
    select entry_key, line.pay::bigint, line.fee::bigint, booked.pay::bigint, booked.fee::bigint
    from line join booked using (entry_key)
    where (line.pay, line.fee) is distinct from (booked.pay, booked.fee)
    """
)

_MISPRICED = text(
    """
    select offer_id, sum(seconds)::bigint, rate_minor_per_hour, sum(pay_minor)::bigint
    from market.earning where kind = 'hours'
    group by offer_id, week, rate_minor_per_hour
    having abs(sum(pay_minor) * 3600 - sum(seconds) * rate_minor_per_hour) > 1800
    """
)
