"""Tables of alarms: forecasts that went wrong, sets that are alike, who looked; weekly readings."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from market.alarms.rules import KINDS
from market.db import Base, new_id


class DriftAlarm(Base):
    """Predictions for a domain and a target model that no longer agree with what comes.

    What comes after `seq` is watched anew. Units: `expected`, `came` shares of stumps; `evidence`
        an e-value; `outcomes` those since the watch began.
    """

    __tablename__ = "drift_alarm"
    __table_args__ = (UniqueConstraint("domain", "target_model_id", "seq"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    seq: Mapped[int] = mapped_column(ForeignKey("market.observation.seq"))
    domain: Mapped[str]
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    at: Mapped[datetime]
    expected: Mapped[float] = mapped_column(Double)
    came: Mapped[float] = mapped_column(Double)
    evidence: Mapped[float] = mapped_column(Double)
    outcomes: Mapped[int]
    reason: Mapped[str]


class SpreadAlarm(Base, kw_only=True):
    """A project's set, or the part of it that one expert made, that is one item many times; from
    when it was first found so until it was found so no more, and only then can the next one begin.

    Units: `spread` 1 all different to 0 all the same; `copies` near-copies among `items`.
    """

    __tablename__ = "spread_alarm"
    __table_args__ = (
        Index(
            "uq_spread_alarm_open",
            "project_id",
            text("coalesce(expert_id, project_id)"),
            unique=True,
            postgresql_where=text("ended_at is null"),
        ),
        Index("ix_spread_alarm_at", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"))
    flags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    items: Mapped[int]
    copies: Mapped[int]
    spread: Mapped[float] = mapped_column(Double)
    reason: Mapped[str]
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class ReviewerAlarm(Base, kw_only=True):
    """A reviewer who is probably poor where the answer is known: a look is due, and no more than
    that. From when it was first so until it was so no more.

    Units: `right`, `wrong` known answers; `poor` the probability that fewer than the least are
        right.
    """

    __tablename__ = "reviewer_alarm"
    __table_args__ = (
        Index(
            "uq_reviewer_alarm_open",
            "reviewer_id",
            unique=True,
            postgresql_where=text("ended_at is null"),
        ),
        Index("ix_reviewer_alarm_at", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    right: Mapped[int]
    wrong: Mapped[int]
    poor: Mapped[float] = mapped_column(Double)
    reason: Mapped[str]
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class Acknowledgement(Base):
    """Who looked at an alarm, when, and what was found; an alarm is acknowledged once."""

    __tablename__ = "acknowledgement"
    __table_args__ = (CheckConstraint(f"kind in {KINDS}", name="kind"),)

    alarm_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    at: Mapped[datetime]
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    note: Mapped[str] = mapped_column(default="")


class FrontierReading(Base):
    """How a level stood against a target model when it was looked at: each week, and on a release.

    Units: `rate`, `low`, `high`, `opening` shares of claims, the interval 90 %; `productive`
        experts, its interval 80 %; levels steps of complexity from nought.
    """

    __tablename__ = "frontier_reading"
    __table_args__ = (
        UniqueConstraint("slot", "domain", "level", "target_model_id"),
        Index("ix_frontier_reading_cell", "domain", "level", "target_model_id", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    slot: Mapped[str]
    """What asked for it: the week's slot, or the release."""
    domain: Mapped[str]
    level: Mapped[int] = mapped_column(SmallInteger)
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    at: Mapped[datetime]
    claims: Mapped[int]
    rate: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    productive: Mapped[float] = mapped_column(Double)
    productive_low: Mapped[float] = mapped_column(Double)
    productive_high: Mapped[float] = mapped_column(Double)
    reason: Mapped[str]
    opening: Mapped[float | None] = mapped_column(Double, default=None)
    proposed_level: Mapped[int | None] = mapped_column(SmallInteger, default=None)
