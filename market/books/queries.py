"""Reads about the books: breaks, proofs, our own payouts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.books.rules import ProofNotFound
from payouts.bank_models import PlatformPayout
from payouts.models import JournalEntry, Transfer
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
