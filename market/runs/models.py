"""Tables of matching runs: what was asked, what came of it, its input, and the seats left open."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class MatchingRun(Base):
    """One run of matching, under one policy version and one seed; it can be run again to the same
    answer from its snapshot.

    Units: objective and bound in units of value; gap a share of the bound; `seconds` by stage.
    """

    __tablename__ = "matching_run"
    __table_args__ = (
        CheckConstraint(
            "state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
        ),
        CheckConstraint("seed >= 0", name="seed"),
        Index("ix_matching_run_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    policy_id: Mapped[UUID] = mapped_column(ForeignKey("market.policy.id"))
    seed: Mapped[int]
    requested_at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    requested_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="pending")
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    input_digest: Mapped[str | None] = mapped_column(default=None)
    tasks: Mapped[int] = mapped_column(default=0)
    experts: Mapped[int] = mapped_column(default=0)
    pairs: Mapped[int] = mapped_column(default=0)
    offers: Mapped[int] = mapped_column(default=0)
    open_seats: Mapped[int] = mapped_column(default=0)
    objective: Mapped[float | None] = mapped_column(Double, default=None)
    bound: Mapped[float | None] = mapped_column(Double, default=None)
    gap: Mapped[float | None] = mapped_column(Double, default=None)
    seconds: Mapped[Json] = mapped_column(default_factory=dict)
    failure: Mapped[str | None] = mapped_column(default=None)
    answer_digest: Mapped[str | None] = mapped_column(default=None)
    """What a repetition has to answer, bit by bit."""
    warm_run_id: Mapped[UUID | None] = mapped_column(default=None)
    """The run whose prices this one began with; none began it cold."""
    version: Mapped[int] = mapped_column(default=1)


class OpenSeat(Base):
    """Seats of a task that a run left open, and the rule that kept its best candidate away."""

    __tablename__ = "open_seat"
    __table_args__ = (
        UniqueConstraint("run_id", "task_id", "rule"),
        CheckConstraint("seats > 0", name="seats"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("market.matching_run.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    seats: Mapped[int]
    rule: Mapped[str]
    sentence: Mapped[str]
