"""Tables of review plans and of what was drawn under them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json
from market.review_plans.rules import AUTHORITIES


class ReviewPlan(Base):
    """One version of how a project's work is reviewed; rows are only ever added."""

    __tablename__ = "review_plan"
    __table_args__ = (CheckConstraint("version > 0", name="version"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    document: Mapped[Json]
    at: Mapped[datetime]
    actor_id: Mapped[UUID | None] = mapped_column(default=None)


class ReviewDraw(Base):
    """How it was decided whether a submission goes to a level of review; rows are only ever added.

    `plan_version` 0 is the plan of a project that has none. `rule` counts the plan's rules from 0,
    null where none held. `votes` is how many are asked for, 0 where none are. `authority` is who
    could accept by that plan, and `unmet` what of its checklist the work did not meet, in words.
    """

    __tablename__ = "review_draw"
    __table_args__ = (
        CheckConstraint("draw >= 0 and draw < 1", name="draw"),
        CheckConstraint("rate between 0 and 1", name="rate"),
        CheckConstraint("votes between 0 and 15", name="votes"),
        CheckConstraint(f"authority in {AUTHORITIES}", name="authority"),
    )

    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    round: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    organisation_id: Mapped[UUID]
    project_id: Mapped[UUID]
    plan_version: Mapped[int]
    votes: Mapped[int] = mapped_column(SmallInteger)
    rate: Mapped[float] = mapped_column(Double)
    draw: Mapped[float] = mapped_column(Double)
    is_control: Mapped[bool]
    at: Mapped[datetime]
    rule: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    decided: Mapped[int] = mapped_column(default=0)
    accepted: Mapped[int] = mapped_column(default=0)
    low: Mapped[float] = mapped_column(Double, default=0.0)
    authority: Mapped[str | None] = mapped_column(default=None)
    unmet: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
