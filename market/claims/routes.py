"""Disputes about time, over HTTP: how either side opens one."""

from datetime import datetime
from typing import Annotated, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.status_codes import HTTP_201_CREATED
from msgspec import Meta

from market.auth import Part, Principal, ScopeMissing
from market.claims.actions import Opening, ask_beyond_cap, ask_for_time, contest_hours
from market.db import PLATFORM, database, now
from market.disputes.routes import DisputeOut, dispute_out
from market.http import Wire, post, read_id, tagged
from market.offers.rules import OfferNotFound
from market.time_entries.queries import time_entries

Moment = Annotated[datetime, Meta(tz=True)]


class DisputeIn(Wire):
    """About which time, and why: a lab contests `hours`; an expert asks for `missing_time`, or that
    `unpaid_time` beyond a cap be paid. Evidence is texts or addresses.
    """

    kind: Literal["hours", "missing_time", "unpaid_time"]
    offer_id: str
    starts_at: Moment
    ends_at: Moment
    reason_code: str
    statement: str
    evidence: Annotated[tuple[Annotated[str, Meta(max_length=2000)], ...], Meta(max_length=20)] = ()


@post("/disputes", scope="dispute:write", status_code=HTTP_201_CREATED, tags=["Disputes"])
def post_dispute(
    data: JSONBody[DisputeIn], principal: NamedDependency[Principal]
) -> Response[DisputeOut]:
    """Dispute time on an offer, for a reason; only the disputed part waits for the decision."""
    if (data.kind == "hours") != (principal.part is Part.LAB):
        raise ScopeMissing(f"dispute:{data.kind}", principal.part)
    offer_id = read_id("ofr", data.offer_id)
    opening = Opening(data.starts_at, data.ends_at, data.reason_code, data.statement, data.evidence)
    me, at = principal.person_id, now()
    if data.kind == "hours":
        with database.begin() as session:
            # A lab sees the time on its own projects only.
            if not time_entries(session, offer_id):
                raise OfferNotFound(offer_id)
    # As the platform, because lines of pay and their money move with it.
    with database.begin(PLATFORM) as session:
        if data.kind == "hours":
            made = contest_hours(session, offer_id, opening, actor_id=me, at=at)
        elif data.kind == "missing_time":
            made = ask_for_time(session, offer_id, opening, expert_id=me, at=at)
        else:
            made = ask_beyond_cap(session, offer_id, opening, expert_id=me, at=at)
        return tagged(dispute_out(made), made.version, status=HTTP_201_CREATED)


ROUTES: list[HTTPRouteHandler] = [post_dispute]
