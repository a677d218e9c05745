"""Tables of service targets and of the times they were missed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.targets.rules import PROJECT_KINDS, QUEUE_KINDS, QUEUES


class ServiceTarget(Base):
    """What is wanted of a project, or of a queue (in a domain, or in all); the next one ends it.

    Units: `goal` seconds, answers or a share, as the kind has it; `baseline` accepted answers when
        a volume was set.
    """

    __tablename__ = "service_target"
    __table_args__ = (
        CheckConstraint("(project_id is null) <> (queue is null)", name="subject"),
        CheckConstraint("(project_id is null) = (organisation_id is null)", name="organisation_id"),
        CheckConstraint(f"queue in {QUEUES}", name="queue"),
        CheckConstraint(
            f"kind in {PROJECT_KINDS} and project_id is not null"
            f" or kind in {QUEUE_KINDS} and queue is not null",
            name="kind",
        ),
        CheckConstraint("goal > 0", name="goal"),
        CheckConstraint("(kind = 'volume') = (due_at is not null)", name="due_at"),
        Index(
            "uq_service_target_project",
            "project_id",
            "kind",
            unique=True,
            postgresql_where=text("ended_at is null"),
        ),
        Index(
            "uq_service_target_queue",
            "queue",
            text("coalesce(domain, '')"),
            "kind",
            unique=True,
            postgresql_where=text("ended_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    goal: Mapped[float] = mapped_column(Double)
    set_at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.organisation.id"), default=None
    )
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    queue: Mapped[str | None] = mapped_column(default=None)
    domain: Mapped[str | None] = mapped_column(default=None)
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    baseline: Mapped[int] = mapped_column(default=0)
    set_by: Mapped[UUID | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class TargetMiss(Base):
    """One time that a target was missed, from its alert until it was met again.

    Units: `value` as the target's goal.
    """

    __tablename__ = "target_miss"
    __table_args__ = (
        Index(
            "uq_target_miss_open",
            "target_id",
            unique=True,
            postgresql_where=text("met_at is null"),
        ),
        Index("ix_target_miss_project_id", "project_id", "opened_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    target_id: Mapped[UUID] = mapped_column(ForeignKey("market.service_target.id"))
    opened_at: Mapped[datetime]
    value: Mapped[float] = mapped_column(Double)
    told: Mapped[str]
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    project_id: Mapped[UUID | None] = mapped_column(default=None)
    met_at: Mapped[datetime | None] = mapped_column(default=None)
