"""The table of what labs pay in."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class Funding(Base, kw_only=True):
    """Money that a lab pays in; its id is also that of the payment in `payouts`.

    Without a payment method it is paid by invoice, whose number, address and day are here once
    there is one.

    Units: minor units of `currency`.
    """

    __tablename__ = "funding"
    __table_args__ = (
        CheckConstraint(
            "state in ('requested', 'invoiced', 'processing', 'received', 'succeeded', 'failed')",
            name="state",
        ),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        Index("ix_funding_organisation_id", "organisation_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    amount_minor: Mapped[int]
    currency: Mapped[str]
    payment_method: Mapped[str | None]
    external_call_id: Mapped[UUID]
    created_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="requested")
    failure: Mapped[str | None] = mapped_column(default=None)
    settled_at: Mapped[datetime | None] = mapped_column(default=None)
    invoice_number: Mapped[str | None] = mapped_column(default=None)
    invoice_url: Mapped[str | None] = mapped_column(default=None)
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
