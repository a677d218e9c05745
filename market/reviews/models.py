"""The table of reviews."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.reviews.rules import REASON_CODES, REVIEW, VERDICTS


class Review(Base):
    """One look at one submission: waits in the queue, is claimed by one person, becomes a vote."""

    __tablename__ = "review"
    __table_args__ = (
        CheckConstraint(f"state in {REVIEW.states}", name="state"),
        CheckConstraint("reviewer_id <> expert_id", name="self_review"),
        CheckConstraint(f"verdict in {VERDICTS}", name="verdict"),
        CheckConstraint(
            f"reason_code in {REASON_CODES} or reason_code is null", name="reason_code"
        ),
        CheckConstraint(
            "verdict <> 'reject' or (reason_code is not null and length(btrim(note)) >= 100)",
            name="rejection",
        ),
        CheckConstraint(
            "verdict is distinct from 'rework' or length(btrim(note)) >= 40", name="rework"
        ),
        CheckConstraint(
            "(verdict is not distinct from 'accept_share') = (share is not null)"
            " and share between 1 and 99",
            name="share",
        ),
        CheckConstraint("kind in ('vote', 'adjudication')", name="kind"),
        CheckConstraint("(voted_at is null) = (verdict is null)", name="voted_at"),
        UniqueConstraint("submission_id", "round", "number"),
        UniqueConstraint("submission_id", "round", "reviewer_id"),
        Index("ix_review_queue", "number", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_review_due_at", "due_at", postgresql_where=text("state = 'queued'")),
        Index(
            "ix_review_held",
            "expires_at",
            postgresql_where=text("state in ('claimed', 'in_progress')"),
        ),
        Index(
            "ix_review_reserved_for",
            "reserved_for",
            postgresql_where=text("state = 'queued' and reserved_for is not null"),
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
    due_at: Mapped[datetime | None]
    """When silence decides, by the terms of the author."""
    kind: Mapped[str] = mapped_column(default="vote")
    level: Mapped[int] = mapped_column(SmallInteger, default=1)
    reserved_for: Mapped[UUID | None] = mapped_column(default=None)
    """Who may claim it alone until `reserved_until`: whoever asked for the rework, or
    whose vote is expected to tell the most of a claim."""
    reserved_until: Mapped[datetime | None] = mapped_column(default=None)
    reviewer_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    state: Mapped[str] = mapped_column(default="queued")
    verdict: Mapped[str | None] = mapped_column(default=None)
    model_failed: Mapped[bool | None] = mapped_column(default=None)
    attempt_fair: Mapped[bool | None] = mapped_column(default=None)
    reason_code: Mapped[str | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)
    criterion: Mapped[str | None] = mapped_column(default=None)
    share: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    met: Mapped[list[str] | None] = mapped_column(ARRAY(Text), default=None)
    """Criteria of the rubric that hold, where their points say which share is accepted."""
    task_broken: Mapped[bool | None] = mapped_column(default=None)
    """Said by whoever adjudicates: nobody can answer this task as it stands."""
    seconds: Mapped[int | None] = mapped_column(default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
    voted_at: Mapped[datetime | None] = mapped_column(default=None)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
