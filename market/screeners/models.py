"""The table of screeners."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base


class Screener(Base, kw_only=True):
    """The codes by which a project's tasks tell an expert that they are not for it, and what that
    pays; each version is kept, since an offer is bound by the one in force when it was made.

    Units: minor units of the project's currency.
    """

    __tablename__ = "screener"
    __table_args__ = (
        CheckConstraint("pay_minor between 0 and 10000", name="pay_minor"),
        CheckConstraint("version > 0", name="version"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    codes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    pay_minor: Mapped[int]
    set_at: Mapped[datetime]
    set_by: Mapped[UUID | None]
