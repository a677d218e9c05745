"""Tables of experiments: what is compared, who was exposed, and every look at what came of it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Double, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.experiments.rules import EXPERIMENT, KINDS, UNITS


class Experiment(Base):
    """Two ways side by side; `salt` decides who is in which arm, and never changes.
    `scope` is an expression about its units, as it was read before the start.

    Units: `share` of units that are treated.
    """

    __tablename__ = "experiment"
    __table_args__ = (
        CheckConstraint(f"state in {EXPERIMENT.states}", name="state"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint(f"unit in {UNITS}", name="unit"),
        CheckConstraint("share > 0 and share < 1", name="share"),
        CheckConstraint("kind <> 'policy' or treated_policy_id is not null", name="treated"),
        Index(
            "uq_experiment_running", "kind", unique=True, postgresql_where=sql("state = 'running'")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    kind: Mapped[str]
    unit: Mapped[str]
    share: Mapped[float] = mapped_column(Double)
    salt: Mapped[str]
    metric: Mapped[str]
    guardrails: Mapped[list[str]] = mapped_column(ARRAY(Text))
    reason: Mapped[str]
    created_at: Mapped[datetime]
    treatment: Mapped[Json] = mapped_column(default_factory=dict)
    domain: Mapped[str | None] = mapped_column(default=None)
    scope: Mapped[Json | None] = mapped_column(default=None)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    control_policy_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.policy.id"), default=None
    )
    treated_policy_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.policy.id"), default=None
    )
    author_id: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="draft")
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    end_reason: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class Exposure(Base):
    """An assignment that an experiment touched: whose, in which arm, when. Rows are only added."""

    __tablename__ = "experiment_exposure"
    __table_args__ = (
        CheckConstraint("arm in ('control', 'treated')", name="arm"),
        UniqueConstraint("experiment_id", "offer_id"),
        Index("ix_experiment_exposure_offer_id", "offer_id"),
        Index("ix_experiment_exposure_unit_id", "unit_id", "experiment_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("market.experiment.id"))
    offer_id: Mapped[UUID]
    unit_id: Mapped[UUID]
    arm: Mapped[str]
    at: Mapped[datetime]


class UnitPast(Base):
    """What had come of a unit's offers when an experiment began. Rows are only added, at the first
    look: every later one takes the same out of its differences, whatever is corrected meanwhile.

    Units: `outcomes` by metric, the total in its unit and of how many; `predicted` the mean chance
        of a stump as the runs saw it, null where none said.
    """

    __tablename__ = "experiment_past"

    experiment_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.experiment.id"), primary_key=True
    )
    unit_id: Mapped[UUID] = mapped_column(primary_key=True)
    outcomes: Mapped[Json]
    predicted: Mapped[float | None] = mapped_column(Double, default=None)


class ExperimentLook(Base):
    """One look at what came of an experiment, and what it led to. Rows are only added."""

    __tablename__ = "experiment_look"

    experiment_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.experiment.id"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    exposed: Mapped[int]
    decision: Mapped[str]
    reason: Mapped[str]
    effects: Mapped[Json]
