"""Card disputes, over HTTP: a lab reads its own, ops read all of them and answer."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from market.auth import Principal
from market.chargebacks.actions import answer_dispute
from market.chargebacks.queries import card_dispute, card_disputes
from market.db import database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
)
from market.projects.routes import MoneyOut
from payouts.bank_models import CardDispute


class DisputeOut(Wire):
    """A payment that its payer's bank took back or asks about.

    `withheld` is what the lab cannot use until the bank has decided: its free money first, then
    what its projects have not promised. What experts have earned is never touched.
    """

    id: str
    funding_id: str
    state: str
    reason: str
    amount: MoneyOut
    withheld: MoneyOut
    opened_at: datetime
    evidence_due_at: datetime | None
    answered_at: datetime | None
    closed_at: datetime | None


class EvidenceIn(Wire):
    """What a person says to the bank; the paid work is added to it."""

    note: str


@get("/card-disputes", scope="fund:read", tags=["Funding"])
def get_disputes(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[DisputeOut]:
    """Card disputes of your lab's payments, newest first."""
    with database.begin() as session:
        return listed(
            session,
            card_disputes(state=in_state),
            CardDispute.id,
            _dispute_out,
            limit=limit,
            cursor=cursor,
            filters=f"card_disputes|{in_state}",
        )


@get("/card-disputes/{dispute_id:str}", scope="fund:read", tags=["Funding"])
def get_dispute(dispute_id: FromPath[str]) -> DisputeOut:
    """One card dispute."""
    with database.begin() as session:
        return _dispute_out(card_dispute(session, read_id("cdp", dispute_id)))


@post(
    "/card-disputes/{dispute_id:str}/evidence", scope="pay:write", status_code=200, tags=["Funding"]
)
def post_evidence(
    dispute_id: FromPath[str], data: JSONBody[EvidenceIn], principal: NamedDependency[Principal]
) -> DisputeOut:
    """Answer the payer's bank, once, with what was agreed and what the money paid for."""
    with database.begin() as session:
        answered = answer_dispute(
            session,
            read_id("cdp", dispute_id),
            note=data.note,
            by=principal.person_id,
            at=now(),
        )
        return _dispute_out(answered)


def _dispute_out(found: CardDispute) -> DisputeOut:
    return DisputeOut(
        id=wire_id("cdp", found.id),
        funding_id=wire_id("fnd", found.funding_id),
        state=str(found.state),
        reason=found.reason,
        amount=MoneyOut(amount_minor=found.amount_minor, currency=found.currency),
        withheld=MoneyOut(amount_minor=found.withheld_minor, currency=found.currency),
        opened_at=found.opened_at,
        evidence_due_at=found.evidence_due_at,
        answered_at=found.answered_at,
        closed_at=found.closed_at,
    )


ROUTES: list[HTTPRouteHandler] = [get_disputes, get_dispute, post_evidence]
