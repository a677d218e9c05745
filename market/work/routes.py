"""Working on an offer, over HTTP: sessions and their deadlines."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from market.auth import Principal, tell_of
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    read_ids,
    wire_id,
)
from market.offers.queries import own_offer
from market.work.actions import end_session, pause_session, resume_session, start_session
from market.work.models import WorkSession
from market.work.queries import deadline, figures, sessions, work_session
from market.work.rules import seconds_between


class FiguresOut(Wire):
    """What a session shows live: paid seconds, seconds beyond a cap, and what is left.

    `left_s` is what is still paid before the nearest cap: the offer's, the day's or the week's.
    """

    paid_s: int
    capped_s: int
    cap_left_s: int
    left_s: int
    is_overtime: bool
    is_near_cap: bool
    is_prompted: bool
    quiet_from: datetime | None


class SessionOut(FiguresOut):
    """A work session."""

    id: str
    offer_id: str
    task_id: str
    project_id: str
    state: str
    started_at: datetime
    last_seq: int
    last_beat_at: datetime
    paused_at: datetime | None
    ended_at: datetime | None


class DeadlineOut(Wire):
    """When work is due, to the second; it waits while you pause, `pause_left_s` seconds more."""

    offer_id: str
    state: str
    due_at: datetime | None
    left_s: int | None
    is_paused: bool
    pause_left_s: int


@post(
    "/offers/{offer_id:str}/sessions",
    scope="work:write",
    status_code=HTTP_201_CREATED,
    tags=["Work"],
)
def post_session(offer_id: FromPath[str], principal: NamedDependency[Principal]) -> SessionOut:
    """Start to work on an accepted offer."""
    # As the platform, because the offer moves with the session and is not the expert's to write.
    with database.begin(PLATFORM) as session:
        row = start_session(
            session, read_id("ofr", offer_id), expert_id=principal.person_id, at=now()
        )
        return _session_out(row)


@post(
    "/sessions/{session_id:str}/pause", scope="work:write", status_code=HTTP_200_OK, tags=["Work"]
)
def post_pause(session_id: FromPath[str], principal: NamedDependency[Principal]) -> SessionOut:
    """Stop the clock for a while."""
    with database.begin() as session:
        row = pause_session(
            session, read_id("ses", session_id), expert_id=principal.person_id, at=now()
        )
        return _session_out(row)


@post(
    "/sessions/{session_id:str}/resume", scope="work:write", status_code=HTTP_200_OK, tags=["Work"]
)
def post_resume(session_id: FromPath[str], principal: NamedDependency[Principal]) -> SessionOut:
    """Let the clock run again; the deadline moves by the pause, within the budget of pauses."""
    # As the platform, because the offer's deadline moves.
    with database.begin(PLATFORM) as session:
        row = resume_session(
            session, read_id("ses", session_id), expert_id=principal.person_id, at=now()
        )
        return _session_out(row)


@post("/sessions/{session_id:str}/stop", scope="work:write", status_code=HTTP_200_OK, tags=["Work"])
def post_stop(session_id: FromPath[str], principal: NamedDependency[Principal]) -> SessionOut:
    """Stop working; the offer stays yours until its deadline."""
    # As the platform, because a pause that ends so moves the offer's deadline.
    with database.begin(PLATFORM) as session:
        row = end_session(
            session, read_id("ses", session_id), expert_id=principal.person_id, at=now()
        )
        return _session_out(row)


@get("/sessions", scope="work:read", tags=["Work"])
def get_sessions(
    principal: NamedDependency[Principal],
    offer_id: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SessionOut]:
    """Work sessions, newest first: your own, or those on your projects."""
    offer = read_ids("ofr", offer_id)
    with database.begin() as session:
        return listed(
            session,
            sessions(offer),
            WorkSession.id,
            _session_out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|sessions|{offer}",
        )


@get("/sessions/{session_id:str}", scope="work:read", tags=["Work"])
def get_session(session_id: FromPath[str]) -> SessionOut:
    """One work session, with what it has recorded so far."""
    with database.begin() as session:
        return _session_out(work_session(session, read_id("ses", session_id)))


@get("/offers/{offer_id:str}/deadline", scope="work:write", tags=["Work"])
def get_deadline(offer_id: FromPath[str], principal: NamedDependency[Principal]) -> DeadlineOut:
    """When the work of an offer of yours is due, now that you have paused as you did."""
    at = now()
    with database.begin() as session:
        offer = own_offer(session, read_id("ofr", offer_id), principal.person_id)
        found = deadline(session, offer, at=at)
        return DeadlineOut(
            offer_id=wire_id("ofr", offer.id),
            state=offer.state,
            due_at=found.due_at,
            left_s=None if found.due_at is None else max(0, seconds_between(at, found.due_at)),
            is_paused=found.is_paused,
            pause_left_s=found.pause_left_s,
        )


def _session_out(row: WorkSession) -> SessionOut:
    tell_of(row.expert_id)
    shown = figures(row)
    return SessionOut(
        id=wire_id("ses", row.id),
        offer_id=wire_id("ofr", row.offer_id),
        task_id=wire_id("tsk", row.task_id),
        project_id=wire_id("prj", row.project_id),
        state=row.state,
        started_at=row.started_at,
        last_seq=row.last_seq,
        last_beat_at=row.last_beat_at,
        paused_at=row.paused_at,
        ended_at=row.ended_at,
        paid_s=shown.paid_s,
        capped_s=shown.capped_s,
        cap_left_s=shown.cap_left_s,
        left_s=shown.left_s,
        is_overtime=shown.is_overtime,
        is_near_cap=shown.is_near_cap,
        is_prompted=shown.is_prompted,
        quiet_from=shown.quiet_from,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_session,
    post_pause,
    post_resume,
    post_stop,
    get_sessions,
    get_session,
    get_deadline,
]
