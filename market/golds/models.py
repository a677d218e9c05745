"""Tables of gold and of the checks that it was put as."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.golds.rules import RETIRED_FOR, STATES


class Gold(Base):
    """A task whose answer is known; each time it is put, it is put as a task of its own.

    `exposures` counts the people whom it was put to.
    """

    __tablename__ = "gold"
    __table_args__ = (
        UniqueConstraint("project_id", "external_id"),
        ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        CheckConstraint(f"state in {STATES}", name="state"),
        CheckConstraint(f"retired_for in {RETIRED_FOR}", name="retired_for"),
        CheckConstraint("(state = 'retired') = (retired_at is not null)", name="retired_at"),
        CheckConstraint("(retired_at is null) = (retired_for is null)", name="retired"),
        CheckConstraint("complexity between 1 and 10", name="complexity"),
        CheckConstraint("expected_s > 0", name="expected_s"),
        CheckConstraint("cardinality(answers) > 0", name="answers"),
        Index(
            "ix_gold_free",
            "project_id",
            "domain",
            "exposures",
            postgresql_where=text("state = 'active'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    external_id: Mapped[str]
    domain: Mapped[str]
    payload: Mapped[Json]
    field: Mapped[str]
    answers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    complexity: Mapped[int] = mapped_column(SmallInteger)
    expected_s: Mapped[int]
    created_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="active")
    exposures: Mapped[int] = mapped_column(default=0)
    retired_at: Mapped[datetime | None] = mapped_column(default=None)
    retired_for: Mapped[str | None] = mapped_column(default=None)


class GoldCheck(Base):
    """Gold put to one expert, as a task like any other that only that expert is offered.

    `after_id` is the work that it was put after: one check at most for each.
    """

    __tablename__ = "gold_check"
    __table_args__ = (
        UniqueConstraint("gold_id", "expert_id"),
        CheckConstraint("(submission_id is null) = (is_right is null)", name="is_right"),
        CheckConstraint("(submission_id is null) = (graded_at is null)", name="graded_at"),
        Index("ix_gold_check_expert_id", "expert_id"),
        Index("ix_gold_check_project_id", "project_id"),
    )

    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"), primary_key=True)
    gold_id: Mapped[UUID] = mapped_column(ForeignKey("market.gold.id"))
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    put_at: Mapped[datetime]
    submission_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.submission.id"), unique=True, default=None
    )
    after_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.submission.id"), unique=True, default=None
    )
    is_right: Mapped[bool | None] = mapped_column(default=None)
    graded_at: Mapped[datetime | None] = mapped_column(default=None)
