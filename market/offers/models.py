"""The table of offers."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id

LIVE = "state in ('pending', 'accepted', 'active', 'grace')"
TAKEN = "state not in ('timed_out', 'rescinded', 'canceled')"


class Offer(Base):
    """One seat of one task, put to one expert; a slot has at most one that is live.

    `terms` is what the expert accepts, frozen when the offer was made; `terms_digest` proves it.
    `value` and `parts` say what the pair was worth to the run that chose it, `task_price` and
    `expert_price` what it had to beat.

    Units: expected_s in seconds; reserved_minor in minor units of `currency`; value and prices in
        units of value; probability from 0 to 1.
    """

    __tablename__ = "offer"
    __table_args__ = (
        CheckConstraint(
            "state in ('pending', 'accepted', 'declined', 'timed_out', 'rescinded', 'canceled',"
            " 'active', 'grace', 'completed', 'released', 'abandoned')",
            name="state",
        ),
        CheckConstraint("reserved_minor > 0", name="reserved_minor"),
        CheckConstraint("expected_s > 0", name="expected_s"),
        CheckConstraint("expires_at > created_at", name="expires_at"),
        CheckConstraint("probability > 0 and probability <= 1", name="probability"),
        Index("uq_offer_live_slot", "slot_id", unique=True, postgresql_where=text(LIVE)),
        Index(
            "uq_offer_task_expert",
            "task_id",
            "expert_id",
            unique=True,
            postgresql_where=text(TAKEN),
        ),
        Index("ix_offer_expert_id", "expert_id", "id"),
        Index("ix_offer_run_id", "run_id", "id"),
        Index("ix_offer_project_id", "project_id", "id"),
        Index(
            "ix_offer_missed",
            "expert_id",
            "expires_at",
            postgresql_where=text("state = 'timed_out'"),
        ),
        Index("ix_offer_expiring", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("ix_offer_leased", "lease_until", postgresql_where=text("state = 'accepted'")),
        Index("ix_offer_grace", "lease_until", postgresql_where=text("state = 'grace'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    slot_id: Mapped[UUID] = mapped_column(ForeignKey("market.task_slot.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"))
    run_id: Mapped[UUID]
    value: Mapped[float] = mapped_column(Double)
    parts: Mapped[Json]
    explanation: Mapped[str]
    probability: Mapped[float] = mapped_column(Double)
    task_price: Mapped[float] = mapped_column(Double)
    expert_price: Mapped[float] = mapped_column(Double)
    terms: Mapped[Json]
    terms_digest: Mapped[str]
    currency: Mapped[str]
    expected_s: Mapped[int]
    reserved_minor: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="pending")
    accepted_at: Mapped[datetime | None] = mapped_column(default=None)
    lease_until: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
