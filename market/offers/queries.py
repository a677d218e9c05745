"""Reads about offers."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.experts.rules import WORKING
from market.filters import narrowed
from market.offers.models import Offer
from market.offers.rules import GONE, LIVE, OfferNotFound, load_of

# Put together once: to do so at each call costs more than to run them.
_OWN = select(Offer).where(Offer.id == bindparam("offer"), Offer.expert_id == bindparam("expert"))
_OWN_LOCKED = _OWN.with_for_update().execution_options(populate_existing=True)

ROOM = """
    select e.id, pace.at_once - o.seats as seats, e.weekly_hours * 3600 - o.seconds as seconds
    from market.expert e {load}
    where e.id = any(:experts) and e.state in {working}
    """
_ROOM = (
    text(ROOM.format(load=load_of("e"), working=WORKING))
    .bindparams(bindparam("experts", type_=ARRAY(Uuid())))
    .columns(id=Uuid())
)


def offer(session: Session, offer_id: UUID, *, locked: bool = False) -> Offer:
    """One offer, of whoever it is; locked against others until the transaction ends, if wished.

    Raises:
        OfferNotFound.
    """
    found = session.get(Offer, offer_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise OfferNotFound(offer_id)
    return found


def own_offer(session: Session, offer_id: UUID, expert_id: UUID, *, locked: bool = False) -> Offer:
    """One offer of an expert's; another's is as if it were not there.

    Raises:
        OfferNotFound.
    """
    found = session.scalar(
        _OWN_LOCKED if locked else _OWN, {"offer": offer_id, "expert": expert_id}
    )
    if found is None:
        raise OfferNotFound(offer_id)
    return found


def offers(
    *,
    expert_id: UUID | None = None,
    project_id: UUID | None = None,
    run_id: UUID | None = None,
    task_id: UUID | None = None,
    state: str | None = None,
) -> Select[Offer]:
    """Offers with these properties, as a statement to page through."""
    return narrowed(
        select(Offer),
        (Offer.expert_id, expert_id),
        (Offer.project_id, project_id),
        (Offer.run_id, run_id),
        (Offer.task_id, task_id),
        (Offer.state, state),
    )


def open_offers(session: Session, expert_id: UUID, *, at: datetime) -> list[Offer]:
    """The offers that an expert can accept now, the one that ends first at the head."""
    return list(
        session.scalars(
            select(Offer)
            .where(Offer.expert_id == expert_id, Offer.state == "pending", Offer.expires_at > at)
            .order_by(Offer.expires_at, Offer.id)
        )
    )


def overdue_offers(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Pending offers whose deadline has passed, the longest overdue at the head."""
    return list(
        session.scalars(
            select(Offer.id)
            .where(Offer.state == "pending", Offer.expires_at <= at)
            .order_by(Offer.expires_at)
            .limit(limit)
        )
    )


def lapsed_offers(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Accepted offers on which no work was begun while there was time for it."""
    return list(
        session.scalars(
            select(Offer.id)
            .where(Offer.state == "accepted", Offer.lease_until <= at)
            .order_by(Offer.lease_until)
            .limit(limit)
        )
    )


def unfinished_offers(
    session: Session,
    *,
    project_id: UUID | None = None,
    task_id: UUID | None = None,
    expert_id: UUID | None = None,
) -> list[UUID]:
    """Offers of a project, a task or an expert that wait for an answer or for work to end."""
    wanted = offers(project_id=project_id, task_id=task_id, expert_id=expert_id)
    waiting = wanted.where(Offer.state.in_(("pending", "accepted", "active")))
    return list(session.scalars(waiting.with_only_columns(Offer.id).order_by(Offer.id)))


def monday_before(at: datetime) -> datetime:
    """The beginning of the week that a time is in, as hours and pay count weeks."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=at.weekday())


def room_of(
    session: Session, expert_ids: Sequence[UUID], *, at: datetime
) -> dict[UUID, tuple[int, int]]:
    """Seats and seconds that experts have left, once no other run can take them away."""
    rows = session.execute(_ROOM, {"experts": list(expert_ids), "monday": monday_before(at)})
    return {row.id: (int(row.seats), int(row.seconds)) for row in rows}


def live_seconds(session: Session, expert_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The expected seconds of the live offers of experts; who has none is absent."""
    rows = session.execute(
        select(Offer.expert_id, func.sum(Offer.expected_s))
        .where(Offer.expert_id.in_(expert_ids), Offer.state.in_(LIVE))
        .group_by(Offer.expert_id)
    )
    return {expert_id: int(seconds) for expert_id, seconds in rows}


def taken_pairs(session: Session, task_ids: Sequence[UUID]) -> set[tuple[UUID, UUID]]:
    """Which experts cannot be offered which of some tasks, because they were before."""
    rows = session.execute(
        select(Offer.task_id, Offer.expert_id).where(
            Offer.task_id.in_(task_ids), Offer.state.not_in(GONE)
        )
    )
    return {(row.task_id, row.expert_id) for row in rows}
