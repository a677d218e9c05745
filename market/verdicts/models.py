"""Tables of verdicts and of those that did not hold."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json
from market.verdicts.rules import BASES


class Verdict(Base):
    """What is decided on a submission; what stood here before a correction is in `VerdictChange`.

    Units: `share` per cent of the work that is accepted.
    """

    __tablename__ = "verdict"
    __table_args__ = (
        CheckConstraint("not is_stump or (is_validated and is_accepted)", name="is_stump"),
        CheckConstraint("share between 0 and 100 and (share > 0 or not is_accepted)", name="share"),
        CheckConstraint(f"basis in {BASES}", name="basis"),
        Index("ix_verdict_project_id", "project_id", "submission_id"),
        Index("ix_verdict_expert_id", "expert_id"),
        Index("ix_verdict_decided_at", "decided_at"),
        Index(
            "ix_verdict_organisation_id",
            "organisation_id",
            "decided_at",
            postgresql_include=["share"],
        ),
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
    share: Mapped[int] = mapped_column(SmallInteger, default=100)
    basis: Mapped[str] = mapped_column(default="votes")
    version: Mapped[int] = mapped_column(default=1)


class VerdictChange(Base):
    """A verdict that did not hold, word for word; the database adds it when one is corrected."""

    __tablename__ = "verdict_change"

    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.verdict.submission_id"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True)
    verdict: Mapped[Json]
    replaced_at: Mapped[datetime]
