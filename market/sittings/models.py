"""Tables of sittings: what was asked and answered, and what it came to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.sittings.rules import RESULTS, SITTING


class Sitting(Base):
    """One person at one adaptive test, with all that it is asked and graded by.

    Units: prior, mean, sd, low and high in ability standard deviations of the bank, the last four
        with the variance inflated for what a test cannot know, and a 90 % interval; scores in per
        cent of the bank's items; `tested`, what the stump model is told, in the unit of the mean.
    """

    __tablename__ = "sitting"
    __table_args__ = (
        CheckConstraint(f"state in {SITTING.states}", name="state"),
        CheckConstraint(f"result in {RESULTS}", name="result"),
        CheckConstraint("(state = 'open') = (ended_at is null)", name="ended_at"),
        CheckConstraint("state = 'open' or (result is not null and mean is not null)", name="told"),
        Index(
            "uq_sitting_open",
            "qualification_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        Index("ix_sitting_qualification_id", "qualification_id", "id"),
        Index("ix_sitting_person_id", "person_id", "bank_id", "id"),
        Index("ix_sitting_ends_at", "ends_at", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    qualification_id: Mapped[UUID] = mapped_column(ForeignKey("market.qualification.id"))
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    bank_id: Mapped[UUID] = mapped_column(ForeignKey("market.item_bank.id"))
    calibration_id: Mapped[UUID] = mapped_column(ForeignKey("market.calibration.id"))
    number: Mapped[int] = mapped_column(SmallInteger)
    domain: Mapped[str | None]
    pass_score: Mapped[int] = mapped_column(SmallInteger)
    is_pilot: Mapped[bool]
    seed: Mapped[int] = mapped_column(BigInteger)
    rules: Mapped[Json]
    prior_mean: Mapped[float] = mapped_column(Double)
    prior_sd: Mapped[float] = mapped_column(Double)
    begun_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="open")
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    stopped: Mapped[str | None] = mapped_column(default=None)
    scored: Mapped[int] = mapped_column(default=0)
    result: Mapped[str | None] = mapped_column(default=None)
    mean: Mapped[float | None] = mapped_column(Double, default=None)
    sd: Mapped[float | None] = mapped_column(Double, default=None)
    chance_above: Mapped[float | None] = mapped_column(Double, default=None)
    score: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    score_low: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    score_high: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    tested: Mapped[float | None] = mapped_column(Double, default=None)
    version: Mapped[int] = mapped_column(default=1)


class SittingItem(Base):
    """One item put to one person, and what came of it. At most one of a sitting is open.

    `seq`, `takers` and `barred` are what the choice was made from, so that it can be made again:
    what was put before, to how many, and which places of the calibration were out of play.
    `was_right` is the mark that the next choice was made by; `is_right` that of the key now.

    Units: `expected` the chance of a right answer before it was given.
    """

    __tablename__ = "sitting_item"
    __table_args__ = (
        UniqueConstraint("seq"),
        CheckConstraint("(closed_at is null) = (is_right is null)", name="closed"),
        CheckConstraint("(answer is null) = (answered_at is null)", name="answered"),
        Index(
            "uq_sitting_item_open",
            "sitting_id",
            unique=True,
            postgresql_where=text("closed_at is null"),
        ),
        Index("ix_sitting_item_item_id", "item_id", "seq"),
        Index("ix_sitting_item_due_at", "due_at", postgresql_where=text("closed_at is null")),
    )

    sitting_id: Mapped[UUID] = mapped_column(ForeignKey("market.sitting.id"), primary_key=True)
    step: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), init=False)
    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.bank_item.id"))
    is_pretest: Mapped[bool]
    takers: Mapped[int]
    barred: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    expected: Mapped[float] = mapped_column(Double)
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime]
    answer: Mapped[str | None] = mapped_column(default=None)
    answered_at: Mapped[datetime | None] = mapped_column(default=None)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    key_number: Mapped[int | None] = mapped_column(default=None)
    was_right: Mapped[bool | None] = mapped_column(default=None)
    is_right: Mapped[bool | None] = mapped_column(default=None)
