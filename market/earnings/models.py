"""The table of what experts earned."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.earnings.rules import EARNING, KINDS


class Earning(Base, kw_only=True):
    """A line of a statement: an offer's time of one week at one rate, or a sum for work or bonus.

    What it owes is held for its expert until it is approved, and free to pay out from then on; a
    payout then takes it along. Its amounts only change when a dispute splits off the part that it
    is about. The sums of the rows of an `entry_key` are the amounts of that ledger entry.

    Units: seconds; minor units of `currency`, an hour for the rate.
    """

    __tablename__ = "earning"
    __table_args__ = (
        CheckConstraint(f"state in {EARNING.states}", name="state"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint(
            "seconds >= 0 and part > 0 and (kind in ('hours', 'sitting')) = (seconds > 0)",
            name="seconds",
        ),
        CheckConstraint(
            # A bonus for impact is a lab's gift, or what an offer promised for a stump.
            "kind = 'impact_bonus' or (kind in ('bonus', 'sitting', 'guarantee'))"
            " = (source_id is not null)",
            name="source",
        ),
        CheckConstraint("offer_id is not null or source_id is not null", name="offer_id"),
        CheckConstraint("payout_id is null or state = 'approved'", name="payout_id"),
        CheckConstraint(
            "state not in ('disputed', 'withheld') or dispute_id is not null", name="dispute_id"
        ),
        CheckConstraint("pay_minor >= 0 and fee_minor >= 0", name="amounts"),
        CheckConstraint("extract(isodow from week) = 1", name="week"),
        UniqueConstraint("offer_id", "week", "rate_minor_per_hour", "kind", "part"),
        Index("ix_earning_expert_id", "expert_id", "id"),
        Index("ix_earning_project_id", "project_id", "id"),
        Index("ix_earning_payout_id", "payout_id"),
        Index("ix_earning_week", "week", "id"),
        Index("uq_earning_source_id", "source_id", unique=True),
        Index("ix_earning_reviewed", "review_until", postgresql_where="state = 'accrued'"),
        Index("ix_earning_waiting", "expert_id", postgresql_where="payout_id is null"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    offer_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.offer.id"))
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
    state: Mapped[str] = mapped_column(default="accrued")
    review_until: Mapped[datetime | None] = mapped_column(default=None)
    """When its lab's silence approves it."""
    approved_at: Mapped[datetime | None] = mapped_column(default=None)
    dispute_id: Mapped[UUID | None] = mapped_column(default=None)
    source_id: Mapped[UUID | None] = mapped_column(default=None)
    """The bonus, the sitting, or the admission, that it pays."""
    note: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
