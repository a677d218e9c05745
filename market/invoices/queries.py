"""Reads about what a lab was charged."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.projects.models import Project
from payouts.models import JournalEntry


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One thing a lab was charged for, and what of it went to the expert and what is our fee.

    Units: seconds; minor units of `currency`, an hour for the rate.
    """

    earning: Earning
    project: str
    entry_id: UUID | None

    @property
    def total_minor(self) -> int:
        """What the project paid: the expert's pay and the fee on top of it."""
        return self.earning.pay_minor + self.earning.fee_minor


def invoice_lines(
    session: Session,
    organisation_id: UUID,
    *,
    first: date | None = None,
    last: date | None = None,
    project_id: UUID | None = None,
) -> list[InvoiceLine]:
    """Every line that a lab was charged in the weeks that begin within two days, oldest first.

    Read as the platform: a lab may see what it paid for, and no other row of pay.
    """
    wanted = (
        select(Earning, Project.name, JournalEntry.id)
        .join(Project, Project.id == Earning.project_id)
        .outerjoin(JournalEntry, JournalEntry.key == Earning.entry_key)
        .where(Earning.organisation_id == organisation_id)
    )
    if first is not None:
        wanted = wanted.where(Earning.week >= first)
    if last is not None:
        wanted = wanted.where(Earning.week <= last)
    if project_id is not None:
        wanted = wanted.where(Earning.project_id == project_id)
    rows = session.execute(wanted.order_by(Earning.week, Earning.id)).all()
    return [InvoiceLine(line, name, entry_id) for line, name, entry_id in rows]
