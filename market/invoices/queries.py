"""Reads about what a lab was charged."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from market.db import PLATFORM, database
from market.earnings.models import Earning
from market.projects.models import Project
from payouts.ledger_models import JournalEntry


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


@dataclass(frozen=True, slots=True)
class Weeks:
    """Whose charges, and of which weeks: those that begin from `first` to `last`."""

    organisation_id: UUID
    first: date | None = None
    last: date | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What a line of pay and its project have to be; what a decision withheld costs nothing."""
        wanted = [Project.organisation_id == self.organisation_id, Earning.state != "withheld"]
        if self.first is not None:
            wanted.append(Earning.week >= self.first)
        if self.last is not None:
            wanted.append(Earning.week <= self.last)
        return wanted


@dataclass(frozen=True, slots=True)
class ProjectCharge:
    """What one project was charged in one currency. Units: seconds; minor units of `currency`."""

    project: str
    project_id: UUID
    currency: str
    lines: int
    seconds: int
    pay_minor: int
    fee_minor: int

    @property
    def total_minor(self) -> int:
        """What the project paid: the experts' pay and the fee on top of it."""
        return self.pay_minor + self.fee_minor


def project_charges(session: Session, weeks: Weeks) -> list[ProjectCharge]:
    """What a lab was charged, by project and currency, by name.

    Read as the platform: a lab may see what it paid for, and no other row of pay.
    """
    rows = session.execute(
        select(
            Project.name,
            Project.id,
            Earning.currency,
            func.count(),
            func.sum(Earning.seconds),
            func.sum(Earning.pay_minor),
            func.sum(Earning.fee_minor),
        )
        .join(Project, Project.id == Earning.project_id)
        .where(*weeks.conditions())
        .group_by(Project.id, Project.name, Earning.currency)
        .order_by(Project.name, Project.id, Earning.currency)
    )
    return [
        ProjectCharge(name, project_id, currency, lines, *map(int, sums))
        for name, project_id, currency, lines, *sums in rows
    ]


def charged_lines(weeks: Weeks) -> Select[Earning, str, UUID]:
    """Every line that a lab was charged, with its project's name and its ledger entry.

    Read as the platform, as `project_charges`; `InvoiceLine(*row)` is a row of it.
    """
    return (
        select(Earning, Project.name, JournalEntry.id)
        .join(Project, Project.id == Earning.project_id)
        .outerjoin(JournalEntry, JournalEntry.key == Earning.entry_key)
        .where(*weeks.conditions())
    )


def invoice_lines(session: Session, weeks: Weeks, *, limit: int) -> list[InvoiceLine]:
    """The first lines that a lab was charged, oldest first."""
    rows = session.execute(charged_lines(weeks).order_by(Earning.id).limit(limit))
    return [InvoiceLine(*row) for row in rows]


def lots_of_lines(weeks: Weeks, *, lot: int = 1000) -> Iterator[list[InvoiceLine]]:
    """All lines that a lab was charged, oldest first, a lot and a transaction at a time."""
    wanted = charged_lines(weeks).order_by(Earning.id).limit(lot)
    following = wanted
    while True:
        with database.begin(PLATFORM) as session:
            found = [InvoiceLine(*row) for row in session.execute(following)]
        yield found
        if len(found) < lot:
            return
        following = wanted.where(Earning.id > found[-1].earning.id)
