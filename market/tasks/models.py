"""Tables of tasks, their slots, and what experts say of tasks."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.tasks.rules import SLOT, TASK


class Task(Base):
    """One piece of work; `external_id` is the lab's own name for it, once in a project.

    Units: `expected_s` seconds of work; `value_weight` relative to a task of weight 1.
    """

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("project_id", "external_id"),
        UniqueConstraint("id", "organisation_id"),
        ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        CheckConstraint(f"state in {TASK.states}", name="state"),
        CheckConstraint("complexity between 1 and 10", name="complexity"),
        CheckConstraint("expected_s > 0", name="expected_s"),
        CheckConstraint("value_weight > 0 and value_weight <= 1000", name="value_weight"),
        CheckConstraint("(state = 'held') = (held_from is not null)", name="held_from"),
        Index("ix_task_project_id_state", "project_id", "state", "id"),
        Index("ix_task_import_id", "import_id", "import_line"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    external_id: Mapped[str]
    domain: Mapped[str]
    payload: Mapped[Json]
    expected_s: Mapped[int]
    created_at: Mapped[datetime]
    complexity: Mapped[int] = mapped_column(SmallInteger, default=1)
    value_weight: Mapped[float] = mapped_column(Double, default=1.0)
    target_model_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.target_model.id"), default=None
    )
    """The model that this task is put to, where it is not its project's: a release's."""
    clarification: Mapped[str | None] = mapped_column(default=None)
    """What its lab put right after experts found fault with it; shown beside the task."""
    state: Mapped[str] = mapped_column(default="queued")
    held_from: Mapped[str | None] = mapped_column(default=None)
    import_id: Mapped[UUID | None] = mapped_column(default=None)
    import_line: Mapped[int | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class TaskSlot(Base):
    """One of the seats that a task has for experts; `offer_id` is whom it is promised to."""

    __tablename__ = "task_slot"
    __table_args__ = (
        UniqueConstraint("task_id", "number"),
        ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
        CheckConstraint(f"state in {SLOT.states}", name="state"),
        CheckConstraint("number > 0", name="number"),
        CheckConstraint("(state in ('open', 'released')) = (offer_id is null)", name="offer_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID]
    task_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(default="open")
    offer_id: Mapped[UUID | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class Interest(Base):
    """How much an expert wants a task, from 0 (not at all) to 1."""

    __tablename__ = "interest"
    __table_args__ = (
        ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
        CheckConstraint("value between 0 and 1", name="value"),
        Index("ix_interest_task_id", "task_id"),
        Index("ix_interest_project_id", "project_id"),
    )

    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"), primary_key=True)
    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    value: Mapped[float] = mapped_column(Double)
    stated_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)
