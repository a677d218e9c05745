"""An expert says where to be paid."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.events import Event, emit
from market.payees.rules import CountryInvalid, is_country
from payouts.models import Payee
from payouts.payees import ensure_payee


def become_payee(
    session: Session, *, expert_id: UUID, country: str, email: str, at: datetime
) -> Payee:
    """Open an account for an expert to be paid on; asked again, the first one is looked at again.

    Raises:
        CountryInvalid.
    """
    if not is_country(country):
        raise CountryInvalid(country)
    payee = ensure_payee(session, owner_id=expert_id, country=country, email=email, at=at)
    emit(session, Event.PAYEE_REQUESTED, payee.id, at=at, person_id=expert_id)
    return payee
