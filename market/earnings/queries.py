"""Reads about earnings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import Select, case, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from market.attempts.models import Attempt
from market.earnings.models import Earning
from market.earnings.rules import UNPAID_TIME, Fixed, LineNotFound, Stretch
from market.experts.queries import rate_spans
from market.offers.models import Offer
from market.offers.rules import reservation_key
from market.screeners.queries import screened_out_pay
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.work.models import TimeEntry
from payouts.bank_models import Conversion
from payouts.conversions import conversions_of
from payouts.ledger_models import JournalEntry, Posting
from payouts.models import Payout
from payouts.pay import RateSpan, fee_minor


def paid_time(session: Session, offer_id: UUID, *, locked_only: bool = False) -> list[Stretch]:
    """The time on an offer that is paid: proven or granted, and within its caps; with
    `locked_only` without what its expert can still take out.
    """
    unpaid = (*UNPAID_TIME, "recorded", "confirmed") if locked_only else UNPAID_TIME
    paid_s = TimeEntry.seconds - TimeEntry.capped_s + TimeEntry.granted_s
    # What a person grants beyond overtime came later in its week, and is overtime too.
    over_s = case((TimeEntry.overtime_s > 0, TimeEntry.overtime_s + TimeEntry.granted_s), else_=0)
    rows = session.execute(
        select(func.lower(TimeEntry.during), paid_s, over_s)
        .where(TimeEntry.offer_id == offer_id, TimeEntry.state.not_in(unpaid), paid_s > 0)
        .order_by(func.lower(TimeEntry.during))
    )
    found = []
    for starts_at, seconds, overtime_s in rows:
        plain_s = int(seconds) - int(overtime_s)
        if plain_s:
            found.append(Stretch(starts_at, plain_s))
        if overtime_s:
            begins = starts_at + timedelta(seconds=plain_s)
            found.append(Stretch(begins, int(overtime_s), is_overtime=True))
    return found


def fixed_facts(session: Session, offer: Offer) -> Fixed:
    """What an offer's contract pays beside hours, and how far its work is decided.

    An attempt counts once it has its outcome, whichever it is, and the same prompt counts once.
    """
    terms = offer.terms
    deliverable, fee = terms.get("deliverable_minor"), terms.get("attempt_fee_minor")
    bonus = terms.get("impact_bonus_minor")
    work = session.scalar(
        select(Submission).where(
            Submission.offer_id == offer.id, Submission.submitted_at.is_not(None)
        )
    )
    attempts = 0
    if fee:
        told_apart = select(func.count(Attempt.prompt.distinct()))
        ended = Attempt.state.in_(("verified", "refuted", "not_stumped"))
        attempts = session.scalar(told_apart.where(Attempt.offer_id == offer.id, ended)) or 0
    # What waits for people longer than was promised is paid for as if they had accepted it.
    is_owed = work is not None and work.unjudged_at is not None
    if work is not None and work.state == "partially_accepted" and not is_owed:
        # Of part of the work, that part of its sum is due.
        share = session.scalar(select(Verdict.share).where(Verdict.submission_id == work.id))
        deliverable = fee_minor(deliverable or 0, 100 * (share or 0))
    screening = 0
    if offer.state == "released" and session.scalar(
        select(exists().where(Submission.offer_id == offer.id, Submission.state == "screened_out"))
    ):
        screening = screened_out_pay(session, offer)
    return Fixed(
        deliverable_minor=deliverable or 0,
        attempt_fee_minor=fee or 0,
        attempts_max=terms.get("attempt_fees_max", 0),
        attempts=attempts,
        is_accepted=is_owed
        or (work is not None and work.state in ("accepted", "partially_accepted")),
        is_decided=work is None or work.decided_at is not None,
        screening_minor=screening,
        is_void=work is not None and work.state == "voided",
        can_add=bool(deliverable or fee or bonus),
        impact_bonus_minor=bonus or 0,
        is_stump=bool(bonus) and work is not None and _is_stump(session, work.id),
    )


def _is_stump(session: Session, submission_id: UUID) -> bool:
    """Whether reviewers have found that some work defeats its target model."""
    wanted = select(Verdict.is_stump).where(Verdict.submission_id == submission_id)
    return bool(session.scalar(wanted))


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


@dataclass(frozen=True, slots=True)
class Reserved:
    """An open reservation: its key, and what it keeps by the ledger account it is kept for.

    Units: minor units.
    """

    key: str
    by_account: dict[UUID, int]


def still_reserved(session: Session, offer_id: UUID, part: int) -> Reserved | None:
    """What is still reserved for an offer whose next crediting is this part; None when nothing is.

    Each crediting of work that goes on reserves the rest again, under the number of its part.
    """
    base = reservation_key(offer_id)
    resolution = aliased(JournalEntry)
    found = session.execute(
        select(JournalEntry.id, JournalEntry.key)
        .outerjoin(resolution, resolution.resolves_id == JournalEntry.id)
        .where(
            JournalEntry.key.in_([base, *(f"{base}/{n}" for n in range(1, part + 1))]),
            JournalEntry.phase == "pending",
            resolution.id.is_(None),
        )
    ).one_or_none()
    if found is None:
        return None
    rows = session.execute(
        select(Posting.credit_account_id, func.sum(Posting.amount_minor))
        .where(Posting.entry_id == found.id)
        .group_by(Posting.credit_account_id)
    )
    return Reserved(found.key, {account: int(total) for account, total in rows})


def line_of_pay(session: Session, earning_id: UUID, *, locked: bool = False) -> Earning:
    """The line of pay with this id.

    Raises:
        LineNotFound.
    """
    wanted = select(Earning).where(Earning.id == earning_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise LineNotFound(earning_id)
    return found


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
    with its project's name, or with what it is for where it is no offer's, and with the state of
    its payout, if it is in one.
    """
    # The name is the one that the expert accepted: a project itself is its lab's to see.
    name = Offer.terms["project_name"].astext
    wanted = (
        select(Earning, name, Payout.state)
        .outerjoin(Offer, Offer.id == Earning.offer_id)
        .outerjoin(Payout, Payout.id == Earning.payout_id)
        .where(Earning.expert_id == expert_id)
    )
    if first is not None:
        wanted = wanted.where(Earning.week >= first)
    if last is not None:
        wanted = wanted.where(Earning.week <= last)
    rows = session.execute(wanted.order_by(Earning.week, Earning.id)).all()
    return [(line, project_name or line.note or "", state) for line, project_name, state in rows]


@dataclass(frozen=True, slots=True)
class StatementTotal:
    """What the lines of a statement come to in one currency, and what of it a bank has.

    Units: seconds; minor units of `currency`.
    """

    currency: str
    seconds: int
    pay_minor: int
    paid_minor: int


def statement_totals(
    lines: Sequence[tuple[Earning, str, str | None]],
) -> list[StatementTotal]:
    """The totals of a statement's lines by currency; what a case withheld is no part of them."""
    kept = [(line, state) for line, _, state in lines if line.state != "withheld"]
    return [
        StatementTotal(
            currency,
            sum(line.seconds for line, _ in kept if line.currency == currency),
            sum(line.pay_minor for line, _ in kept if line.currency == currency),
            sum(
                line.pay_minor
                for line, state in kept
                if line.currency == currency and state == "paid"
            ),
        )
        for currency in sorted({line.currency for line, _ in kept})
    ]


def statement_conversions(
    session: Session, lines: Sequence[tuple[Earning, str, str | None]]
) -> list[Conversion]:
    """Which payouts of a statement's lines Stripe changed into another currency, oldest first."""
    taken = {line.payout_id for line, _, _ in lines if line.payout_id is not None}
    found = conversions_of(session, sorted(taken))
    return sorted(found.values(), key=lambda one: one.id)


def unbacked_lines(session: Session) -> list[str]:
    """What is wrong between lines of pay and the ledger, a sentence each: there must be none.

    Every entry's lines sum to what it credits to the expert and to the platform, every line is its
    seconds at its rate, to the nearest minor unit, and what waits for approval is what is held.
    """
    wrong = [
        f"{key}: lines say {pay} and a fee of {fee}, the ledger {posted_pay} and {posted_fee}"
        for key, pay, fee, posted_pay, posted_fee in session.execute(_UNBACKED)
    ]
    wrong += [
        f"offer {offer}: {pay} was credited for {seconds} s at {rate} an hour"
        for offer, seconds, rate, pay in session.execute(_MISPRICED)
    ]
    wrong += [
        f"expert {expert}: {lines} {currency} in lines that wait, {held} held in the ledger"
        for expert, currency, lines, held in session.execute(_UNHELD)
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

_UNHELD = text(
    """
    with waiting as (
        select expert_id, currency, sum(pay_minor)::bigint as pay from market.earning
        where state in ('accrued', 'disputed') group by expert_id, currency
    ), held as (
        select a.owner_id as expert_id, a.currency, b.posted_minor as pay
        from payouts.ledger_account a join payouts.ledger_balance b on b.account_id = a.id
        where a.code = 'expert_held' and b.posted_minor <> 0
    )
    select expert_id, currency, coalesce(waiting.pay, 0), coalesce(held.pay, 0)
    from waiting full join held using (expert_id, currency)
    where coalesce(waiting.pay, 0) <> coalesce(held.pay, 0)
    """
)
