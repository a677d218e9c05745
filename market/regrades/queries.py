"""Reads of re-grades: of a sitting, and the sittings that an item had a part in."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from market.regrades.models import Regrade


def regrades_of(session: Session, sitting_id: UUID) -> Sequence[Regrade]:
    """How a sitting was graded again, the latest first."""
    return session.scalars(
        select(Regrade).where(Regrade.sitting_id == sitting_id).order_by(Regrade.id.desc())
    ).all()


_WITH_ITEM = text(
    """
    select s.id from market.sitting s
    where s.state <> 'open' and s.qualification_id in (
        select o.qualification_id from market.sitting_item a
        join market.sitting o on o.id = a.sitting_id
        where a.item_id = :item_id and a.closed_at is not null and o.id <= s.id)
    order by s.id
    """
).bindparams(bindparam("item_id", type_=Uuid()))


def sittings_with(session: Session, item_id: UUID) -> list[UUID]:
    """Ended sittings whose result an item had a part in: their own, or an earlier one's."""
    rows = session.scalars(_WITH_ITEM.columns(id=Uuid()), {"item_id": item_id})
    return list(rows)
