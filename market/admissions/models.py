"""Tables of admissions and of the terms under which people are taken on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from market.admissions.rules import ADMISSION
from market.db import Base, new_id


class AdmissionTerms(Base, kw_only=True):
    """Terms of admission from a moment on; rows are only added. Units: as in `rules.Terms`."""

    __tablename__ = "admission_terms"
    __table_args__ = (
        CheckConstraint("load > 0 and load <= 1", name="load"),
        CheckConstraint("(guarantee_s > 0) <> (fee_minor > 0)", name="guarantee"),
        CheckConstraint("budget_minor > 0", name="budget_minor"),
        Index("ix_admission_terms_starts_at", "starts_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    load: Mapped[float] = mapped_column(Double)
    horizon_d: Mapped[int] = mapped_column(SmallInteger)
    within_d: Mapped[int] = mapped_column(SmallInteger)
    guarantee_s: Mapped[int]
    fee_minor: Mapped[int]
    budget_minor: Mapped[int]
    pass_score: Mapped[int] = mapped_column(SmallInteger)
    starts_at: Mapped[datetime]
    note: Mapped[str]
    set_by: Mapped[UUID | None] = mapped_column(default=None)


class Admission(Base, kw_only=True):
    """One person's way into one domain: it waits for room, is admitted, passes its test, and is
    offered work in time or paid what it was promised.

    Units: hours a week; `work_s` and `capacity_s` weekly seconds as they were when it was decided;
        minor units of `currency`.
    """

    __tablename__ = "admission"
    __table_args__ = (
        CheckConstraint(f"state in {ADMISSION.states}", name="state"),
        CheckConstraint(
            "state in ('waiting', 'left') or (decided_at is not null and guarantee_minor > 0"
            " and currency is not null and qualification_id is not null)",
            name="decided",
        ),
        CheckConstraint("decided_by is null or length(btrim(reason)) >= 40", name="reason"),
        CheckConstraint(
            "state not in ('onboarded', 'compensated') or due_at is not null", name="due_at"
        ),
        Index(
            "uq_admission_open",
            "person_id",
            "domain",
            unique=True,
            postgresql_where=text("state in ('waiting', 'admitted', 'onboarded')"),
        ),
        Index("ix_admission_waiting", "domain", "id", postgresql_where=text("state = 'waiting'")),
        Index("ix_admission_person_id", "person_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    domain: Mapped[str]
    weekly_hours: Mapped[int] = mapped_column(SmallInteger)
    asked_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="waiting")
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    """Whoever of ops admitted it out of its turn; none where room decided."""
    reason: Mapped[str | None] = mapped_column(default=None)
    work_s: Mapped[int | None] = mapped_column(default=None)
    capacity_s: Mapped[int | None] = mapped_column(default=None)
    qualification_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.qualification.id"), default=None
    )
    guarantee_minor: Mapped[int | None] = mapped_column(default=None)
    currency: Mapped[str | None] = mapped_column(default=None)
    within_d: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    settled_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
