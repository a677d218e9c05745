"""The table of submissions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.submissions.rules import SUBMISSION


class Submission(Base):
    """What an expert hands in on an offer: a draft until it is submitted; one for each offer.

    `unjudged_at` is when its time for review went by without the judgement that it needs, the last
    time: from then on its contract pays for it as for accepted work, whatever people decide.
    """

    __tablename__ = "submission"
    __table_args__ = (
        CheckConstraint(f"state in {SUBMISSION.states}", name="state"),
        CheckConstraint(
            "submitted_at is not null or state in"
            " ('draft', 'returned', 'timed_out', 'screened_out')",
            name="submitted_at",
        ),
        UniqueConstraint("offer_id"),
        Index("ix_submission_project_id", "project_id", "id"),
        Index("ix_submission_expert_id", "expert_id", "id"),
        Index("ix_submission_task_id", "task_id"),
        Index("ix_submission_attempt_id", "attempt_id"),
        Index(
            "ix_submission_waiting",
            "submitted_at",
            postgresql_where=text("state in ('awaiting_review', 'in_review')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    slot_id: Mapped[UUID] = mapped_column(ForeignKey("market.task_slot.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    payload: Mapped[Json]
    created_at: Mapped[datetime]
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.attempt.id"), default=None)
    state: Mapped[str] = mapped_column(default="draft")
    round: Mapped[int] = mapped_column(default=1)
    submitted_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    unjudged_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
