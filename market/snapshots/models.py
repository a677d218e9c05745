"""Tables of snapshots and of the answers in them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class Snapshot(Base, kw_only=True):
    """What was accepted and not yet delivered of a project at one moment; it never changes."""

    __tablename__ = "snapshot"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        CheckConstraint("number > 0 and tasks > 0 and answers >= 0", name="counts"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    number: Mapped[int]
    tasks: Mapped[int]
    answers: Mapped[int]
    taken_at: Mapped[datetime]
    taken_by: Mapped[UUID | None]


class SnapshotAnswer(Base, kw_only=True):
    """One accepted answer as a snapshot took it along; what becomes of it later stands elsewhere.

    Units: `share` per cent of the work that was accepted.
    """

    __tablename__ = "snapshot_answer"
    __table_args__ = (Index("ix_snapshot_answer_submission_id", "submission_id"),)

    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("market.snapshot.id"), primary_key=True)
    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    organisation_id: Mapped[UUID]
    share: Mapped[int] = mapped_column(SmallInteger)
    is_stump: Mapped[bool]
    fix_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.submission_fix.id"), default=None
    )
    """The fix that it took along in the place of the author's version."""
