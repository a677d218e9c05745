"""Tables of reviews and verdicts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.reviews.rules import REASON_CODES, REVIEW


class Review(Base):
    """One look at one submission: waits in the queue, is claimed by one person, becomes a vote."""

    __tablename__ = "review"
    __table_args__ = (
        CheckConstraint(f"state in {REVIEW.states}", name="state"),
        CheckConstraint("reviewer_id <> expert_id", name="self_review"),
        CheckConstraint("verdict in ('accept', 'reject')", name="verdict"),
        CheckConstraint(
            f"reason_code in {REASON_CODES} or reason_code is null", name="reason_code"
        ),
        CheckConstraint(
            "verdict <> 'reject' or (reason_code is not null and length(btrim(note)) >= 100)",
            name="rejection",
        ),
        CheckConstraint("(voted_at is null) = (verdict is null)", name="voted_at"),
        UniqueConstraint("submission_id", "round", "number"),
        UniqueConstraint("submission_id", "round", "reviewer_id"),
        Index("ix_review_queue", "id", postgresql_where=text("state = 'queued'")),
        Index(
            "ix_review_held",
            "expires_at",
            postgresql_where=text("state in ('claimed', 'in_progress')"),
        ),
        Index("ix_review_reviewer_id", "reviewer_id", "id"),
        Index("ix_review_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    submission_id: Mapped[UUID] = mapped_column(ForeignKey("market.submission.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    """The author of the submission."""
    round: Mapped[int] = mapped_column(SmallInteger)
    number: Mapped[int] = mapped_column(SmallInteger)
    queued_at: Mapped[datetime]
    has_attempt: Mapped[bool]
    level: Mapped[int] = mapped_column(SmallInteger, default=1)
    reviewer_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    state: Mapped[str] = mapped_column(default="queued")
    verdict: Mapped[str | None] = mapped_column(default=None)
    model_failed: Mapped[bool | None] = mapped_column(default=None)
    attempt_fair: Mapped[bool | None] = mapped_column(default=None)
    reason_code: Mapped[str | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)
    seconds: Mapped[int | None] = mapped_column(default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
    voted_at: Mapped[datetime | None] = mapped_column(default=None)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class Verdict(Base):
    """What was decided on a submission: once, and from the votes that its reviews hold."""

    __tablename__ = "verdict"
    __table_args__ = (
        CheckConstraint("not is_stump or (is_validated and is_accepted)", name="is_stump"),
        Index("ix_verdict_project_id", "project_id", "submission_id"),
        Index("ix_verdict_expert_id", "expert_id"),
        Index(
            "ix_verdict_task_id_stump",
            "project_id",
            "task_id",
            postgresql_where=text("is_stump"),
        ),
    )

    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    votes: Mapped[int]
    rejects: Mapped[int]
    is_accepted: Mapped[bool]
    is_tested: Mapped[bool]
    """Whether it carried an attempt at a target model: only then can it be a stump."""
    is_validated: Mapped[bool]
    is_stump: Mapped[bool]
    is_silent: Mapped[bool]
    """Whether the review time ran out before all votes were in."""
    decided_at: Mapped[datetime]
