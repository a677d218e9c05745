"""Reads about projects, their budgets and the models that they test."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session

from market.experts.queries import tier_rates
from market.projects.models import Project, TargetModel
from market.projects.rules import ProjectNotFound, TargetModelNotFound
from payouts.chart import account_id, lab_funding, project_budget
from payouts.ledger import balance
from payouts.ledger_models import JournalEntry, Posting


@dataclass(frozen=True, slots=True)
class Budget:
    """What a project was given by its lab, and what has become of it.

    `funded_minor` is `reserved_minor`, `spent_minor` and `free_minor` together; money that went
    back to the lab counts in none of them.

    Units: minor units of `currency`.
    """

    funded_minor: int
    reserved_minor: int
    spent_minor: int
    free_minor: int
    currency: str


def project(session: Session, project_id: UUID, *, lock: bool = False) -> Project:
    """The project with this id; locked, when it is about to be changed.

    Raises:
        ProjectNotFound.
    """
    found = session.get(Project, project_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise ProjectNotFound(project_id)
    return found


def projects_found(state: str | None = None) -> Select[Project]:
    """All projects that the caller may see, or those in a state, as a statement to page through."""
    statement = select(Project)
    return statement if state is None else statement.where(Project.state == state)


def target_model(session: Session, target_model_id: UUID, *, lock: bool = False) -> TargetModel:
    """The target model with this id; locked, when it is about to be changed.

    Raises:
        TargetModelNotFound.
    """
    found = session.get(
        TargetModel, target_model_id, with_for_update=lock or None, populate_existing=lock
    )
    if found is None:
        raise TargetModelNotFound(target_model_id)
    return found


def budget(session: Session, found: Project) -> Budget:
    """A project's budget now, by the ledger."""
    escrow = project_budget(found.id, found.organisation_id, found.currency)
    funding = lab_funding(found.organisation_id, found.currency)
    came, from_lab = Posting.credit_account_id, Posting.debit_account_id
    given = case((came == account_id(escrow), Posting.amount_minor), else_=-Posting.amount_minor)
    funded = session.scalar(
        select(func.coalesce(func.sum(given), 0))
        .join(JournalEntry, JournalEntry.id == Posting.entry_id)
        .where(
            JournalEntry.phase == "posted",
            or_(
                (from_lab == account_id(funding)) & (came == account_id(escrow)),
                (from_lab == account_id(escrow)) & (came == account_id(funding)),
            ),
        )
    )
    present = balance(session, escrow)
    return Budget(
        funded_minor=int(funded or 0),
        reserved_minor=present.pending_debit_minor,
        spent_minor=int(funded or 0) - present.posted_minor,
        free_minor=present.available_minor,
        currency=found.currency,
    )


def missing_for_work(session: Session, found: Project, at: datetime) -> list[str]:
    """What a project lacks before experts can work on it, in words; empty when it is complete."""
    rates = tier_rates(session, found.currency, at)
    floor = min(rates.values(), default=0)
    missing = []
    if not found.brief.strip():
        missing.append("a brief")
    if not found.domains:
        missing.append("a domain at least")
    if found.rate_minor_per_hour is None and not rates:
        missing.append(f"a rate, since no pay tier pays in {found.currency}")
    if found.rate_minor_per_hour is not None and found.rate_minor_per_hour < floor:
        missing.append(f"a rate of {floor} minor units an hour or more, as the lowest tier pays")
    if found.target_model_id is None:
        missing.append("a target model")
    escrow = project_budget(found.id, found.organisation_id, found.currency)
    if balance(session, escrow).available_minor <= 0:
        missing.append("a budget with money free")
    return missing
