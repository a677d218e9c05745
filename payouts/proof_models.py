"""The tables of reconciliation: Stripe's lines as they came, what does not match, the proofs."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from payouts.models import Base, one_of


class BreakKind(StrEnum):
    """In what way Stripe and the books do not say the same."""

    OURS_NOT_THEIRS = "ours_not_theirs"
    THEIRS_NOT_OURS = "theirs_not_ours"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    TWICE = "twice"
    BALANCE_DIFFERS = "balance_differs"


class Resolution(StrEnum):
    """How a break ended."""

    WENT_AWAY = "went_away"
    EXPLAINED = "explained"
    SUSPENSE = "suspense"


class StripeLine(Base, kw_only=True):
    """One line of a balance at Stripe, stored once and never changed.

    `place` is `platform` or the owner of the connected account; `reference` is what our own entry
    about the same movement is found by.
    """

    __tablename__ = "stripe_line"
    __table_args__ = (Index(None, "place", "reference"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str]
    type: Mapped[str]
    category: Mapped[str]
    amount_minor: Mapped[int]
    fee_minor: Mapped[int]
    net_minor: Mapped[int]
    currency: Mapped[str]
    source_id: Mapped[str | None]
    reference: Mapped[str]
    created_at: Mapped[datetime]
    pulled_at: Mapped[datetime]
    exchange_rate: Mapped[str | None] = mapped_column(default=None)
    """Stripe's rate as a decimal, where it changed the currency."""


class PullMark(Base, kw_only=True):
    """Up to when the lines of one balance at Stripe, or our own events there, have been pulled."""

    __tablename__ = "pull_mark"

    place: Mapped[str] = mapped_column(primary_key=True)
    pulled_until: Mapped[datetime]


class Break(Base, kw_only=True):
    """Something that Stripe and the books say differently, until it is explained.

    Units: minor units of `currency`; both sides are signed, positive for money that arrived.
    """

    __tablename__ = "reconciliation_break"
    __table_args__ = (
        one_of("kind", BreakKind),
        Index(
            "uq_reconciliation_break_open",
            "place",
            "currency",
            "reference",
            unique=True,
            postgresql_where=text("resolved_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    place: Mapped[str]
    currency: Mapped[str]
    reference: Mapped[str]
    kind: Mapped[BreakKind] = mapped_column(Text)
    ours_minor: Mapped[int]
    theirs_minor: Mapped[int]
    found_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    assigned_to: Mapped[UUID | None] = mapped_column(default=None)
    resolved_at: Mapped[datetime | None] = mapped_column(default=None)
    resolution: Mapped[str | None] = mapped_column(default=None)
    resolved_by: Mapped[UUID | None] = mapped_column(default=None)
    note: Mapped[str] = mapped_column(server_default="", default="")


class Proof(Base, kw_only=True):
    """A published statement about the books on one day, which names the one before by its hash.

    `document` is the exact text that `digest` is the SHA-256 of. Its entries are the links of the
    hash chain from `first_link` to `last_link`, under the Merkle root in the document.
    """

    __tablename__ = "proof"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    first_link: Mapped[int]
    last_link: Mapped[int]
    document: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
