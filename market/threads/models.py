"""The tables of threads and of what is said in them."""

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
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.threads.rules import KINDS, SIDES, THREAD


class Thread(Base):
    """One matter about one piece of work; `author_id` is the expert whom it concerns, if one."""

    __tablename__ = "thread"
    __table_args__ = (
        CheckConstraint(f"state in {THREAD.states}", name="state"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint("span_start >= 0 and span_end > span_start", name="span"),
        Index("ix_thread_subject_id", "subject_id", "id"),
        Index("ix_thread_submission_id", "submission_id"),
        Index("ix_thread_task_id", "task_id"),
        Index("ix_thread_organisation_id", "organisation_id", "id"),
        Index("ix_thread_author_id", "author_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    submission_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.submission.id"))
    author_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"))
    opened_by: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    opened_side: Mapped[str]
    sides: Mapped[list[str]] = mapped_column(ARRAY(Text))
    opened_at: Mapped[datetime]
    field: Mapped[str | None] = mapped_column(default=None)
    span_start: Mapped[int | None] = mapped_column(default=None)
    span_end: Mapped[int | None] = mapped_column(default=None)
    criterion: Mapped[str | None] = mapped_column(default=None)
    quote: Mapped[str | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="open")
    version: Mapped[int] = mapped_column(default=1)


class Remark(Base):
    """What one person said in a thread. Rows are only ever added."""

    __tablename__ = "remark"
    __table_args__ = (
        CheckConstraint(f"side in {SIDES}", name="side"),
        UniqueConstraint("thread_id", "number"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    thread_id: Mapped[UUID] = mapped_column(ForeignKey("market.thread.id"))
    number: Mapped[int] = mapped_column(SmallInteger)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    side: Mapped[str]
    content: Mapped[str]
    at: Mapped[datetime]
