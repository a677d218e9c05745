"""Tables of impact: of items, and of experts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Double, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base


class ItemCredit(Base):
    """What one submission was worth to its author, with its parts: their product, 1 plus the lift,
    and the share of the words that no fix changed.

    Units: validity, novelty, edited_share shares; level_weight relative to the lowest level; lift
        relative to none; `signature` least hashes of the text, by which likeness is told.
    """

    __tablename__ = "item_credit"
    __table_args__ = (
        CheckConstraint("validity between 0 and 1 and novelty between 0 and 1", name="parts"),
        CheckConstraint("edited_share between 0 and 0.5", name="edited_share"),
        Index("ix_item_credit_domain", "domain", "decided_at"),
        Index("ix_item_credit_expert_id", "expert_id", "decided_at"),
        Index("ix_item_credit_project_id", "project_id", "decided_at"),
    )

    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    domain: Mapped[str]
    validity: Mapped[float] = mapped_column(Double)
    novelty: Mapped[float] = mapped_column(Double)
    level_weight: Mapped[float] = mapped_column(Double)
    lift: Mapped[float] = mapped_column(Double)
    credit: Mapped[float] = mapped_column(Double)
    like_submission_id: Mapped[UUID | None]
    decided_at: Mapped[datetime]
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    edited_share: Mapped[float] = mapped_column(Double, default=0.0)


class ExpertImpact(Base):
    """An expert's rate of credit in a domain, and the probability to be among the top tenth.

    Units: rate and sd in credit an item; total in credit; `memory` as `ExpertRate.memory` has it.
    """

    __tablename__ = "expert_impact"
    __table_args__ = (CheckConstraint("top between 0 and 1", name="top"),)

    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    items: Mapped[int]
    total: Mapped[float] = mapped_column(Double)
    rate: Mapped[float] = mapped_column(Double)
    sd: Mapped[float] = mapped_column(Double)
    at: Mapped[datetime]
    top: Mapped[float | None] = mapped_column(Double, default=None)
    expected_rank: Mapped[float | None] = mapped_column(Double, default=None)
    call: Mapped[str | None] = mapped_column(default=None)
    memory: Mapped[list[float]] = mapped_column(ARRAY(Double), default_factory=list)


class ImpactState(Base):
    """What the rates of a domain's experts have in common, as `ExpertRate.state` has it; whoever
    changes a rate holds it locked.
    """

    __tablename__ = "impact_state"

    domain: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[list[float]] = mapped_column(ARRAY(Double))
    items: Mapped[int]
