"""Long work that a caller started and can look up: its state, its progress and what came of it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from market.db import Base, Json, new_id
from market.errors import MarketError

STATES = ("pending", "running", "succeeded", "failed", "cancelled")


class OperationNotFound(MarketError):
    """No operation has this id, or it is another organisation's."""

    def __init__(self, operation_id: UUID) -> None:
        super().__init__("there is no such operation")
        self.operation_id = operation_id


class Operation(Base):
    """One piece of long work, under the id that its `202 Accepted` named."""

    __tablename__ = "operation"
    __table_args__ = (
        CheckConstraint(f"state in {STATES}", name="state"),
        Index("ix_operation_subject_id", "subject_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    created_at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="pending")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int | None] = mapped_column(default=None)
    phase: Mapped[str] = mapped_column(default="waiting")
    result: Mapped[Json | None] = mapped_column(default=None)
    problem: Mapped[Json | None] = mapped_column(default=None)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


def open_operation(
    session: Session, kind: str, subject_id: UUID, *, at: datetime, organisation_id: UUID | None
) -> Operation:
    """Announce long work on a subject; the job that does it reports under the subject's id."""
    operation = Operation(
        kind=kind, subject_id=subject_id, created_at=at, organisation_id=organisation_id
    )
    session.add(operation)
    session.flush()
    return operation


def report_progress(
    session: Session, subject_id: UUID, *, phase: str, done: int, total: int | None, at: datetime
) -> None:
    """Say how far the work on a subject has come; an ended operation stays as it is."""
    session.execute(
        update(Operation)
        .where(Operation.subject_id == subject_id, Operation.state.in_(("pending", "running")))
        .values(
            state="running",
            phase=phase,
            done=done,
            total=total,
            started_at=func.coalesce(Operation.started_at, at),
        )
    )


def end_operation(
    session: Session,
    subject_id: UUID,
    *,
    at: datetime,
    result: Json | None = None,
    problem: Json | None = None,
) -> None:
    """Close the work on a subject: failed when there is a problem, succeeded otherwise."""
    session.execute(
        update(Operation)
        .where(Operation.subject_id == subject_id, Operation.state.in_(("pending", "running")))
        .values(
            state="failed" if problem is not None else "succeeded",
            phase="ended",
            result=result,
            problem=problem,
            ended_at=at,
        )
    )


def cancel_operation(session: Session, subject_id: UUID, *, at: datetime) -> None:
    """Close the work on a subject as cancelled; work that has ended stays as it ended."""
    session.execute(
        update(Operation)
        .where(Operation.subject_id == subject_id, Operation.state.in_(("pending", "running")))
        .values(state="cancelled", phase="ended", ended_at=at)
    )


def is_cancelled(session: Session, subject_id: UUID, *, lock: bool = False) -> bool:
    """Whether the work on a subject is not wanted any more; locked, it stays so or not until the
    transaction ends.
    """
    last = (
        select(Operation.state)
        .where(Operation.subject_id == subject_id)
        .order_by(Operation.id.desc())
        .limit(1)
    )
    return session.scalar(last.with_for_update() if lock else last) == "cancelled"


def operation(session: Session, operation_id: UUID) -> Operation:
    """The operation with this id.

    Raises:
        OperationNotFound.
    """
    found = session.scalar(select(Operation).where(Operation.id == operation_id))
    if found is None:
        raise OperationNotFound(operation_id)
    return found
