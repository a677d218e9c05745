"""The table of appeals."""

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
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.appeals.rules import APPEAL, KINDS
from market.db import Base, new_id


class Appeal(Base):
    """One appeal against one decision; `involved` are those who had a part in it."""

    __tablename__ = "appeal"
    __table_args__ = (
        CheckConstraint(f"state in {APPEAL.states}", name="state"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint("length(btrim(note)) >= 40", name="note"),
        CheckConstraint("due_at > filed_at", name="due_at"),
        # Nobody decides on its own decision, nor for itself, whatever the application does.
        CheckConstraint(
            "decider_id is null or (decider_id <> person_id and decider_id <> all (involved))",
            name="decider",
        ),
        CheckConstraint(
            "state in ('filed', 'assigned', 'sla_missed')"
            " or (decider_id is not null and length(btrim(decision)) >= 40)",
            name="decision",
        ),
        UniqueConstraint("kind", "subject_id"),
        Index("ix_appeal_person_id", "person_id", "id"),
        Index(
            "ix_appeal_due_at",
            "due_at",
            postgresql_where=text("state in ('filed', 'assigned')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    note: Mapped[str]
    filed_at: Mapped[datetime]
    due_at: Mapped[datetime]
    involved: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    evidence: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="filed")
    decider_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    assigned_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decision: Mapped[str | None] = mapped_column(default=None)
    share: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    version: Mapped[int] = mapped_column(default=1)
