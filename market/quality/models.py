"""Tables of what is believed of submissions and of their reviewers."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class ItemBelief(Base):
    """How surely a submission holds, by its votes and by how reliable those who cast them are.

    Units: `belief` a probability.
    """

    __tablename__ = "item_belief"
    __table_args__ = (CheckConstraint("belief between 0 and 1", name="belief"),)

    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    project_id: Mapped[UUID]
    domain: Mapped[str]
    is_open: Mapped[bool] = mapped_column(Boolean)
    """Whether the question is one of judgement, on which people may honestly differ."""
    belief: Mapped[float] = mapped_column(Double)
    votes: Mapped[int]
    at: Mapped[datetime]


class VoteMerit(Base):
    """What one vote says for or against whoever cast it; each vote counts once.

    Units: `right` the probability that the vote was right, null where nothing measures it.
    """

    __tablename__ = "vote_merit"
    __table_args__ = (Index("ix_vote_merit_reviewer_id", "reviewer_id", "domain"),)

    review_id: Mapped[UUID] = mapped_column(ForeignKey("market.review.id"), primary_key=True)
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    domain: Mapped[str]
    is_open: Mapped[bool]
    merit: Mapped[float] = mapped_column(Double)
    right: Mapped[float | None] = mapped_column(Double)
    at: Mapped[datetime]


class ReviewerReliability(Base):
    """How often a reviewer is right in a domain, with a 90 % interval.

    Units: `votes`, how many the figure rests on.
    """

    __tablename__ = "reviewer_reliability"
    __table_args__ = (CheckConstraint("low <= high", name="low"),)

    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    accuracy: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    votes: Mapped[int]
    at: Mapped[datetime]


class FrontierState(Base, kw_only=True):
    """What a level's alarm goes on from: all up to `seq` of the log is in `state`, as
    `FrontierTracker.kept` has it; an empty one begins with the next outcome.
    """

    __tablename__ = "frontier_state"

    domain: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    target_model_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.target_model.id"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[list[float]] = mapped_column(ARRAY(Double))


class FrontierAlarm(Base):
    """A level of a domain that ran dry against a target model, and what is proposed instead.

    What comes after it is a new opening. Units: rates shares of claims handed in; levels steps of
        complexity from nought; `productive` experts, with an 80 % interval.
    """

    __tablename__ = "frontier_alarm"
    __table_args__ = (
        Index("ix_frontier_alarm_cell", "domain", "level", "target_model_id", "seq"),
        CheckConstraint("low <= high", name="low"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    seq: Mapped[int] = mapped_column(ForeignKey("market.observation.seq"), unique=True)
    domain: Mapped[str]
    level: Mapped[int] = mapped_column(SmallInteger)
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    at: Mapped[datetime]
    rate: Mapped[float] = mapped_column(Double)
    opening: Mapped[float] = mapped_column(Double)
    evidence: Mapped[float] = mapped_column(Double)
    productive: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    reason: Mapped[str]
    proposed_level: Mapped[int | None] = mapped_column(SmallInteger, default=None)
