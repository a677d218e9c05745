"""Reads about card disputes."""

from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.chargebacks.rules import DisputeNotFound, PaidWork
from market.earnings.models import Earning
from market.projects.models import Project
from payouts.bank_models import CardDispute


def card_disputes(*, state: str | None = None) -> Select[CardDispute]:
    """Card disputes, as a statement to page through; a lab reads its own."""
    wanted = select(CardDispute)
    return wanted if state is None else wanted.where(CardDispute.state == state)


def card_dispute(session: Session, dispute_id: UUID) -> CardDispute:
    """One card dispute.

    Raises:
        DisputeNotFound.
    """
    found = session.scalar(select(CardDispute).where(CardDispute.id == dispute_id))
    if found is None:
        raise DisputeNotFound(dispute_id)
    return found


def paid_work(session: Session, organisation_id: UUID, currency: str) -> list[PaidWork]:
    """What a lab's money has paid for, by week and project, oldest first."""
    rows = session.execute(
        select(
            Project.name,
            Earning.week,
            func.sum(Earning.seconds),
            func.sum(Earning.pay_minor),
            func.sum(Earning.fee_minor),
        )
        .join(Project, Project.id == Earning.project_id)
        .where(Earning.organisation_id == organisation_id, Earning.currency == currency)
        .group_by(Project.name, Earning.week)
        .order_by(Earning.week, Project.name)
    )
    return [
        PaidWork(name, week, int(seconds or 0), int(pay), int(fee), currency)
        for name, week, seconds, pay, fee in rows
    ]
