"""The table of cases about pay that was wrong."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class RecoveryCase(Base, kw_only=True):
    """The claim that a line of pay was wrong, its expert's answer, and a second person's decision.

    Units: minor units of `currency`.
    """

    __tablename__ = "recovery_case"
    __table_args__ = (
        CheckConstraint("state in ('opened', 'upheld', 'dismissed')", name="state"),
        CheckConstraint("amount_minor > 0 and fee_minor >= 0", name="amounts"),
        CheckConstraint("decided_by is distinct from opened_by", name="two_people"),
        CheckConstraint("(state = 'opened') = (decided_by is null)", name="decided"),
        Index("ix_recovery_case_expert_id", "expert_id"),
        Index(
            "uq_recovery_case_earning_id",
            "earning_id",
            unique=True,
            postgresql_where="state <> 'dismissed'",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    earning_id: Mapped[UUID] = mapped_column(ForeignKey("market.earning.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    amount_minor: Mapped[int]
    fee_minor: Mapped[int]
    currency: Mapped[str]
    reason: Mapped[str]
    opened_by: Mapped[UUID]
    opened_at: Mapped[datetime]
    answer_by: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="opened")
    answer: Mapped[str | None] = mapped_column(default=None)
    answered_at: Mapped[datetime | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decision: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
