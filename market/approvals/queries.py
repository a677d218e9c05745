"""Reads of lines that wait, of the time under a line, and of weeks to be credited."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.earnings.rules import Period
from market.sittings.models import SittingItem
from market.work.models import TimeEntry

_UNCREDITED = text(
    """
    select o.id from market.offer o
    join (
        select offer_id, sum(seconds - capped_s + granted_s) as seconds from market.time_entry
        where offer_id in (select offer_id from market.time_entry where state = 'locked')
            and state not in ('voided', 'recorded', 'confirmed')
        group by offer_id
    ) t on t.offer_id = o.id
    where coalesce(o.terms ->> 'pay_basis', 'hourly') = 'hourly'
        and t.seconds > coalesce((select sum(e.seconds) from market.earning e
            where e.offer_id = o.id and e.kind = 'hours'), 0)
    order by o.id limit :limit
    """
)


def uncredited_offers(session: Session, *, limit: int) -> list[UUID]:
    """Offers with locked time that no line of pay counts yet."""
    return list(session.scalars(_UNCREDITED, {"limit": limit}))


def silent_experts(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Whose lines have waited for as long as their labs may look at them."""
    return list(
        session.scalars(
            select(Earning.expert_id)
            .where(Earning.state == "accrued", Earning.review_until <= at)
            .distinct()
            .order_by(Earning.expert_id)
            .limit(limit)
        )
    )


def lines_to_approve(*, project_id: UUID | None = None, state: str = "accrued") -> Select[Earning]:
    """Lines of pay in a state that the caller may see, as a statement to page through."""
    wanted = select(Earning).where(Earning.state == state)
    return wanted if project_id is None else wanted.where(Earning.project_id == project_id)


def owners_of_lines(session: Session, line_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """Some lines that the caller may see, by the expert that each pays."""
    found: dict[UUID, list[UUID]] = {}
    for expert_id, line_id in session.execute(
        select(Earning.expert_id, Earning.id).where(Earning.id.in_(line_ids)).order_by(Earning.id)
    ):
        found.setdefault(expert_id, []).append(line_id)
    return found


def time_of_line(session: Session, line: Earning) -> list[TimeEntry]:
    """The recorded time of a line's offer in its week, in order; nothing of what was taken out."""
    if line.offer_id is None or line.kind != "hours":
        return []
    starts_at = Period(line.week).starts_at
    begins = func.lower(TimeEntry.during)
    return list(
        session.scalars(
            select(TimeEntry)
            .where(
                TimeEntry.offer_id == line.offer_id,
                TimeEntry.state != "voided",
                begins >= starts_at,
                begins < starts_at + timedelta(days=7),
            )
            .order_by(begins)
        )
    )


def time_of_sitting(session: Session, line: Earning) -> list[tuple[datetime, datetime]]:
    """From when to when each item of the test was open that a line pays for, in order; the time of
    a baseline is not told apart item by item. It runs as the platform.
    """
    if line.kind != "sitting":
        return []
    rows = session.execute(
        select(SittingItem.asked_at, func.least(SittingItem.closed_at, SittingItem.due_at))
        .where(SittingItem.sitting_id == line.source_id, SittingItem.closed_at.is_not(None))
        .order_by(SittingItem.step)
    )
    return [(asked_at, closed_at) for asked_at, closed_at in rows]


def next_part(session: Session, offer_id: UUID) -> int:
    """The number of the next line of an offer."""
    most = session.scalar(select(func.max(Earning.part)).where(Earning.offer_id == offer_id))
    return int(most or 0) + 1
