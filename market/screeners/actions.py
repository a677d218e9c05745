"""How a project's screener is set, and how work ends by it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.offers.queries import own_offer
from market.projects.queries import project
from market.screeners.models import Screener
from market.screeners.queries import screener_of
from market.screeners.rules import ScreenerCodeUnknown, checked_codes, checked_pay
from market.submissions.actions import screen_out
from market.submissions.models import Submission


def set_screener(
    session: Session,
    project_id: UUID,
    *,
    codes: Sequence[str],
    pay_minor: int,
    at: datetime,
    actor_id: UUID | None = None,
) -> Screener:
    """Screen by these codes from the next offer on; offers made before keep their own.

    Raises:
        ProjectNotFound, ScreenerUnfit.
    """
    known, pay = checked_codes(codes), checked_pay(pay_minor)
    # Locked, so that of two at once each is a version of its own.
    found = project(session, project_id, lock=True)
    last = session.scalar(select(func.max(Screener.version)).where(Screener.project_id == found.id))
    made = Screener(
        project_id=found.id,
        version=(last or 0) + 1,
        organisation_id=found.organisation_id,
        codes=known,
        pay_minor=pay,
        set_at=at,
        set_by=actor_id,
    )
    session.add(made)
    session.flush()
    return made


def take_screener_code(
    session: Session, offer_id: UUID, code: str, *, expert_id: UUID, at: datetime
) -> Submission:
    """End work on a task that its screener says is not for this expert; the screening is paid.

    Raises:
        OfferNotFound, ScreenerNotFound, ScreenerCodeUnknown, AlreadySubmitted, StateConflict.
    """
    screener = screener_of(session, own_offer(session, offer_id, expert_id))
    if code.strip() not in screener.codes:
        raise ScreenerCodeUnknown()
    return screen_out(session, offer_id, expert_id=expert_id, at=at)
