"""Reads of the time that tests and baselines took."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from market.baselines.models import EvalAnswer, EvalSet
from market.earnings.models import Earning
from market.sittings.models import SittingItem

_ITEM_S = func.extract(
    "epoch", func.least(SittingItem.closed_at, SittingItem.due_at) - SittingItem.asked_at
)
_ANSWER_S = func.extract(
    "epoch", func.least(EvalAnswer.closed_at, EvalAnswer.due_at) - EvalAnswer.asked_at
)


def sitting_seconds(session: Session, sitting_id: UUID) -> int:
    """How long somebody was before the items of a sitting, by the server's clock; whole seconds,
    no item longer than its limit.
    """
    return session.execute(
        select(cast(func.coalesce(func.ceil(func.sum(_ITEM_S)), 0), Integer)).where(
            SittingItem.sitting_id == sitting_id
        )
    ).scalar_one()


def baseline_seconds(session: Session, set_id: UUID, person_id: UUID) -> tuple[int, int]:
    """How many items of a set an expert has closed, and how long they took it; whole seconds."""
    row = session.execute(
        select(func.count(), cast(func.coalesce(func.ceil(func.sum(_ANSWER_S)), 0), Integer)).where(
            EvalAnswer.set_id == set_id,
            EvalAnswer.person_id == person_id,
            EvalAnswer.closed_at.is_not(None),
        )
    ).one()
    return row[0], row[1]


def finished_by(session: Session, found: EvalSet) -> Sequence[UUID]:
    """Experts who have closed every item of a set."""
    rows = session.scalars(
        select(EvalAnswer.person_id)
        .where(
            EvalAnswer.set_id == found.id,
            EvalAnswer.person_id.is_not(None),
            EvalAnswer.closed_at.is_not(None),
        )
        .group_by(EvalAnswer.person_id)
        .having(func.count() == found.items)
        .order_by(EvalAnswer.person_id)
    )
    return [person_id for person_id in rows if person_id is not None]


def left_since(session: Session, until: datetime, after: datetime) -> Sequence[tuple[UUID, UUID]]:
    """Sets and experts whose last answer lies between two times, whether or not they finished."""
    last = func.max(EvalAnswer.closed_at)
    rows = session.execute(
        select(EvalAnswer.set_id, EvalAnswer.person_id)
        .where(EvalAnswer.person_id.is_not(None), EvalAnswer.closed_at.is_not(None))
        .group_by(EvalAnswer.set_id, EvalAnswer.person_id)
        .having(last <= until, last > after)
        .order_by(EvalAnswer.set_id, EvalAnswer.person_id)
    )
    return [(set_id, person_id) for set_id, person_id in rows if person_id is not None]


def paid_for(session: Session, source_ids: Sequence[UUID]) -> tuple[int, int]:
    """Seconds and pay of the lines with some sources. Units: seconds; minor units."""
    row = session.execute(
        select(
            cast(func.coalesce(func.sum(Earning.seconds), 0), Integer),
            cast(func.coalesce(func.sum(Earning.pay_minor), 0), Integer),
        ).where(Earning.source_id.in_(source_ids))
    ).one()
    return row[0], row[1]
