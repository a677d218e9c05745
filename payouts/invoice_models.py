"""The tables of invoices by which labs pay in, and of whom they are addressed to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from payouts.models import Base, one_of
from payouts.states import InvoiceState


class LabCustomer(Base, kw_only=True):
    """Whom Stripe addresses a lab's invoices to: one for each address that the lab gave."""

    __tablename__ = "lab_customer"
    __table_args__ = (UniqueConstraint("lab_id", "email"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    lab_id: Mapped[UUID]
    email: Mapped[str]
    call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.external_call.id"), default=None
    )
    customer_id: Mapped[str | None] = mapped_column(unique=True, default=None)


class FundingInvoice(Base, kw_only=True):
    """The invoice by which one funding is paid; `call_id` is the last write about it."""

    __tablename__ = "funding_invoice"
    __table_args__ = (
        one_of("state", InvoiceState),
        CheckConstraint("days_until_due between 1 and 90", name="days_until_due"),
        Index(None, "customer_id"),
    )

    funding_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.funding.id"), primary_key=True)
    lab_id: Mapped[UUID]
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.lab_customer.id"))
    days_until_due: Mapped[int] = mapped_column(SmallInteger)
    call_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.external_call.id"))
    state: Mapped[InvoiceState] = mapped_column(Text, default=InvoiceState.PLANNED)
    invoice_id: Mapped[str | None] = mapped_column(unique=True, default=None)
    number: Mapped[str | None] = mapped_column(default=None)
    url: Mapped[str | None] = mapped_column(default=None)
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    overdue_at: Mapped[datetime | None] = mapped_column(default=None)
