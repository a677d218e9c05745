"""Reads of screeners."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.offers.models import Offer
from market.screeners.models import Screener
from market.screeners.rules import ScreenerNotFound


def newest_screener(
    session: Session, project_id: UUID, *, by: datetime | None = None
) -> Screener | None:
    """A project's newest screener, or the newest by some time; None where it had none."""
    wanted = select(Screener).where(Screener.project_id == project_id)
    if by is not None:
        wanted = wanted.where(Screener.set_at <= by)
    return session.scalar(wanted.order_by(Screener.version.desc()).limit(1))


def screener_of(session: Session, offer: Offer) -> Screener:
    """The screener that binds an offer.

    Raises:
        ScreenerNotFound.
    """
    found = newest_screener(session, offer.project_id, by=offer.created_at)
    if found is None or not found.codes:
        raise ScreenerNotFound(offer.id)
    return found


def screened_out_pay(session: Session, offer: Offer) -> int:
    """What an offer that ended with a code of its screener pays at least.

    Units: minor units.
    """
    found = newest_screener(session, offer.project_id, by=offer.created_at)
    return 0 if found is None else found.pay_minor
