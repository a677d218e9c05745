"""Tables of skips and of the repairs that they lead to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.offers.rules import REASONS
from market.repairs.rules import TASK_REPAIR


class TaskRepair(Base):
    """A task that experts say cannot be done as it stands; one at a time is open for a task.

    `holds_task` says that its complaints held the task, which goes on when the repair ends. `note`
    is what was done, for whoever gets the task afterwards.
    """

    __tablename__ = "task_repair"
    __table_args__ = (
        CheckConstraint(f"state in {TASK_REPAIR.states}", name="state"),
        CheckConstraint("(state = 'open') = (ended_at is null)", name="ended_at"),
        CheckConstraint("state = 'open' or note is not null", name="note"),
        Index(
            "uq_task_repair_open",
            "task_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        Index("ix_task_repair_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    opened_at: Mapped[datetime]
    holds_task: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="open")
    version: Mapped[int] = mapped_column(default=1)


class TaskSkip(Base):
    """An offer declined, or a task given back, by its expert, and why. Rows are only added."""

    __tablename__ = "task_skip"
    __table_args__ = (
        CheckConstraint(f"reason in {REASONS}", name="reason"),
        Index("ix_task_skip_task_id", "task_id"),
        Index("ix_task_skip_repair_id", "repair_id"),
        Index("ix_task_skip_expert_id", "expert_id", "at"),
    )

    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"), primary_key=True)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    reason: Mapped[str]
    at: Mapped[datetime]
    note: Mapped[str | None] = mapped_column(default=None)
    repair_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.task_repair.id"), default=None
    )
