"""The tables of what people are told, how they want to be told, and letters."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class FeedReader(Base):
    """How far a part of the house has read the platform's feed; its row is its lock."""

    __tablename__ = "feed_reader"

    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]


class Letter(Base):
    """One e-mail. The row is its own timer; whoever sends it holds it until `leased_until`."""

    __tablename__ = "letter"
    __table_args__ = (
        CheckConstraint("state in ('waiting', 'sent', 'failed')", name="state"),
        Index("ix_letter_due", "due_at", postgresql_where=text("state = 'waiting'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    address: Mapped[str]
    subject: Mapped[str]
    content: Mapped[str]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    sent_at: Mapped[datetime | None] = mapped_column(default=None)
    error: Mapped[str | None] = mapped_column(default=None)


class Notification(Base):
    """One thing that one person is told, once."""

    __tablename__ = "notification"
    __table_args__ = (
        CheckConstraint("mail in ('now', 'digest', 'never')", name="mail"),
        UniqueConstraint("person_id", "event_id"),
        Index("ix_notification_person_id", "person_id", "id"),
        # When what was told of some work was read.
        Index("ix_notification_subject_id", "subject_id", "person_id"),
        Index(
            "ix_notification_digest",
            "person_id",
            postgresql_where=text("mail = 'digest' and letter_id is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    event_id: Mapped[UUID] = mapped_column(ForeignKey("market.event.id"))
    event_type: Mapped[str]
    subject_id: Mapped[UUID]
    topic: Mapped[str]
    title: Mapped[str]
    content: Mapped[str]
    mail: Mapped[str]
    created_at: Mapped[datetime]
    read_at: Mapped[datetime | None] = mapped_column(default=None)
    letter_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.letter.id"), default=None)


class NoticePreference(Base):
    """How a person wants to be told; a topic that is not in `mails` goes as its notice says."""

    __tablename__ = "notice_preference"
    __table_args__ = (
        CheckConstraint("digest in ('daily', 'weekly')", name="digest"),
        CheckConstraint("hour between 0 and 23", name="hour"),
        Index("ix_notice_preference_next_digest_at", "next_digest_at"),
    )

    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    timezone: Mapped[str]
    digest: Mapped[str]
    hour: Mapped[int]
    mails: Mapped[Json]
    next_digest_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)
