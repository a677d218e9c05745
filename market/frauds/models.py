"""The table of cases of fraud."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.frauds.rules import FRAUD_CASE


class FraudCase(Base, kw_only=True):
    """The claim that accepted work is a fraud, its author's answer, the decision and its appeal.

    Units: minor units of `currency`; what an upheld case took back.
    """

    __tablename__ = "fraud_case"
    __table_args__ = (
        CheckConstraint(f"state in {FRAUD_CASE.states}", name="state"),
        CheckConstraint("length(btrim(reason)) >= 40", name="reason"),
        # Nobody decides its own case, and nobody an appeal against its own decision.
        CheckConstraint("decided_by is distinct from opened_by", name="two_people"),
        CheckConstraint("final_by <> opened_by and final_by <> decided_by", name="third_person"),
        CheckConstraint("(state = 'opened') = (decided_by is null)", name="decided"),
        CheckConstraint("state <> 'appealed' or appeal_due_at is not null", name="appeal_due_at"),
        CheckConstraint("state <> 'final' or final_by is not null", name="final_by"),
        CheckConstraint("pay_minor >= 0 and fee_minor >= 0", name="amounts"),
        Index("ix_fraud_case_expert_id", "expert_id", "id"),
        Index(
            "uq_fraud_case_submission_id",
            "submission_id",
            unique=True,
            postgresql_where=text("state not in ('dismissed', 'overturned')"),
        ),
        Index(
            "ix_fraud_case_appeal_due_at",
            "appeal_due_at",
            postgresql_where=text("state = 'appealed'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    submission_id: Mapped[UUID] = mapped_column(ForeignKey("market.submission.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    reason: Mapped[str]
    evidence: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    opened_by: Mapped[UUID]
    opened_at: Mapped[datetime]
    answer_by: Mapped[datetime]
    currency: Mapped[str]
    state: Mapped[str] = mapped_column(default="opened")
    answer: Mapped[str | None] = mapped_column(default=None)
    answered_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decision: Mapped[str | None] = mapped_column(default=None)
    pay_minor: Mapped[int] = mapped_column(default=0)
    fee_minor: Mapped[int] = mapped_column(default=0)
    appeal: Mapped[str | None] = mapped_column(default=None)
    appealed_at: Mapped[datetime | None] = mapped_column(default=None)
    appeal_due_at: Mapped[datetime | None] = mapped_column(default=None)
    final_by: Mapped[UUID | None] = mapped_column(default=None)
    final_at: Mapped[datetime | None] = mapped_column(default=None)
    final_note: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
