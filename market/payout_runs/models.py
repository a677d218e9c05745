"""The table of the runs that pay out."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class PayoutRun(Base, kw_only=True):
    """One round of paying everybody who is owed something; by the clock when nobody asked."""

    __tablename__ = "payout_run"
    __table_args__ = (
        CheckConstraint(
            "state in ('pending', 'running', 'succeeded', 'cancelling', 'cancelled')", name="state"
        ),
        CheckConstraint("extract(isodow from period_end) = 1", name="period_end"),
        # The clock asks once for a period, however often its job is run.
        Index(
            "uq_payout_run_by_clock",
            "period_end",
            unique=True,
            postgresql_where="requested_by is null",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    period_end: Mapped[date]
    requested_at: Mapped[datetime]
    requested_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="pending")
    payouts: Mapped[int] = mapped_column(default=0)
    held: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
