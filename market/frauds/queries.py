"""Reads about cases of fraud, and of the pay that they are about."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.frauds.models import FraudCase
from market.frauds.rules import FraudCaseNotFound
from market.recoveries.models import RecoveryCase
from market.submissions.models import Submission


def fraud_cases(*, state: str | None = None) -> Select[FraudCase]:
    """Cases, as a statement to page through; an expert reads those about its own work."""
    wanted = select(FraudCase)
    return wanted if state is None else wanted.where(FraudCase.state == state)


def fraud_case(session: Session, case_id: UUID, *, locked: bool = False) -> FraudCase:
    """One case; locked against others until the transaction ends, if wished.

    Raises:
        FraudCaseNotFound.
    """
    wanted = select(FraudCase).where(FraudCase.id == case_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise FraudCaseNotFound(case_id)
    return found


def pay_for(session: Session, work: Submission) -> list[Earning]:
    """Every line of pay that came of a submission, locked; but what a case took back before."""
    taken = select(RecoveryCase.earning_id).where(RecoveryCase.state == "upheld")
    return list(
        session.scalars(
            select(Earning)
            .where(
                or_(Earning.offer_id == work.offer_id, Earning.submission_id == work.id),
                Earning.state != "withheld",
                Earning.id.not_in(taken),
            )
            .order_by(Earning.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def overdue_cases(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Cases whose appeal was not decided in the promised time."""
    return list(
        session.scalars(
            select(FraudCase.id)
            .where(FraudCase.state == "appealed", FraudCase.appeal_due_at <= at)
            .order_by(FraudCase.appeal_due_at)
            .limit(limit)
        )
    )
