"""The table of re-grades."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.regrades.rules import EFFECTS
from market.sittings.rules import RESULTS


class Regrade(Base):
    """One time that a sitting was graded again: why, from what to what. Rows are only ever added.

    Units: means and sds in ability standard deviations, scores in per cent.
    """

    __tablename__ = "regrade"
    __table_args__ = (
        UniqueConstraint("sitting_id", "item_id", "reason"),
        Index("ix_regrade_sitting_id", "sitting_id", "id"),
        CheckConstraint(f"effect in {EFFECTS}", name="effect"),
        CheckConstraint(f"result_before in {RESULTS}", name="result_before"),
        CheckConstraint(f"result_after in {RESULTS}", name="result_after"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    sitting_id: Mapped[UUID] = mapped_column(ForeignKey("market.sitting.id"))
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("market.bank_item.id"))
    reason: Mapped[str]
    at: Mapped[datetime]
    mean_before: Mapped[float] = mapped_column(Double)
    sd_before: Mapped[float] = mapped_column(Double)
    score_before: Mapped[int] = mapped_column(SmallInteger)
    result_before: Mapped[str]
    mean_after: Mapped[float] = mapped_column(Double)
    sd_after: Mapped[float] = mapped_column(Double)
    score_after: Mapped[int] = mapped_column(SmallInteger)
    result_after: Mapped[str]
    effect: Mapped[str]
