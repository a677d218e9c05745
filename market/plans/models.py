"""Tables of kept plans: what they are made of, and what waits to be answered."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id

KINDS = ("expert", "task", "project", "offer", "import", "run")


class KeptPlanRow(Base):
    """A run whose plan is kept, until a later run of the same scope takes its place."""

    __tablename__ = "kept_plan"
    __table_args__ = (
        Index(
            "uq_kept_plan_open",
            text("coalesce(project_id, '00000000-0000-0000-0000-000000000000'::uuid)"),
            unique=True,
            postgresql_where=text("closed_at is null"),
        ),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("market.matching_run.id"), primary_key=True)
    opened_at: Mapped[datetime]
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    steps: Mapped[int] = mapped_column(default=0)
    given_up: Mapped[str | None] = mapped_column(default=None)
    """Why the plan could not go on; none where it can, or another took its place."""


class PlanStep(Base):
    """Moves that a plan made in one transaction with the offers that follow from them; `digest` is
    what the plan was after them.
    """

    __tablename__ = "plan_step"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("market.kept_plan.run_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    fence: Mapped[int]
    at: Mapped[datetime]
    moves: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[str]


class PlanChange(Base):
    """Something that a plan has not answered yet: what it is about, not what it was."""

    __tablename__ = "plan_change"
    __table_args__ = (CheckConstraint(f"kind in {KINDS}", name="kind"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    noted_at: Mapped[datetime]
