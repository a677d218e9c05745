"""How cohorts are saved."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.expressions.models import CohortRow
from market.expressions.queries import newest_cohorts, read_expression
from market.expressions.rules import (
    COHORT_NAME,
    MAX_COHORT_NAME,
    MAX_COHORTS,
    CohortNameInvalid,
    TooManyCohorts,
)
from market.language import from_json, to_json

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 11))")


def save_cohort(
    session: Session,
    organisation_id: UUID,
    name: str,
    source: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> CohortRow:
    """Save an expression under a name; what names the cohort already keeps what it was then.

    Saving the same text again changes nothing.

    Raises:
        CohortNameInvalid, TooManyCohorts, ExpressionInvalid, ExpressionTooLarge.
    """
    if len(name) > MAX_COHORT_NAME or not COHORT_NAME.fullmatch(name):
        raise CohortNameInvalid()
    expression = read_expression(session, organisation_id, source)
    session.execute(_ONE_AT_A_TIME, {"name": f"cohorts {organisation_id}"})
    newest = newest_cohorts(organisation_id)
    before = session.scalar(newest.where(CohortRow.name == name))
    if before is not None and from_json(before.expression) == expression:
        return before
    if before is None:
        count = session.scalar(select(func.count()).select_from(newest.subquery()))
        if (count or 0) >= MAX_COHORTS:
            raise TooManyCohorts()
    made = CohortRow(
        organisation_id=organisation_id,
        name=name,
        version=1 if before is None else before.version + 1,
        expression=to_json(expression),
        saved_at=at,
        saved_by=actor_id,
    )
    session.add(made)
    session.flush()
    return made
