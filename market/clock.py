"""When jobs of the clock run: slots, and who fires one. Two schedulers never fire one twice."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from market.broker import Job
from market.db import Base

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday, so that weekly slots begin on Mondays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One job of the clock: it runs once in each slot of `every`, `after` its beginning."""

    job: Job
    every: timedelta
    after: timedelta = timedelta(0)

    def slot(self, at: datetime) -> datetime:
        """The slot whose time came last, seen from `at`."""
        steps = (at - self.after - EPOCH) // self.every
        return EPOCH + steps * self.every + self.after


class ScheduleSlot(Base):
    """A slot that was fired; its row and its job's message are one transaction's work."""

    __tablename__ = "schedule_slot"

    name: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[datetime] = mapped_column(primary_key=True)


def claim_slot(session: Session, name: str, slot: datetime) -> bool:
    """Whether this caller is the one that fires the slot."""
    statement = insert(ScheduleSlot).values(name=name, slot=slot).on_conflict_do_nothing()
    return bool(session.execute(statement.returning(ScheduleSlot.name)).first())
