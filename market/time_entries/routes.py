"""Recorded time, over HTTP."""

from datetime import datetime
from typing import Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from market.auth import Part, Principal, ScopeMissing, tell_of
from market.db import PLATFORM, database, now
from market.http import Wire, get, post, read_id, wire_id, wire_ids
from market.time_entries.actions import change_time
from market.time_entries.queries import time_by_proofs, time_entries, time_entry
from market.work.models import TimeEntry
from market.work.queries import start_of


class TimeEntryOut(Wire):
    """A stretch of recorded time within one UTC day."""

    id: str
    session_id: str | None
    source: str
    starts_at: datetime
    ends_at: datetime
    seconds: int
    paid_s: int
    overtime_s: int
    capped_s: int
    state: str


class TimeOut(Wire):
    """All recorded time of an offer."""

    paid_s: int
    capped_s: int
    items: list[TimeEntryOut]


class ProofOut(Wire):
    """A stretch of a day: what its heartbeats pay, and what is recorded of it, in seconds."""

    session_id: str
    starts_at: datetime
    ends_at: datetime
    proven_s: int | None
    recorded_s: int | None


class ProofsOut(Wire):
    """All of it, and whether the two agree everywhere."""

    is_equal: bool
    items: list[ProofOut]


class TimeChangeIn(Wire):
    """What is to become of a line of recorded time, and why."""

    action: Literal["confirm", "void"]
    note: str | None = None


@get("/offers/{offer_id:str}/time", scope="work:read", tags=["Work"])
def get_time(offer_id: FromPath[str]) -> TimeOut:
    """The recorded time of an offer whose sessions you may see; running stretches come later."""
    with database.begin() as session:
        rows = time_entries(session, read_id("ofr", offer_id))
        return TimeOut(
            paid_s=sum(row.paid_s for row in rows),
            capped_s=sum(row.capped_s - row.granted_s for row in rows),
            items=[_entry_out(row) for row in rows],
        )


@get("/time/proofs", scope="work:read", tags=["Work"])
def get_time_proofs(
    principal: NamedDependency[Principal],
    expert_id: FromQuery[str | None] = None,
    since: FromQuery[datetime | None] = None,
) -> ProofsOut:
    """Your recorded time beside what its raw heartbeats give, computed now; ops may name anyone."""
    wanted = principal.person_id if expert_id is None else read_id("per", expert_id)
    if wanted != principal.person_id and principal.part is not Part.OPS:
        raise ScopeMissing("time of others", principal.part)
    tell_of(wanted)
    # As the platform, because the moves of a session are kept in the history of all machines.
    with database.begin(PLATFORM) as session:
        compared = time_by_proofs(session, wanted)
    shown = [one for one in compared if since is None or one.ends_at > since]
    return ProofsOut(
        is_equal=all(one.is_equal for one in shown),
        items=[
            ProofOut(
                session_id=wire_id("ses", one.session_id),
                starts_at=one.starts_at,
                ends_at=one.ends_at,
                proven_s=one.proven_s,
                recorded_s=one.recorded_s,
            )
            for one in shown
        ],
    )


@post(
    "/time-entries/{entry_id:str}/transitions",
    scope="work:read",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_time_change(
    entry_id: FromPath[str], data: JSONBody[TimeChangeIn], principal: NamedDependency[Principal]
) -> TimeEntryOut:
    """Confirm time of your own, or take it out before it is locked."""
    if principal.part is not Part.EXPERT:
        raise ScopeMissing(f"time:{data.action}", principal.part)
    with database.begin() as session:
        # Whether the caller may see it at all; the change is the platform's, which keeps history.
        time_entry(session, read_id("tim", entry_id))
    with database.begin(PLATFORM) as session:
        entry = change_time(
            session,
            read_id("tim", entry_id),
            data.action,
            actor_id=principal.person_id,
            note=data.note,
            at=now(),
        )
        return _entry_out(entry)


def _entry_out(row: TimeEntry) -> TimeEntryOut:
    starts_at = start_of(row.during)
    return TimeEntryOut(
        id=wire_id("tim", row.id),
        session_id=wire_ids("ses", row.session_id),
        source=row.source,
        starts_at=starts_at,
        ends_at=row.during.upper or starts_at,
        seconds=row.seconds,
        paid_s=row.paid_s,
        overtime_s=row.overtime_s,
        capped_s=row.capped_s - row.granted_s,
        state=row.state,
    )


ROUTES: list[HTTPRouteHandler] = [get_time, get_time_proofs, post_time_change]
