"""The table of cohorts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class CohortRow(Base):
    """One version of a saved expression about experts; the newest of a name counts."""

    __tablename__ = "cohort"
    __table_args__ = (
        UniqueConstraint("organisation_id", "name", "version"),
        CheckConstraint("version > 0", name="version"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    name: Mapped[str]
    version: Mapped[int]
    expression: Mapped[Json]
    saved_at: Mapped[datetime]
    saved_by: Mapped[UUID | None] = mapped_column(default=None)
