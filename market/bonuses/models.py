"""The table of bonuses."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class Bonus(Base, kw_only=True):
    """A sum that a lab gave an expert on top of pay, and why; never changed.

    Units: minor units of `currency`.
    """

    __tablename__ = "bonus"
    __table_args__ = (
        UniqueConstraint("project_id", "reference"),
        CheckConstraint("amount_minor > 0 and fee_minor >= 0", name="amounts"),
        CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        Index("ix_bonus_expert_id", "expert_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    amount_minor: Mapped[int]
    fee_minor: Mapped[int]
    currency: Mapped[str]
    reference: Mapped[str]
    reason: Mapped[str]
    is_for_impact: Mapped[bool]
    given_by: Mapped[UUID]
    given_at: Mapped[datetime]
