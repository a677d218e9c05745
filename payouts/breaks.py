"""Breaks: what Stripe and the books say differently, until it went away or a person ended it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.errors import BreakNotBookable, UnknownBreak
from payouts.ledger import Line, post_entry
from payouts.money import EXPONENTS
from payouts.proof_models import Break, BreakKind, Resolution

PLATFORM = "platform"
"""The place of our own balance at Stripe; every other is the owner of a connected account."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One movement that Stripe and the books say differently."""

    place: str
    currency: str
    reference: str
    kind: BreakKind
    ours_minor: int
    theirs_minor: int


def keep_breaks(session: Session, found: Sequence[Difference], *, at: datetime) -> tuple[int, int]:
    """Write down what is new among the differences, and close what went away; how many of each."""
    standing = {
        (one.place, one.currency, one.reference): one
        for one in session.scalars(
            select(Break).where(Break.resolved_at.is_(None)).with_for_update()
        )
    }
    explained = {
        (one.place, one.currency, one.reference, one.ours_minor, one.theirs_minor)
        for one in session.scalars(select(Break).where(Break.resolution == Resolution.EXPLAINED))
    }
    opened = 0
    for one in found:
        kept = standing.pop((one.place, one.currency, one.reference), None)
        if kept is not None:
            kept.kind, kept.seen_at = one.kind, at
            kept.ours_minor, kept.theirs_minor = one.ours_minor, one.theirs_minor
            continue
        figures = (one.place, one.currency, one.reference, one.ours_minor, one.theirs_minor)
        if figures in explained:
            # A person has said why these very figures differ.
            continue
        session.add(
            Break(
                place=one.place,
                currency=one.currency,
                reference=one.reference,
                kind=one.kind,
                ours_minor=one.ours_minor,
                theirs_minor=one.theirs_minor,
                found_at=at,
                seen_at=at,
            )
        )
        opened += 1
    for gone in standing.values():
        gone.resolved_at, gone.resolution = at, Resolution.WENT_AWAY
    session.flush()
    return opened, len(standing)


def _open_break(session: Session, break_id: UUID) -> Break:
    found = session.get(Break, break_id, with_for_update=True, populate_existing=True)
    if found is None or found.resolved_at is not None:
        raise UnknownBreak(break_id)
    return found


def assign_break(session: Session, break_id: UUID, *, to: UUID) -> Break:
    """Name who looks into a break.

    Raises:
        UnknownBreak.
    """
    found = _open_break(session, break_id)
    found.assigned_to = to
    session.flush()
    return found


def resolve_break(
    session: Session, break_id: UUID, *, how: Resolution, by: UUID, note: str, at: datetime
) -> Break:
    """End a break by a person's decision: explained, or its difference put into suspense.

    What is in suspense makes the books agree with Stripe and still has to be cleared from there;
    what is explained stays as it is, and is a break again as soon as its figures change.

    Raises:
        UnknownBreak.
        BreakNotBookable: Stripe contradicts itself, which no entry of ours can mend, or it is in a
            currency that the books do not know.
    """
    found = _open_break(session, break_id)
    if how is Resolution.SUSPENSE:
        if found.kind == BreakKind.BALANCE_DIFFERS or found.currency not in EXPONENTS:
            raise BreakNotBookable(break_id)
        mirror = (
            chart.stripe_clearing(found.currency)
            if found.place == PLATFORM
            else chart.connected_balance(UUID(found.place), found.currency)
        )
        waiting = chart.suspense(found.currency)
        missing = found.theirs_minor - found.ours_minor
        line = Line(mirror, waiting, missing) if missing > 0 else Line(waiting, mirror, -missing)
        key = f"suspense:{found.id}"
        post_entry(session, key=key, kind="suspense", lines=[line], at=at, memo=note[:200])
    found.resolved_at, found.resolved_by = at, by
    found.resolution, found.note = how, note
    session.flush()
    return found
