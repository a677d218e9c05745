"""The table of qualifications."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.qualifications.rules import QUALIFICATION, RUNNING


class Qualification(Base):
    """One test of one person: in a domain, or to review at a level. A retake is a row of its own.

    Its time is paid at the rate that was published when it was invited to, or it says why not.

    Units: scores in per cent; `pay_minor_per_hour` minor units of `pay_currency`.
    """

    __tablename__ = "qualification"
    __table_args__ = (
        CheckConstraint(f"state in {QUALIFICATION.states}", name="state"),
        CheckConstraint("(domain is null) <> (review_level is null)", name="subject"),
        CheckConstraint("review_level between 2 and 6", name="review_level"),
        CheckConstraint("score between 0 and 100 and pass_score between 1 and 100", name="scores"),
        CheckConstraint(
            "score is not null or state in ('invited', 'in_progress', 'expired')", name="graded"
        ),
        # What is taken away says why, and on what evidence.
        CheckConstraint(
            "state <> 'revoked' or (reason_code is not null and length(btrim(note)) >= 40"
            " and cardinality(evidence) > 0)",
            name="revoked",
        ),
        CheckConstraint(
            "(pay_minor_per_hour is null or unpaid_reason is null) and pay_minor_per_hour > 0"
            " and (pay_minor_per_hour is null) = (pay_currency is null)"
            " and length(btrim(unpaid_reason)) >= 10",
            name="pay",
        ),
        Index(
            "uq_qualification_running",
            "person_id",
            "domain",
            "review_level",
            unique=True,
            postgresql_where=text(f"state in {RUNNING}"),
            postgresql_nulls_not_distinct=True,
        ),
        Index(
            "ix_qualification_ends_at",
            "ends_at",
            postgresql_where=text("state in ('invited', 'in_progress', 'granted')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    pass_score: Mapped[int] = mapped_column(SmallInteger)
    invited_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """When the invitation, the test or the qualification itself runs out."""
    domain: Mapped[str | None] = mapped_column(default=None)
    review_level: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    invited_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="invited")
    score: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    begun_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    reason_code: Mapped[str | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)
    evidence: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    pay_minor_per_hour: Mapped[int | None] = mapped_column(default=None)
    pay_currency: Mapped[str | None] = mapped_column(default=None)
    unpaid_reason: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class SittingRate(Base):
    """What the time of a test is paid with, from a moment on; rows are only added.

    Units: minor units of `currency` an hour.
    """

    __tablename__ = "sitting_rate"
    __table_args__ = (
        CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        Index("ix_sitting_rate_starts_at", "starts_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    rate_minor_per_hour: Mapped[int]
    currency: Mapped[str]
    starts_at: Mapped[datetime]
    note: Mapped[str]
    set_by: Mapped[UUID | None] = mapped_column(default=None)
