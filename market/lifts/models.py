"""Tables of lift: studies, their batches and items, what was reported, and what it came to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class LiftStudy(Base, kw_only=True):
    """Delivered items of a project dealt into batches at random, to see what training on each does.

    The draw can be made again from `seed` and the items. Units: `common` and `noise`, what an item
        adds on the average and how much a batch's metric varies for nothing, in the metric.
    """

    __tablename__ = "lift_study"
    __table_args__ = (
        CheckConstraint("length(btrim(metric)) between 1 and 200", name="metric"),
        CheckConstraint("batches between 4 and 200 and items > 0", name="sizes"),
        CheckConstraint("(estimated_at is null) = (common is null)", name="estimated"),
        Index("ix_lift_study_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    metric: Mapped[str]
    is_higher_better: Mapped[bool]
    seed: Mapped[int] = mapped_column(BigInteger)
    batches: Mapped[int]
    items: Mapped[int]
    drawn_at: Mapped[datetime]
    drawn_by: Mapped[UUID]
    estimated_at: Mapped[datetime | None] = mapped_column(default=None)
    reports: Mapped[int] = mapped_column(default=0)
    common: Mapped[float | None] = mapped_column(Double, default=None)
    common_sd: Mapped[float | None] = mapped_column(Double, default=None)
    noise: Mapped[float | None] = mapped_column(Double, default=None)
    version: Mapped[int] = mapped_column(default=1)


class LiftBatch(Base, kw_only=True):
    """One batch to train on; number 0 has no items, and tells what comes of training on none."""

    __tablename__ = "lift_batch"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        CheckConstraint("number >= 0 and items >= 0 and (number > 0 or items = 0)", name="items"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    study_id: Mapped[UUID] = mapped_column(ForeignKey("market.lift_study.id"))
    number: Mapped[int]
    items: Mapped[int]


class LiftItem(Base, kw_only=True):
    """The batch that an item was dealt into."""

    __tablename__ = "lift_item"
    __table_args__ = (
        Index("ix_lift_item_submission_id", "submission_id", "study_id"),
        Index("ix_lift_item_study_id", "study_id"),
    )

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("market.lift_batch.id"), primary_key=True)
    submission_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.submission.id"), primary_key=True
    )
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    study_id: Mapped[UUID] = mapped_column(ForeignKey("market.lift_study.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    domain: Mapped[str]
    fix_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.submission_fix.id"), default=None
    )
    """The fix that stood in the place of its author's words when it was dealt."""


class LiftReport(Base, kw_only=True):
    """The metric that a lab found with a batch; a later report of a batch corrects the earlier."""

    __tablename__ = "lift_report"
    __table_args__ = (CheckConstraint("number > 0", name="number"),)

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("market.lift_batch.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    value: Mapped[float] = mapped_column(Double)
    reported_at: Mapped[datetime]
    reported_by: Mapped[UUID]


class LiftEffect(Base, kw_only=True):
    """What the items of one contributor, or of one domain, added; written anew with each report.

    Units: `added` and `added_sd` of one item, in the metric; `relative`, `low` and `high` how much
        more than the average item's, on the scale of that, with nine tenths of belief.
    """

    __tablename__ = "lift_effect"
    __table_args__ = (
        UniqueConstraint("study_id", "expert_id", "domain", postgresql_nulls_not_distinct=True),
        CheckConstraint("(expert_id is null) <> (domain is null)", name="subject"),
        CheckConstraint("low <= relative and relative <= high", name="interval"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    study_id: Mapped[UUID] = mapped_column(ForeignKey("market.lift_study.id"))
    expert_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.person.id"), default=None)
    domain: Mapped[str | None] = mapped_column(default=None)
    items: Mapped[int]
    batches: Mapped[int]
    added: Mapped[float] = mapped_column(Double)
    added_sd: Mapped[float] = mapped_column(Double)
    relative: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
