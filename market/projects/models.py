"""Tables of projects and of the models that they test."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.experts.rules import LEVELS
from market.projects.rules import PAY_BASES, PROJECT, UNEDITED


class TargetModel(Base):
    """A model that a lab wants defeated, and how to ask it; its key is sealed.

    Units: prices and cost in minor units of USD, prices for a million tokens; `timeout_s` seconds;
    `samples` answers asked for each prompt.
    """

    __tablename__ = "target_model"
    __table_args__ = (
        UniqueConstraint("id", "organisation_id"),
        Index("ix_target_model_organisation_id", "organisation_id", "id"),
        CheckConstraint("timeout_s between 1 and 600", name="timeout_s"),
        CheckConstraint("max_tokens between 1 and 1000000", name="max_tokens"),
        CheckConstraint("samples between 1 and 32", name="samples"),
        CheckConstraint("price_in_minor >= 0 and price_out_minor >= 0", name="prices"),
        CheckConstraint("cost_cap_minor >= 0", name="cost_cap_minor"),
        CheckConstraint("spent_minor >= 0", name="spent_minor"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    name: Mapped[str]
    base_url: Mapped[str]
    model: Mapped[str]
    sealed_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    timeout_s: Mapped[int] = mapped_column(default=60)
    max_tokens: Mapped[int] = mapped_column(default=1024)
    samples: Mapped[int] = mapped_column(default=1)
    price_in_minor: Mapped[Decimal] = mapped_column(Numeric(20, 6), default=Decimal(0))
    price_out_minor: Mapped[Decimal] = mapped_column(Numeric(20, 6), default=Decimal(0))
    cost_cap_minor: Mapped[int] = mapped_column(default=0)
    spent_minor: Mapped[Decimal] = mapped_column(Numeric(20, 6), default=Decimal(0))
    version: Mapped[int] = mapped_column(default=1)


class Project(Base):
    """What a lab wants done, what it pays, and how far it is.

    An hourly contract pays time at the rate, and `deliverable_minor` on top for accepted work, if
    it names one. A contract by deliverable pays that amount for accepted work; its rate is the
    floor that recorded time is topped up to. Either pays `attempt_fee_minor` for each honest
    attempt at the target model, up to `attempt_fees_max` of them a task, whatever came of it, and
    `impact_bonus_minor` for a stump on top of everything.
    Trials of higher pay touch it up to the raise that its lab allows, and none where that is 0.

    Units: names ending in `_s` are seconds; the rate is minor units of `currency` an hour, null for
    the rate of each expert's own pay tier; fee and raise are in hundredths of a per cent.
    """

    __tablename__ = "project"
    __table_args__ = (
        UniqueConstraint("id", "organisation_id"),
        ForeignKeyConstraint(
            ["target_model_id", "organisation_id"],
            ["market.target_model.id", "market.target_model.organisation_id"],
        ),
        Index("ix_project_organisation_id", "organisation_id", "id"),
        Index("ix_project_state", "state"),
        CheckConstraint(f"state in {PROJECT.states}", name="state"),
        CheckConstraint(f"minimum_level in {LEVELS}", name="minimum_level"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        CheckConstraint("fee_basis_points between 0 and 10000", name="fee_basis_points"),
        CheckConstraint("answers_per_task between 1 and 100", name="answers_per_task"),
        CheckConstraint("reviews_per_submission between 1 and 15", name="reviews_per_submission"),
        CheckConstraint(
            "least(cap_s, offer_ttl_s, work_ttl_s, review_ttl_s) > 0", name="durations"
        ),
        CheckConstraint("round > 0", name="round"),
        CheckConstraint(f"pay_basis in {PAY_BASES}", name="pay_basis"),
        CheckConstraint("deliverable_minor > 0", name="deliverable"),
        CheckConstraint(
            "(attempt_fee_minor is null and attempt_fees_max = 0)"
            " or (attempt_fee_minor > 0 and attempt_fees_max between 1 and 200)",
            name="attempt_fee",
        ),
        CheckConstraint("impact_bonus_minor > 0", name="impact_bonus"),
        CheckConstraint("weekly_cap_s > 0", name="weekly_cap_s"),
        CheckConstraint(
            "(overtime_after_s is null and overtime_basis_points is null)"
            " or (overtime_after_s > 0 and overtime_basis_points between 10001 and 30000"
            " and pay_basis = 'hourly')",
            name="overtime",
        ),
        CheckConstraint("budget_warned in ('low', 'exhausted')", name="budget_warned"),
        CheckConstraint("trial_raise_basis_points between 0 and 10000", name="trial_raise"),
        CheckConstraint("stump_rule in ('target', 'any', 'all')", name="stump_rule"),
        CheckConstraint(f"unedited_drafts in {UNEDITED}", name="unedited_drafts"),
        CheckConstraint("char_length(draft_field) between 1 and 100", name="draft_field"),
        CheckConstraint(
            "pay_basis = 'hourly'"
            " or (deliverable_minor is not null and rate_minor_per_hour is not null)",
            name="basis",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    name: Mapped[str]
    created_at: Mapped[datetime]
    fee_basis_points: Mapped[int]
    brief: Mapped[str] = mapped_column(default="")
    domains: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    state: Mapped[str] = mapped_column(default="draft")
    currency: Mapped[str] = mapped_column(default="USD")
    rate_minor_per_hour: Mapped[int | None] = mapped_column(default=None)
    cap_s: Mapped[int] = mapped_column(default=4 * 3600)
    answers_per_task: Mapped[int] = mapped_column(default=1)
    reviews_per_submission: Mapped[int] = mapped_column(default=3)
    offer_ttl_s: Mapped[int] = mapped_column(default=24 * 3600)
    work_ttl_s: Mapped[int] = mapped_column(default=72 * 3600)
    review_ttl_s: Mapped[int] = mapped_column(default=7 * 24 * 3600)
    minimum_level: Mapped[str] = mapped_column(default="claimed")
    target_model_id: Mapped[UUID | None] = mapped_column(default=None)
    policy_id: Mapped[UUID | None] = mapped_column(default=None)
    require_interest: Mapped[bool] = mapped_column(default=False)
    round: Mapped[int] = mapped_column(default=1)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    pay_basis: Mapped[str] = mapped_column(default="hourly")
    deliverable_minor: Mapped[int | None] = mapped_column(default=None)
    attempt_fee_minor: Mapped[int | None] = mapped_column(default=None)
    attempt_fees_max: Mapped[int] = mapped_column(default=0)
    impact_bonus_minor: Mapped[int | None] = mapped_column(default=None)
    """What a stump pays on top, promised with the work and reserved with it."""
    weekly_cap_s: Mapped[int | None] = mapped_column(default=None)
    overtime_after_s: Mapped[int | None] = mapped_column(default=None)
    """Beyond how much paid time a week the lab consents to overtime; to none, where it is null."""
    overtime_basis_points: Mapped[int | None] = mapped_column(default=None)
    """What overtime is paid at, in hundredths of a per cent of the rate."""
    trial_raise_basis_points: Mapped[int] = mapped_column(default=0)
    stump_rule: Mapped[str] = mapped_column(default="target")
    """Which models of its panel a stump must defeat."""
    unedited_drafts: Mapped[str] = mapped_column(default="allowed")
    """What becomes of a draft that comes back as it was given: taken, marked, or refused."""
    draft_field: Mapped[str | None] = mapped_column(default=None)
    """The field of its tasks that holds a draft to begin from; null where there is none."""
    passes_drafts: Mapped[bool] = mapped_column(default=False)
    """Whether the next person reads the draft of work that went back; offers say so in terms."""
    budget_warned: Mapped[str | None] = mapped_column(default=None)
    """What its lab was told last of its budget: that it is `low`, or `exhausted`."""
    version: Mapped[int] = mapped_column(default=1)
