"""An expert says where to be paid."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.events import Event, emit
from market.payees.rules import CountryInvalid, CountryOutOfReach, is_country
from market.settings import in_force
from payouts.models import Payee
from payouts.payees import ensure_payee


def become_payee(
    session: Session, *, expert_id: UUID, country: str, email: str, at: datetime
) -> Payee:
    """Open an account for an expert to be paid on; asked again, the first one is looked at again.

    Raises:
        CountryInvalid, CountryOutOfReach.
    """
    if not is_country(country):
        raise CountryInvalid(country)
    reached = in_force.settings.payout_countries.split()
    if country not in reached:
        # Said here, before anything is earned towards an account that could never receive it.
        raise CountryOutOfReach(country, reached)
    payee = ensure_payee(session, owner_id=expert_id, country=country, email=email, at=at)
    emit(session, Event.PAYEE_REQUESTED, payee.id, at=at, person_id=expert_id)
    return payee
