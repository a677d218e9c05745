"""Tables of item banks: items, keys, calibrations and flags. Nobody but the platform reads them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.item_banks.rules import DECISIONS, FLAGS, ITEM


class ItemBank(Base):
    """The items of one domain, or of one level of review, and who has sat down to them.

    Whoever locks the row puts an item to somebody, so that exposure is counted in one order.
    """

    __tablename__ = "item_bank"
    __table_args__ = (CheckConstraint("takers >= 0", name="takers"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    takers: Mapped[int] = mapped_column(default=0)


class BankItem(Base):
    """One version of one item. What it says is never changed: another version takes its place.

    Units: `limit_s` to answer it; `slope` and `ease` in logits, `answers` that they rest on.
    """

    __tablename__ = "bank_item"
    __table_args__ = (
        UniqueConstraint("bank_id", "external_id", "item_version"),
        CheckConstraint(f"state in {ITEM.states}", name="state"),
        CheckConstraint("level between 1 and 10", name="level"),
        CheckConstraint("limit_s between 10 and 3600", name="limit_s"),
        CheckConstraint("(slope is null) = (ease is null)", name="calibration"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    bank_id: Mapped[UUID] = mapped_column(ForeignKey("market.item_bank.id"))
    external_id: Mapped[str]
    item_version: Mapped[int]
    prompt: Mapped[str]
    choices: Mapped[list[str]] = mapped_column(ARRAY(Text))
    level: Mapped[int] = mapped_column(SmallInteger)
    topic: Mapped[str]
    limit_s: Mapped[int]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    slope: Mapped[float | None] = mapped_column(Double, default=None)
    ease: Mapped[float | None] = mapped_column(Double, default=None)
    answers: Mapped[int] = mapped_column(default=0)
    shown: Mapped[int] = mapped_column(default=0)
    """To how many takers it was put."""
    state: Mapped[str] = mapped_column(default="active")
    version: Mapped[int] = mapped_column(default=1)


class ItemKey(Base):
    """What the right answers to an item are, from a moment on; rows are only ever added."""

    __tablename__ = "item_key"
    __table_args__ = (CheckConstraint("cardinality(key) > 0", name="key"),)

    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.bank_item.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[list[str]] = mapped_column(ARRAY(Text))
    set_at: Mapped[datetime]
    set_by: Mapped[UUID | None] = mapped_column(default=None)
    note: Mapped[str] = mapped_column(default="")


class Calibration(Base):
    """One fit of a bank, from so many answers; sittings are asked and graded by the one they began
    under. Rows are only ever added.
    """

    __tablename__ = "calibration"
    __table_args__ = (Index("ix_calibration_bank_id", "bank_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    bank_id: Mapped[UUID] = mapped_column(ForeignKey("market.item_bank.id"))
    fitted_at: Mapped[datetime]
    answers: Mapped[int]


class ItemParameter(Base):
    """What a calibration says of one item. Units: slope and ease in logits."""

    __tablename__ = "item_parameter"
    __table_args__ = (
        UniqueConstraint("calibration_id", "item_id"),
        Index("ix_item_parameter_item_id", "item_id", "calibration_id"),
    )

    calibration_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.calibration.id"), primary_key=True
    )
    place: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.bank_item.id"))
    slope: Mapped[float] = mapped_column(Double)
    ease: Mapped[float] = mapped_column(Double)
    answers: Mapped[int]
    share_right: Mapped[float | None] = mapped_column(Double, default=None)
    chance_negative: Mapped[float | None] = mapped_column(Double, default=None)
    """The posterior probability that the able get it wrong more often than the others."""


class ItemFlag(Base):
    """Why an item is to be looked at, and what was decided of it.

    `person_id` is the taker who says that its key is wrong; none where the answers say it.
    """

    __tablename__ = "item_flag"
    __table_args__ = (
        CheckConstraint(f"reason in {FLAGS}", name="reason"),
        CheckConstraint(f"decision in {DECISIONS}", name="decision"),
        CheckConstraint("(decided_at is null) = (decision is null)", name="decided"),
        Index(
            "uq_item_flag_open",
            "item_id",
            "person_id",
            unique=True,
            postgresql_where=text("decided_at is null"),
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.bank_item.id"))
    reason: Mapped[str]
    detail: Mapped[str]
    at: Mapped[datetime]
    answers: Mapped[int]
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    decision: Mapped[str | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)
