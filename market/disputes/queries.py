"""Reads about disputes: the rows, what is due, who may decide, what of the lines is contested."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Select, exists, func, literal, select
from sqlalchemy.dialects.postgresql import TSTZRANGE, Range
from sqlalchemy.orm import Session

from market.disputes.models import Dispute
from market.disputes.rules import DisputeNotFound, contested
from market.earnings.models import Earning
from market.earnings.queries import paid_time, rates_of
from market.earnings.rules import overtime_of, spans_in_force
from market.offers.models import Offer
from market.people.models import Membership
from market.work.models import TimeEntry


def dispute(session: Session, dispute_id: UUID, *, locked: bool = False) -> Dispute:
    """The dispute with this id.

    Raises:
        DisputeNotFound.
    """
    wanted = select(Dispute).where(Dispute.id == dispute_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise DisputeNotFound(dispute_id)
    return found


def disputes(*, state: str | None = None) -> Select[Dispute]:
    """Disputes that the caller may see, as a statement to page through."""
    wanted = select(Dispute)
    return wanted if state is None else wanted.where(Dispute.state == state)


def due_disputes(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Disputes whose present state has had its time, the oldest deadline first."""
    return list(
        session.scalars(
            select(Dispute.id)
            .where(
                Dispute.state.in_(("open", "answered", "decided", "appealed")),
                Dispute.due_at <= at,
            )
            .order_by(Dispute.due_at)
            .limit(limit)
        )
    )


def is_of_lab(session: Session, person_id: UUID, organisation_id: UUID) -> bool:
    """Whether somebody also plays a part in the lab that is a side."""
    belongs = exists().where(
        Membership.person_id == person_id, Membership.organisation_id == organisation_id
    )
    return bool(session.scalar(select(belongs)))


def overlapping(
    session: Session, offer_id: UUID, starts_at: datetime, ends_at: datetime
) -> list[TimeEntry]:
    """The recorded time of an offer that touches a range, in order, locked against others."""
    wanted = literal(Range(starts_at, ends_at, bounds="[)"), TSTZRANGE)
    return list(
        session.scalars(
            select(TimeEntry)
            .where(
                TimeEntry.offer_id == offer_id,
                TimeEntry.state != "voided",
                TimeEntry.during.overlaps(wanted),
            )
            .order_by(func.lower(TimeEntry.during))
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def is_contested(session: Session, offer_id: UUID, starts_at: datetime, ends_at: datetime) -> bool:
    """Whether a lab has disputed some of a range before; what was decided is not opened again."""
    before = exists().where(
        Dispute.offer_id == offer_id,
        Dispute.kind == "hours",
        Dispute.state != "withdrawn",
        Dispute.starts_at < ends_at,
        Dispute.ends_at > starts_at,
    )
    return bool(session.scalar(select(before)))


def waiting_lines(session: Session, offer_id: UUID) -> list[Earning]:
    """An offer's credited hours that nobody has approved or disputed, locked, in order."""
    return list(
        session.scalars(
            select(Earning)
            .where(
                Earning.offer_id == offer_id, Earning.kind == "hours", Earning.state == "accrued"
            )
            .order_by(Earning.week, Earning.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def lines_of(session: Session, dispute_id: UUID, states: Sequence[str]) -> list[Earning]:
    """The lines that a dispute is about and that stand in some states, locked, in order."""
    return list(
        session.scalars(
            select(Earning)
            .where(Earning.dispute_id == dispute_id, Earning.state.in_(states))
            .order_by(Earning.week, Earning.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def contested_seconds(
    session: Session, offer: Offer, starts_at: datetime, ends_at: datetime
) -> Counter[tuple[date, int]]:
    """How many paid seconds of a range fall on each line, by week and rate."""
    stretches = paid_time(session, offer.id)
    spans = spans_in_force(offer.terms, rates_of(session, offer, stretches))
    found: Counter[tuple[date, int]] = Counter()
    overtime = overtime_of(offer.terms)
    for week, rate, seconds in contested(stretches, spans, starts_at, ends_at, overtime):
        found[week, rate] += seconds
    return found
