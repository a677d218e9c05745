"""The table of what experts earned."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class Earning(Base, kw_only=True):
    """What one offer owes its expert for one week at one rate: a line of a statement.

    A row is never changed, but for the payout that takes it along; its state is that payout's.
    The sums of an offer's rows are the amounts of the ledger entry `entry_key`.

    Units: seconds; minor units of `currency`, an hour for the rate.
    """

    __tablename__ = "earning"
    __table_args__ = (
        CheckConstraint("kind in ('hours')", name="kind"),
        CheckConstraint("seconds > 0 and part > 0", name="seconds"),
        CheckConstraint("pay_minor >= 0 and fee_minor >= 0", name="amounts"),
        CheckConstraint("extract(isodow from week) = 1", name="week"),
        UniqueConstraint("offer_id", "week", "rate_minor_per_hour", "kind", "part"),
        Index("ix_earning_expert_id", "expert_id", "id"),
        Index("ix_earning_project_id", "project_id", "id"),
        Index("ix_earning_payout_id", "payout_id"),
        Index("ix_earning_waiting", "expert_id", postgresql_where="payout_id is null"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    week: Mapped[date]
    seconds: Mapped[int]
    rate_minor_per_hour: Mapped[int]
    pay_minor: Mapped[int]
    fee_minor: Mapped[int]
    currency: Mapped[str]
    entry_key: Mapped[str]
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(default="hours")
    part: Mapped[int] = mapped_column(default=1)
    """Which crediting of its offer it came with; a later one pays time that was disputed."""
    submission_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.submission.id"), default=None
    )
    payout_id: Mapped[UUID | None] = mapped_column(default=None)
