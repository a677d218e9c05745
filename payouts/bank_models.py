"""The tables of what happens beside the runs: card disputes, our own bank, the pace of writing."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Float, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from payouts.models import Base, one_of
from payouts.states import CardDisputeState, PlatformPayoutState


class WriteBucket(Base, kw_only=True):
    """When the next write to one Stripe account may leave, for every process together.

    `next_at` is the time at which the bucket would be full again: each write moves it on by one
    interval, and it never lies further back than the burst allows. An answer of 429 moves it
    forward for everybody.
    """

    __tablename__ = "write_bucket"

    account: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]
    held_back: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    longest_wait_s: Mapped[float] = mapped_column(Float, server_default=text("0"), default=0.0)


class CardDispute(Base, kw_only=True):
    """A lab's bank wants a payment back: what it took, what is withheld for it, how it ended.

    `withheld_minor` is reserved from the lab while the outcome is open: first from its unsettled
    payment, then its free money, then what its projects have free; the rest would be our loss.
    """

    __tablename__ = "card_dispute"
    __table_args__ = (
        one_of("state", CardDisputeState),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint(
            "withheld_minor >= 0 and unsettled_minor between 0 and withheld_minor", name="withheld"
        ),
        Index(None, "funding_id"),
        Index(None, "lab_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    stripe_id: Mapped[str] = mapped_column(unique=True)
    funding_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.funding.id"))
    lab_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    reason: Mapped[str]
    opened_at: Mapped[datetime]
    state: Mapped[CardDisputeState] = mapped_column(Text, default=CardDisputeState.OPEN)
    evidence_due_at: Mapped[datetime | None] = mapped_column(default=None)
    taken_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    fee_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    withheld_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    unsettled_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    lost_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    evidence_call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.external_call.id"), default=None
    )
    answered_at: Mapped[datetime | None] = mapped_column(default=None)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)


class PlatformPayout(Base, kw_only=True):
    """Money of our own on its way to our bank; its id is the planned call's subject."""

    __tablename__ = "platform_payout"
    __table_args__ = (
        one_of("state", PlatformPayoutState),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    currency: Mapped[str]
    amount_minor: Mapped[int]
    planned_at: Mapped[datetime]
    planned_by: Mapped[UUID]
    call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.external_call.id"), default=None
    )
    state: Mapped[PlatformPayoutState] = mapped_column(Text, default=PlatformPayoutState.PLANNED)
    stripe_id: Mapped[str | None] = mapped_column(unique=True, default=None)
    failure_text: Mapped[str | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class Recovery(Base, kw_only=True):
    """What an expert has to give back after a decided case, and how much of it came back how.

    Units: minor units of `currency`.
    """

    __tablename__ = "recovery"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint(
            "recovered_minor >= 0 and written_off_minor >= 0"
            " and recovered_minor + written_off_minor <= amount_minor",
            name="parts",
        ),
        Index(None, "owner_id", "decided_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    case_id: Mapped[UUID] = mapped_column(unique=True)
    owner_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    reason: Mapped[str]
    decided_by: Mapped[UUID]
    decided_at: Mapped[datetime]
    recovered_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    written_off_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)


class Conversion(Base, kw_only=True):
    """A transfer that arrived in another currency: both sums, and the rate as whoever says it says.

    `back_minor` is what reversals took from the expert's balance again, all of it at the most, and
    `lost_minor` what of it did not reach ours; below zero it is a gain.

    Units: minor units of `to_currency`, but of `from_currency` for `from_minor` and `lost_minor`;
    the rate is what one unit of the one is worth in the other.
    """

    __tablename__ = "conversion"
    __table_args__ = (
        CheckConstraint("from_currency <> to_currency", name="currencies"),
        CheckConstraint("from_minor > 0 and to_minor > 0", name="amounts"),
        CheckConstraint("rate_numerator > 0 and rate_denominator > 0", name="rate"),
        CheckConstraint("back_minor between 0 and to_minor", name="back"),
        CheckConstraint("source in ('stripe')", name="source"),
        Index(None, "payout_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    transfer_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.transfer.id"), unique=True)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.payout.id"))
    owner_id: Mapped[UUID]
    from_currency: Mapped[str]
    from_minor: Mapped[int]
    to_currency: Mapped[str]
    to_minor: Mapped[int]
    rate_numerator: Mapped[int]
    rate_denominator: Mapped[int]
    source: Mapped[str]
    line_id: Mapped[str] = mapped_column(unique=True)
    converted_at: Mapped[datetime]
    booked_at: Mapped[datetime]
    back_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    lost_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
