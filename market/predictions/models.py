"""Tables of the stump model: its versions, which one is in force, what it learned, what it says."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.predictions.rules import FIT_STATES, KINDS


class StumpVersion(Base):
    """One fit of the stump model: its bytes, and the last observation that the fit has seen.

    Rows are only ever added, so that what was once predicted can be computed again.
    Units: `seconds` of fitting.
    """

    __tablename__ = "stump_version"
    __table_args__ = (CheckConstraint("digest = sha256(content)", name="digest"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    fitted_at: Mapped[datetime]
    rows: Mapped[int]
    through: Mapped[int]
    seconds: Mapped[float] = mapped_column(Double)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class StumpPresent(Base):
    """Which version is in force: one row, whose change is the swap.

    `epoch` rises when something that was learned since the fit turned out otherwise, so that
    whoever holds the model learns again from the version on.
    """

    __tablename__ = "stump_present"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)

    version_id: Mapped[UUID] = mapped_column(ForeignKey("market.stump_version.id"))
    since: Mapped[datetime]
    epoch: Mapped[int] = mapped_column(default=0)
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, default=1)


class StumpFit(Base):
    """One refit that was asked for; at most one is under way."""

    __tablename__ = "stump_fit"
    __table_args__ = (
        CheckConstraint(f"state in {FIT_STATES}", name="state"),
        Index(
            "uq_stump_fit_open",
            text("(true)"),
            unique=True,
            postgresql_where=text("ended_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    requested_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="waiting")
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    version_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.stump_version.id"), default=None
    )


class Observation(Base):
    """One outcome as the stump model learned it, in the order in which it did, and what the model
    said of it before; or what was found of a new target model.

    Units: outcomes 0 to 1, null where not reached; predicted probabilities, `predicted_sd` in
        logits of a stump; effect and variance, of a target model, in logits and their square.
    """

    __tablename__ = "observation"
    __table_args__ = (
        UniqueConstraint("kind", "subject_id", "version"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint("level between 0 and 9", name="level"),
        CheckConstraint("start between 0 and 1", name="start"),
        CheckConstraint("fooled between 0 and 1", name="fooled"),
        CheckConstraint("valid between 0 and 1", name="valid"),
        Index("ix_observation_expert_id", "expert_id", "seq"),
        Index("ix_observation_cell", "domain", "level", "target_model_id", "seq"),
        Index("ix_observation_task_id", "task_id"),
        Index("ix_observation_project_id", "project_id", "seq"),
    )

    seq: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True, init=False
    )
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    version: Mapped[int]
    at: Mapped[datetime]
    observed_at: Mapped[datetime]
    project_id: Mapped[UUID | None] = mapped_column(default=None)
    task_id: Mapped[UUID | None] = mapped_column(default=None)
    expert_id: Mapped[UUID | None] = mapped_column(default=None)
    domain: Mapped[str | None] = mapped_column(default=None)
    target_model_id: Mapped[UUID | None] = mapped_column(default=None)
    level: Mapped[int] = mapped_column(SmallInteger, default=0)
    start: Mapped[float | None] = mapped_column(Double, default=None)
    fooled: Mapped[float | None] = mapped_column(Double, default=None)
    valid: Mapped[float | None] = mapped_column(Double, default=None)
    valid_weight: Mapped[float] = mapped_column(Double, default=1.0)
    years: Mapped[float | None] = mapped_column(Double, default=None)
    qualified: Mapped[float | None] = mapped_column(Double, default=None)
    tested: Mapped[float | None] = mapped_column(Double, default=None)
    version_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.stump_version.id"), default=None
    )
    epoch: Mapped[int | None] = mapped_column(default=None)
    predicted_start: Mapped[float | None] = mapped_column(Double, default=None)
    predicted_fooled: Mapped[float | None] = mapped_column(Double, default=None)
    predicted_valid: Mapped[float | None] = mapped_column(Double, default=None)
    predicted_stump: Mapped[float | None] = mapped_column(Double, default=None)
    predicted_sd: Mapped[float | None] = mapped_column(Double, default=None)
    effect: Mapped[float | None] = mapped_column(Double, default=None)
    variance: Mapped[float | None] = mapped_column(Double, default=None)
    replaced_at: Mapped[datetime | None] = mapped_column(default=None)


class Ability(Base):
    """What is believed of an expert in a domain against a target model, at the middle complexity.

    Units: `logit` and `sd` of the chance that a piece of work handed in is a validated stump;
        `chance`, `low`, `high` that chance with the ends of a 90 % interval.
    """

    __tablename__ = "ability"
    __table_args__ = (
        UniqueConstraint(
            "expert_id", "domain", "target_model_id", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint("sd >= 0 and low <= high", name="sd"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    domain: Mapped[str]
    target_model_id: Mapped[UUID | None]
    logit: Mapped[float] = mapped_column(Double)
    sd: Mapped[float] = mapped_column(Double)
    chance: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    outcomes: Mapped[int]
    version_id: Mapped[UUID] = mapped_column(ForeignKey("market.stump_version.id"))
    through: Mapped[int]
    at: Mapped[datetime]


class Difficulty(Base):
    """What is believed of a task: how surely somebody typical leads its target model astray.

    Units: `logit` and `sd` of that chance.
    """

    __tablename__ = "difficulty"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"), primary_key=True)
    logit: Mapped[float] = mapped_column(Double)
    sd: Mapped[float] = mapped_column(Double)
    outcomes: Mapped[int]
    at: Mapped[datetime]
