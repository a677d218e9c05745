"""Tables of departures and of countries that are closed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.departures.rules import CAUSES, DEPARTURE


class Departure(Base):
    """An expert leaves; its rows are kept, and one at most has not been called off."""

    __tablename__ = "departure"
    __table_args__ = (
        CheckConstraint(f"state in {DEPARTURE.states}", name="state"),
        CheckConstraint(f"cause in {CAUSES}", name="cause"),
        CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        Index(
            "uq_departure_expert_id",
            "expert_id",
            unique=True,
            postgresql_where=text("state <> 'called_off'"),
        ),
        Index(
            "ix_departure_under_way",
            "id",
            postgresql_where=text("state in ('returning', 'settling', 'paying')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.expert.id"))
    cause: Mapped[str]
    reason: Mapped[str]
    begun_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    begun_by: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="returning")
    version: Mapped[int] = mapped_column(default=1)


class ClosedCountry(Base):
    """A country in which nobody works for us from a moment on, until it is opened again."""

    __tablename__ = "closed_country"
    __table_args__ = (
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        CheckConstraint("(opened_at is null) = (opened_by is null)", name="opened"),
        Index(
            "uq_closed_country_country",
            "country",
            unique=True,
            postgresql_where=text("opened_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    country: Mapped[str]
    reason: Mapped[str]
    closed_at: Mapped[datetime]
    closed_by: Mapped[UUID]
    opened_at: Mapped[datetime | None] = mapped_column(default=None)
    opened_by: Mapped[UUID | None] = mapped_column(default=None)
