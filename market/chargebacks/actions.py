"""How a card dispute is answered."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.chargebacks.queries import card_dispute, paid_work
from market.chargebacks.rules import DisputeAnswered, evidence_of
from market.events import Event, emit
from payouts.bank_models import CardDispute
from payouts.disputes import plan_evidence
from payouts.errors import DisputeStateConflict
from payouts.models import Funding
from payouts.money import Money


def answer_dispute(
    session: Session, dispute_id: UUID, *, note: str, by: UUID, at: datetime
) -> CardDispute:
    """Send the bank what was agreed and what the money paid for, once; it is kept as it was sent.

    Raises:
        DisputeNotFound, DisputeAnswered, EvidenceMissing.
    """
    found = card_dispute(session, dispute_id)
    paid_in = session.get_one(Funding, found.funding_id)
    evidence = evidence_of(
        note,
        paid_work(session, found.lab_id, found.currency),
        Money(paid_in.amount_minor, paid_in.currency),
    )
    try:
        call = plan_evidence(session, dispute_id, evidence=evidence, by=by, at=at)
    except DisputeStateConflict as closed:
        raise DisputeAnswered(closed.state) from None
    emit(
        session,
        Event.DISPUTE_EVIDENCE_REQUESTED,
        call.id,
        at=at,
        organisation_id=found.lab_id,
        actor_id=by,
        data={"dispute_id": str(found.id)},
    )
    return found
