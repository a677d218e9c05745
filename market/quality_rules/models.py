"""Tables of quality rules, of their simulations, and of whom they hit."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id
from market.quality_rules.rules import QUALITY_RULE


class QualityRule(Base):
    """One version of a rule: its terms, who answers for it, and how long it may stand.

    Its terms never change; a change is a new `number` under the same name, and what was in force
    before retires when that one starts.
    """

    __tablename__ = "quality_rule"
    __table_args__ = (
        UniqueConstraint("name", "number"),
        CheckConstraint(f"state in {QUALITY_RULE.states}", name="state"),
        CheckConstraint("expires_at > made_at", name="expires_at"),
        Index(
            "uq_quality_rule_in_force",
            "name",
            unique=True,
            postgresql_where=text("state = 'in_force'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    number: Mapped[int]
    terms: Mapped[Json]
    expression: Mapped[Json]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    made_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    started_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="drafted")
    version: Mapped[int] = mapped_column(default=1)


class RuleSimulation(Base):
    """What one version of a rule would have done on a stretch of history; rows are only added.

    `hits` names the people, with what was known then and what came later. Units: `wrong` of
        `judged` people were hit though their later work was as good as everybody's; `low` and
        `high` the 95 % interval of that share; `usual` a share.
    """

    __tablename__ = "rule_simulation"
    __table_args__ = (Index("ix_rule_simulation_rule_id", "rule_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    rule_id: Mapped[UUID] = mapped_column(ForeignKey("market.quality_rule.id"))
    at: Mapped[datetime]
    since: Mapped[datetime]
    until: Mapped[datetime]
    looks: Mapped[int]
    people: Mapped[int]
    judged: Mapped[int]
    wrong: Mapped[int]
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    hits: Mapped[Json]
    usual: Mapped[float | None] = mapped_column(Double, default=None)
    by: Mapped[UUID | None] = mapped_column(default=None)


class RuleFiring(Base):
    """A rule that held for somebody: what was known, and the step of standing it led to, if any.

    Rows are only added.
    """

    __tablename__ = "rule_firing"
    __table_args__ = (Index("ix_rule_firing_expert_id", "expert_id", "rule_id", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    rule_id: Mapped[UUID] = mapped_column(ForeignKey("market.quality_rule.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"))
    at: Mapped[datetime]
    known: Mapped[Json]
    told: Mapped[str]
    measure_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.measure.id"), default=None)
