"""The tables of messages to cohorts and of who got each."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class CohortMessage(Base):
    """One message to everybody for whom an expression holds: of a lab, to its own people; or of
    ops. `matched` is how many that were when it was sent.
    """

    __tablename__ = "cohort_message"
    __table_args__ = (
        CheckConstraint("(matched is null) = (finished_at is null)", name="finished_at"),
        Index("ix_cohort_message_organisation_id", "organisation_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    sent_by: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    expression: Mapped[Json]
    subject: Mapped[str]
    content: Mapped[str]
    asked_at: Mapped[datetime]
    event_id: Mapped[UUID] = mapped_column(ForeignKey("market.event.id"))
    organisation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.organisation.id"), default=None
    )
    matched: Mapped[int | None] = mapped_column(default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)


class MessageCopy(Base):
    """That one person got one message: at most once, whatever is repeated."""

    __tablename__ = "message_copy"

    message_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.cohort_message.id"), primary_key=True
    )
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    notification_id: Mapped[UUID] = mapped_column(ForeignKey("market.notification.id"))
    at: Mapped[datetime]
