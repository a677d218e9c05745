"""Tables of whom projects take, of the step that each task is at, and of how it came there."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class Eligibility(Base):
    """One version of whom a project takes; the newest counts. `steps` is a list of expressions,
    each with its seconds.
    """

    __tablename__ = "eligibility"
    __table_args__ = (
        UniqueConstraint("project_id", "version"),
        ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        CheckConstraint("version > 0", name="version"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    version: Mapped[int]
    steps: Mapped[Json]
    set_at: Mapped[datetime]
    set_by: Mapped[UUID | None] = mapped_column(default=None)


class Widening(Base):
    """The timer of a task: the step it is at, since when, and when the next one begins.

    Units: `left_s` seconds that are left while the task cannot be claimed, as in a pause.
    """

    __tablename__ = "widening"
    __table_args__ = (
        ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
        CheckConstraint("step > 0", name="step"),
        CheckConstraint("due_at is null or left_s is null", name="left_s"),
        Index("ix_widening_project_id", "project_id", "due_at"),
    )

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    eligibility_id: Mapped[UUID] = mapped_column(ForeignKey("market.eligibility.id"))
    step: Mapped[int] = mapped_column(SmallInteger)
    since: Mapped[datetime]
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    left_s: Mapped[int | None] = mapped_column(default=None)


class WideningStep(Base):
    """One step that a task came to, and when. Rows are only ever added."""

    __tablename__ = "widening_step"
    __table_args__ = (
        UniqueConstraint("task_id", "eligibility_id", "step"),
        ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    task_id: Mapped[UUID]
    organisation_id: Mapped[UUID]
    eligibility_id: Mapped[UUID] = mapped_column(ForeignKey("market.eligibility.id"))
    step: Mapped[int] = mapped_column(SmallInteger)
    at: Mapped[datetime]
