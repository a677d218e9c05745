"""Reads about the books: breaks, proofs, our own payouts."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, text
from sqlalchemy.orm import Session

from market.books.rules import BOOKS_CHECK, CHECK_TAKES, ProofNotFound
from market.earnings.queries import unbacked_lines
from market.operations import Operation
from market.time_entries.queries import unproven_time
from payouts.bank_models import PlatformPayout
from payouts.invariants import INVARIANTS, Violation
from payouts.ledger_models import JournalEntry
from payouts.models import Transfer
from payouts.proof_models import Break, Proof


def breaks(*, is_open: bool) -> Select[Break]:
    """Differences between Stripe and the books that stand, or that have ended."""
    wanted = select(Break)
    if is_open:
        return wanted.where(Break.resolved_at.is_(None))
    return wanted.where(Break.resolved_at.is_not(None))


def proofs(session: Session, *, before: int | None, limit: int) -> list[Proof]:
    """Published proofs, newest first."""
    wanted = select(Proof).order_by(Proof.number.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(Proof.number < before)
    return list(session.scalars(wanted))


def proof(session: Session, number: int) -> Proof:
    """One published proof.

    Raises:
        ProofNotFound.
    """
    found = session.scalar(select(Proof).where(Proof.number == number))
    if found is None:
        raise ProofNotFound("no proof has this number")
    return found


def entry_seen(session: Session, entry_id: UUID) -> UUID:
    """The id of a ledger entry, when the caller may see it.

    Raises:
        ProofNotFound.
    """
    found = session.scalar(select(JournalEntry.id).where(JournalEntry.id == entry_id))
    if found is None:
        raise ProofNotFound("there is no such entry among yours")
    return found


def platform_payouts() -> Select[PlatformPayout]:
    """Payouts to our own bank, as a statement to page through."""
    return select(PlatformPayout)


def owners_touched(session: Session, *, since: datetime) -> list[UUID]:
    """The experts whose balance at Stripe has had money of ours lately."""
    return list(
        session.scalars(
            select(Transfer.owner_id)
            .where(Transfer.at >= since)
            .distinct()
            .order_by(Transfer.owner_id)
        )
    )


def _by_query(query: str) -> Callable[[Session], list[str]]:
    return lambda session: list(session.scalars(text(query)))


PAY_INVARIANTS: dict[str, tuple[str, Callable[[Session], list[str]]]] = {
    "I10": (
        "No two stretches of paid time of one expert overlap.",
        _by_query(
            """
            select expert_id || ' at ' || lower(during) from (
                select expert_id, during,
                    max(upper(during)) over (
                        partition by expert_id order by lower(during), id
                        rows between unbounded preceding and 1 preceding) as until
                from market.time_entry where state <> 'voided'
            ) entry
            where lower(during) < until
            """
        ),
    ),
    "I11": (
        "A tier has one rate at a time, an expert one tier, and a line of hours one rate.",
        _by_query(
            """
            select name || ' ' || currency || ' at ' || lower(during) from (
                select name, currency, during, lag(upper(during), 1, '-infinity') over (
                    partition by name, currency order by lower(during)) as until
                from market.pay_tier
            ) rate
            where lower(during) < until or until is null
            union all
            select expert_id || ' at ' || lower(during) from (
                select expert_id, during, lag(upper(during), 1, '-infinity') over (
                    partition by expert_id order by lower(during)) as until
                from market.tier_assignment where not isempty(during)
            ) tier
            where lower(during) < until or until is null
            union all
            select 'earning ' || id from market.earning
            where kind = 'hours' and rate_minor_per_hour <= 0
            """
        ),
    ),
    "I12": ("Every line of pay is its seconds at its rate, and is in the books.", unbacked_lines),
    "I13": (
        "Recorded time is what its heartbeats give, however it was split.",
        unproven_time,
    ),
    "I22": (
        "What is withheld from an expert has a person, a reason and an open way to appeal.",
        _by_query(
            """
            select 'earning ' || e.id from market.earning e
            left join market.dispute d on d.id = e.dispute_id
            where (e.state = 'disputed'
                   and (d.id is null or d.state not in ('open', 'answered', 'decided', 'appealed')))
               or (e.state = 'withheld'
                   and (d.id is null or d.state not in ('decided', 'appealed', 'final')
                        or not (d.is_conceded or (d.decided_by is not null
                                and length(btrim(coalesce(d.decision_note, ''))) >= 20))))
            union all
            select 'payout ' || p.id from payouts.payout p
            where p.state = 'held' and not exists (
                select from payouts.payout_hold h
                where h.payout_id = p.id and h.cleared_at is null and btrim(h.text) <> '')
            """
        ),
    ),
}
"""Invariant to its sentence and what finds where it is not true: those that money alone cannot
know."""

EVERY_INVARIANT = tuple(
    sorted((*INVARIANTS, *PAY_INVARIANTS), key=lambda name: int(name.removeprefix("I")))
)
"""All that is checked, in order."""


def broken_by(session: Session, invariant: str) -> list[Violation]:
    """What one invariant is not true of; it reads all that the invariant is about, as the platform.

    All recorded time is computed again from raw heartbeats, and every line of pay from that time.
    """
    if invariant in INVARIANTS:
        sentence, query = INVARIANTS[invariant]
        subjects = list(session.scalars(text(query)))
    else:
        sentence, check = PAY_INVARIANTS[invariant]
        subjects = check(session)
    return [Violation(invariant, sentence, subject) for subject in subjects]


def sentence_of(invariant: str) -> str:
    """What an invariant says."""
    sentence, _ = INVARIANTS.get(invariant) or PAY_INVARIANTS[invariant]
    return sentence


def untrue(session: Session) -> list[Violation]:
    """Everything in the books, on the way to Stripe and in recorded time that must not be."""
    return [one for invariant in EVERY_INVARIANT for one in broken_by(session, invariant)]


def newest_check(session: Session) -> Operation | None:
    """The last check of the books that came to its end."""
    return session.scalar(_checks(Operation.state == "succeeded"))


def check_under_way(session: Session, *, at: datetime) -> Operation | None:
    """The check of the books that is asked for, or that runs; none that died with its process."""
    return session.scalar(
        _checks(
            Operation.state.in_(("pending", "running")), Operation.created_at > at - CHECK_TAKES
        )
    )


def _checks(*which: ColumnElement[bool]) -> Select[Operation]:
    found = select(Operation).where(Operation.kind == BOOKS_CHECK, *which)
    return found.order_by(Operation.id.desc()).limit(1)
