"""Drafts and giving back, over HTTP; handing in stands with attempts, which may prove it."""

from typing import Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, post, put, read_id, wire_id
from market.offers.queries import own_offer
from market.submissions.actions import give_back, save_draft
from market.submissions.models import Submission
from market.submissions.queries import passed_draft


class DraftIn(Wire):
    """Unfinished work."""

    payload: dict[str, Any]


class DraftOut(Wire):
    """A draft as it is kept."""

    id: str
    offer_id: str
    state: str
    payload: dict[str, Any]
    version: int


class PassedDraftOut(Wire):
    """What somebody left of this work before you; null where nothing was, or is not passed on."""

    payload: dict[str, Any] | None


class ReleaseIn(Wire):
    """Why a task is given back; no reason counts against anyone."""

    reason: str
    note: str | None = None


class ReleaseOut(Wire):
    """An offer given back; with owed time its recorded minutes are paid."""

    offer_id: str
    state: str
    owes_time: bool


@put("/offers/{offer_id:str}/draft", scope="work:write", tags=["Work"])
def put_draft(
    offer_id: FromPath[str], data: JSONBody[DraftIn], principal: NamedDependency[Principal]
) -> DraftOut:
    """Keep unfinished work. Nobody else sees it, unless the offer's terms pass drafts on and you
    leave it.
    """
    with database.begin() as session:
        row = save_draft(
            session,
            read_id("ofr", offer_id),
            expert_id=principal.person_id,
            payload=data.payload,
            at=now(),
        )
        return _draft_out(row)


@get("/offers/{offer_id:str}/passed-draft", scope="work:read", tags=["Work"])
def get_passed_draft(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> PassedDraftOut:
    """The draft of whoever left this work, once it is yours, where the project passes drafts on."""
    # As the platform, because it is another's; only what it says is told, and not whose it is.
    with database.begin(PLATFORM) as session:
        offer = own_offer(session, read_id("ofr", offer_id), principal.person_id)
        return PassedDraftOut(payload=passed_draft(session, offer))


@post("/offers/{offer_id:str}/release", scope="work:write", status_code=HTTP_200_OK, tags=["Work"])
def post_release(
    offer_id: FromPath[str], data: JSONBody[ReleaseIn], principal: NamedDependency[Principal]
) -> ReleaseOut:
    """Give a task back; minutes that were worked are paid."""
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        owes_time = give_back(
            session,
            read_id("ofr", offer_id),
            expert_id=principal.person_id,
            reason=data.reason,
            note=data.note,
            at=now(),
        )
    return ReleaseOut(offer_id=offer_id, state="released", owes_time=owes_time)


def _draft_out(row: Submission) -> DraftOut:
    return DraftOut(
        id=wire_id("sub", row.id),
        offer_id=wire_id("ofr", row.offer_id),
        state=row.state,
        payload=row.payload,
        version=row.version,
    )


ROUTES: list[HTTPRouteHandler] = [put_draft, get_passed_draft, post_release]
