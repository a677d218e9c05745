"""Tables of experts, their domains, their pay tiers and what each tier pays."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Computed,
    Double,
    ForeignKey,
    Index,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import (
    INT4MULTIRANGE,
    JSONB,
    TSTZMULTIRANGE,
    TSTZRANGE,
    TSVECTOR,
    ExcludeConstraint,
    Range,
)
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.experts.rules import LEVELS, STANDING, TIERS


class Expert(Base):
    """What a person shows as an expert; `state` is its standing.

    `week` holds the hours in which it works, in minutes from Monday 00:00 on its clock, and is
    empty for an expert who works at any time; `away` is its time off. `opens_at` is when closed
    hours next become open ones. `degrees` holds the highest degree in each domain, and the web
    site of the institution that it is from.
    """

    __tablename__ = "expert"
    __table_args__ = (
        CheckConstraint(f"state in {STANDING.states}", name="state"),
        CheckConstraint("weekly_hours between 0 and 168", name="weekly_hours"),
        CheckConstraint("max_concurrent between 1 and 100", name="max_concurrent"),
        CheckConstraint("jsonb_typeof(degrees) = 'object'", name="degrees"),
        CheckConstraint("week <@ int4range(0, 10080)", name="week"),
        CheckConstraint("not (lower_inf(away) or upper_inf(away))", name="away"),
        Index("ix_expert_opens_at", "opens_at", postgresql_where=text("opens_at is not null")),
        Index("ix_expert_words", "words", postgresql_using="gin"),
    )

    id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    created_at: Mapped[datetime]
    headline: Mapped[str] = mapped_column(default="")
    bio: Mapped[str] = mapped_column(default="")
    country: Mapped[str | None] = mapped_column(default=None)
    timezone: Mapped[str] = mapped_column(default="UTC")
    languages: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    weekly_hours: Mapped[int] = mapped_column(default=20)
    max_concurrent: Mapped[int] = mapped_column(default=3)
    degrees: Mapped[dict[str, dict[str, str]]] = mapped_column(JSONB, default_factory=dict)
    licences: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    week: Mapped[MultiRange[int]] = mapped_column(INT4MULTIRANGE, default_factory=MultiRange)
    away: Mapped[MultiRange[datetime]] = mapped_column(TSTZMULTIRANGE, default_factory=MultiRange)
    opens_at: Mapped[datetime | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="good")
    source: Mapped[str] = mapped_column(default="signup")
    version: Mapped[int] = mapped_column(default=1)
    words: Mapped[str | None] = mapped_column(
        TSVECTOR,
        Computed("to_tsvector('english'::regconfig, headline || ' '::text || bio)", persisted=True),
        init=False,
        repr=False,
        deferred=True,
    )
    """What the profile says, as words to be looked up by; PostgreSQL keeps it."""


class ExpertDomain(Base):
    """A field that an expert says, or has been shown, to know.

    Units: years of practice; `ability` in logits on the domain's scale, null before any evidence.
    """

    __tablename__ = "expert_domain"
    __table_args__ = (
        CheckConstraint(f"level in {LEVELS}", name="level"),
        Index("ix_expert_domain_domain", "domain"),
    )

    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"), primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    years: Mapped[Decimal] = mapped_column(Numeric(4, 1), default=Decimal(0))
    level: Mapped[str] = mapped_column(default="claimed")
    ability: Mapped[float | None] = mapped_column(Double, default=None)


class PayTier(Base):
    """What a pay tier pays in one currency, and when; two rates never hold at once.

    Units: minor units an hour.
    """

    __tablename__ = "pay_tier"
    __table_args__ = (
        CheckConstraint(f"name in {TIERS}", name="name"),
        CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        ExcludeConstraint(
            ("name", "="),
            ("currency", "="),
            ("during", "&&"),
            using="gist",
            name="ex_pay_tier_during",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    currency: Mapped[str]
    rate_minor_per_hour: Mapped[int]
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)


class TierAssignment(Base):
    """On which pay tier an expert stands, when and why; never on two at once.

    A step down is announced; one that was taken back before it began is in force for no time.
    """

    __tablename__ = "tier_assignment"
    __table_args__ = (
        CheckConstraint(f"tier in {TIERS}", name="tier"),
        ExcludeConstraint(
            ("expert_id", "="), ("during", "&&"), using="gist", name="ex_tier_assignment_during"
        ),
        # A step down waits for a Monday, a week after it was announced at the earliest.
        CheckConstraint(
            "announced_at is null or isempty(during)"
            " or (lower(during) >= announced_at + interval '168 hours'"
            " and lower(during) = date_trunc('week', lower(during), 'UTC'))",
            name="announced_at",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"))
    tier: Mapped[str]
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    reason: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
    announced_at: Mapped[datetime | None] = mapped_column(default=None)


class Measure(Base):
    """One step of an expert's standing: why, on what evidence, how far it reaches, and its end.

    `domains` are those that it reaches, none for all: under a limit, no new work is offered in
    them. The expert reads every word of it.
    """

    __tablename__ = "measure"
    __table_args__ = (
        CheckConstraint("step in ('watch', 'limit', 'suspend', 'close')", name="step"),
        # Nobody is shut out without evidence.
        CheckConstraint(
            "step not in ('suspend', 'close') or cardinality(evidence) > 0", name="evidence"
        ),
        CheckConstraint("until > taken_at", name="until"),
        CheckConstraint("(ended_at is null) = (end_reason is null)", name="end_reason"),
        Index("ix_measure_expert_id", "expert_id", "id"),
        Index("ix_measure_until", "until", postgresql_where=text("ended_at is null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"))
    step: Mapped[str]
    reason_code: Mapped[str]
    note: Mapped[str]
    taken_at: Mapped[datetime]
    evidence: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    domains: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    reviews_all: Mapped[bool] = mapped_column(default=False)
    """Whether all that the expert hands in is reviewed, whatever a project's plan would spare."""
    until: Mapped[datetime | None] = mapped_column(default=None)
    taken_by: Mapped[UUID | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_by: Mapped[UUID | None] = mapped_column(default=None)
    end_reason: Mapped[str | None] = mapped_column(default=None)
