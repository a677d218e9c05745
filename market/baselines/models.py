"""Tables of baselines: evaluation sets, their items, answers of people and models, and results."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.baselines.rules import MODEL_STATES, STANDINGS
from market.db import Base, new_id


class EvalSet(Base, kw_only=True):
    """Items that experts and a target model answer under the same rules; never work to train on.

    Units: `limit_s` seconds an item; `complexity` 1 to 10.
    """

    __tablename__ = "eval_set"
    __table_args__ = (
        CheckConstraint(f"model_state in {MODEL_STATES}", name="model_state"),
        CheckConstraint("complexity between 1 and 10 and limit_s > 0", name="terms"),
        CheckConstraint("experts between 3 and 50 and items between 20 and 500", name="sizes"),
        Index("ix_eval_set_project_id", "project_id", "id"),
        Index("ix_eval_set_domain", "domain", "target_model_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    name: Mapped[str]
    domain: Mapped[str]
    complexity: Mapped[int] = mapped_column(SmallInteger)
    limit_s: Mapped[int]
    experts: Mapped[int] = mapped_column(SmallInteger)
    items: Mapped[int]
    created_at: Mapped[datetime]
    created_by: Mapped[UUID]
    model_state: Mapped[str] = mapped_column(default="asking")
    failure: Mapped[str | None] = mapped_column(default=None)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class EvalItem(Base, kw_only=True):
    """One item of a set, with the answers that are right."""

    __tablename__ = "eval_item"
    __table_args__ = (UniqueConstraint("set_id", "number"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    set_id: Mapped[UUID] = mapped_column(ForeignKey("market.eval_set.id"))
    number: Mapped[int]
    prompt: Mapped[str]
    choices: Mapped[list[str]] = mapped_column(ARRAY(Text))
    key: Mapped[list[str]] = mapped_column(ARRAY(Text))


class EvalAnswer(Base, kw_only=True):
    """What one expert, or the model (nobody), answered to an item; each is put once.

    A missing answer counts as wrong once its time is over.
    """

    __tablename__ = "eval_answer"
    __table_args__ = (
        UniqueConstraint("item_id", "person_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("(closed_at is null) = (is_right is null)", name="closed"),
        Index("ix_eval_answer_set_id", "set_id", "person_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    set_id: Mapped[UUID] = mapped_column(ForeignKey("market.eval_set.id"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.eval_item.id"))
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"))
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime]
    answer: Mapped[str | None] = mapped_column(default=None)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    is_right: Mapped[bool | None] = mapped_column(default=None)


class BaselineResult(Base, kw_only=True):
    """How people and the model stood when somebody had finished; rows are only added.

    Units: shares of right answers, with intervals of nine tenths; `best_chance` the probability
        that the best expert is better than the model.
    """

    __tablename__ = "baseline_result"
    __table_args__ = (
        CheckConstraint(f"standing in {STANDINGS}", name="standing"),
        Index("ix_baseline_result_set_id", "set_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    set_id: Mapped[UUID] = mapped_column(ForeignKey("market.eval_set.id"))
    at: Mapped[datetime]
    people: Mapped[int]
    human: Mapped[float] = mapped_column(Double)
    human_low: Mapped[float] = mapped_column(Double)
    human_high: Mapped[float] = mapped_column(Double)
    model: Mapped[float] = mapped_column(Double)
    model_low: Mapped[float] = mapped_column(Double)
    model_high: Mapped[float] = mapped_column(Double)
    best_chance: Mapped[float] = mapped_column(Double)
    standing: Mapped[str]
    proposal: Mapped[str | None] = mapped_column(default=None)
    proposed_complexity: Mapped[int | None] = mapped_column(SmallInteger, default=None)
