"""The table of requests to give a task back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.returns.rules import RETURN_REQUEST, SILENCE


class ReturnRequest(Base):
    """One request for one offer's task; an offer has at most one that waits.

    `silence` is what becomes of the task when `due_at` has come without an answer: its timer.
    """

    __tablename__ = "return_request"
    __table_args__ = (
        CheckConstraint(f"state in {RETURN_REQUEST.states}", name="state"),
        CheckConstraint(f"silence in {SILENCE}", name="silence"),
        CheckConstraint("due_at > asked_at", name="due_at"),
        CheckConstraint("(state = 'asked') = (ended_at is null)", name="ended_at"),
        CheckConstraint("state <> 'kept' or answer is not null", name="answer"),
        Index(
            "uq_return_request_asked",
            "offer_id",
            unique=True,
            postgresql_where=text("state = 'asked'"),
        ),
        Index("ix_return_request_due_at", "due_at", postgresql_where=text("state = 'asked'")),
        Index("ix_return_request_project_id", "project_id", "id"),
        Index("ix_return_request_expert_id", "expert_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    reason: Mapped[str]
    silence: Mapped[str]
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime]
    asked_by: Mapped[UUID | None] = mapped_column(default=None)
    answer: Mapped[str | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="asked")
    version: Mapped[int] = mapped_column(default=1)
