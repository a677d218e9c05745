"""Reads about departures: how far each is, who has to leave, and who may stay after all."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from market.departures.models import ClosedCountry, Departure
from market.departures.rules import DepartureNotFound, Due, Left, Told
from market.experts.rules import WORKING
from market.treasury.queries import what_many_are_owed
from payouts.models import Payee
from payouts.payees import is_ready

_LEFT = """
    select d.id, d.state,
        (select count(*) from market.offer o where o.expert_id = d.expert_id
            and o.state in ('pending', 'accepted', 'active', 'grace')) as offers,
        (select count(*) from market.work_session s where s.expert_id = d.expert_id
            and s.state in ('running', 'idle', 'paused')) as sessions,
        (select count(*) from market.submission s where s.expert_id = d.expert_id
            and s.state in ('awaiting_review', 'in_review')) as reviews,
        (select count(*) from market.earning e where e.expert_id = d.expert_id
            and e.payout_id is null and e.state = 'accrued') as lines,
        (select count(*) from market.dispute p where p.expert_id = d.expert_id
            and p.state not in ('withdrawn', 'final')) as disputes,
        (select count(*) from market.appeal a where a.person_id = d.expert_id
            and a.state in ('filed', 'assigned')) as appeals,
        (select count(*) from market.fraud_case f where f.expert_id = d.expert_id
            and f.state in ('opened', 'appealed'))
            + (select count(*) from market.recovery_case r where r.expert_id = d.expert_id
            and r.state = 'opened') as cases,
        (select coalesce(sum(b.posted_minor), 0) from payouts.ledger_account a
            join payouts.ledger_balance b on b.account_id = a.id
            where a.owner_id = d.expert_id and a.code in ('expert_payable', 'expert_held')
            ) as owed_minor,
        (select count(*) from payouts.payout p where p.owner_id = d.expert_id
            and p.state not in ('paid', 'cancelled', 'reversed')) as payouts
    from market.departure d
"""

_DUE = text(
    _LEFT
    + """
    where (d.state in ('returning', 'settling', 'paying')
        or d.state = 'done' and exists (select from payouts.ledger_account a
            join payouts.ledger_balance b on b.account_id = a.id
            where a.owner_id = d.expert_id and a.code in ('expert_payable', 'expert_held')
                and b.posted_minor > 0))
        and (cast(:after as uuid) is null or d.id > :after)
    order by d.id limit :limit
    """
)

_SOME = text(f"{_LEFT} where d.id = any(:ids)").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

# Where someone lives is its own word, and where it is paid is the bank's.
_TO_LEAVE = text(
    """
    select e.id, min(c.reason) as reason
    from market.closed_country c
    join (
        select id, country from market.expert union all select owner_id, country from payouts.payee
    ) place on place.country = c.country
    join market.expert e on e.id = place.id
    where c.opened_at is null and e.state = any(:working)
        and not exists (select from market.departure d
            where d.expert_id = e.id and d.state <> 'called_off')
        -- Nor whom a person let stay although this country is closed.
        and not exists (select from market.departure d
            join market.state_change s on s.subject_id = d.id and s.action = 'call_off'
            where d.expert_id = e.id and d.cause = 'region' and s.actor_id is not null
                and s.at >= c.closed_at)
    group by e.id order by e.id limit :limit
    """
).columns(id=Uuid())

_TO_STAY = text(
    """
    select d.id from market.departure d join market.expert e on e.id = d.expert_id
    where d.cause = 'region' and d.state <> 'called_off' and not exists (
        select from market.closed_country c where c.opened_at is null and (c.country = e.country
            or c.country = (select p.country from payouts.payee p where p.owner_id = e.id)))
    order by d.id limit :limit
    """
).columns(id=Uuid())


def departures(*, state: str | None = None, cause: str | None = None) -> Select[Departure]:
    """Departures that the caller may see, as a statement to page through."""
    found = select(Departure)
    if state is not None:
        found = found.where(Departure.state == state)
    return found if cause is None else found.where(Departure.cause == cause)


def departure(session: Session, departure_id: UUID, *, locked: bool = False) -> Departure:
    """One departure.

    Raises:
        DepartureNotFound.
    """
    found = session.get(
        Departure, departure_id, with_for_update=locked or None, populate_existing=locked
    )
    if found is None:
        raise DepartureNotFound()
    return found


def departure_of(session: Session, expert_id: UUID) -> Departure | None:
    """The departure of an expert that has not been called off."""
    return session.scalar(
        select(Departure).where(Departure.expert_id == expert_id, Departure.state != "called_off")
    )


def due_departures(session: Session, *, limit: int, after: UUID | None = None) -> list[Due]:
    """Departures that go on, or that something has come back to, with what each waits for; those
    that were begun after another.
    """
    rows = session.execute(_DUE.columns(id=Uuid()), {"limit": limit, "after": after})
    return [Due(row.id, row.state, _left(row)) for row in rows]


def left_of(session: Session, departure_ids: Sequence[UUID]) -> dict[UUID, Left]:
    """What each of some departures waits for; reads as the platform."""
    rows = session.execute(_SOME.columns(id=Uuid()), {"ids": list(departure_ids)})
    return {row.id: _left(row) for row in rows}


def told(session: Session, found: Sequence[Departure]) -> list[Told]:
    """How far each of some departures is, for its expert or for ops; reads as the platform."""
    expert_ids = [one.expert_id for one in found]
    ready = {
        payee.owner_id
        for payee in session.scalars(select(Payee).where(Payee.owner_id.in_(expert_ids)))
        if is_ready(payee)
    }
    owed = what_many_are_owed(session, expert_ids)
    left = left_of(session, [one.id for one in found])
    return [
        Told(
            one.cause,
            one.state,
            one.reason,
            one.begun_at,
            one.changed_at,
            left[one.id],
            one.expert_id in ready,
            tuple(
                (currency, free.posted_minor + held)
                for currency, free, held in owed[one.expert_id]
                if free.posted_minor + held
            ),
        )
        for one in found
    ]


def must_leave(session: Session, *, limit: int) -> list[tuple[UUID, str]]:
    """Experts of closed countries who have not begun to leave, with why their country is closed."""
    rows = session.execute(_TO_LEAVE, {"working": list(WORKING), "limit": limit})
    return [(row.id, row.reason) for row in rows]


def may_stay(session: Session, *, limit: int) -> list[UUID]:
    """Departures for a closed country whose expert is in none any more."""
    return list(session.scalars(_TO_STAY, {"limit": limit}))


def closed_countries() -> Select[ClosedCountry]:
    """Countries that are closed or were, as a statement to page through."""
    return select(ClosedCountry)


def _left(row: object) -> Left:
    names = Left.__dataclass_fields__
    return Left(**{name: int(getattr(row, name)) for name in names})
