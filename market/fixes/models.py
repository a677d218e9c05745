"""The table of fixes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.fixes.rules import FIX


class SubmissionFix(Base, kw_only=True):
    """One reviewer's version of one author's work, made with its vote to accept; the author's own
    stays in the submission.

    Units: as in `fixes.rules.Measured`.
    """

    __tablename__ = "submission_fix"
    __table_args__ = (
        CheckConstraint(f"state in {FIX.states}", name="state"),
        CheckConstraint("corrector_id <> author_id", name="corrector"),
        CheckConstraint(
            "distance > 0 and edited_share > 0 and edited_share <= 0.5", name="edited_share"
        ),
        CheckConstraint("(state = 'proposed') = (settled_at is null)", name="settled_at"),
        UniqueConstraint("review_id"),
        Index(
            "uq_submission_fix_standing",
            "submission_id",
            unique=True,
            postgresql_where=text("state = 'standing'"),
        ),
        Index("ix_submission_fix_submission_id", "submission_id", "round"),
        Index("ix_submission_fix_project_id", "project_id", "id"),
        Index("ix_submission_fix_author_id", "author_id", "id"),
        Index("ix_submission_fix_corrector_id", "corrector_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    review_id: Mapped[UUID] = mapped_column(ForeignKey("market.review.id"))
    submission_id: Mapped[UUID] = mapped_column(ForeignKey("market.submission.id"))
    round: Mapped[int] = mapped_column(SmallInteger)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    author_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    corrector_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    payload: Mapped[Json]
    note: Mapped[str]
    author_words: Mapped[int]
    fixed_words: Mapped[int]
    distance: Mapped[int]
    edited_share: Mapped[float] = mapped_column(Double)
    at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="proposed")
    settled_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
