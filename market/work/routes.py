"""Working on an offer, over HTTP: sessions, heartbeats and recorded time."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from market.auth import Part, Principal, ScopeMissing, tell_of
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
    wire_ids,
)
from market.offers.queries import own_offer
from market.work.actions import (
    beat,
    change_time,
    end_session,
    pause_session,
    resume_session,
    start_session,
)
from market.work.models import TimeEntry, WorkSession
from market.work.queries import (
    deadline,
    figures,
    sessions,
    start_of,
    time_by_proofs,
    time_entries,
    time_entry,
    work_session,
)
from market.work.rules import seconds_between


class HeartbeatIn(Wire):
    """A proof that someone is there: the next number, and whether anything was done since."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    is_active: bool
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


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


class PulseOut(FiguresOut):
    """What a heartbeat found; one that changed nothing was not counted."""

    state: str
    is_counted: bool


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
    "/sessions/{session_id:str}/heartbeats",
    scope="work:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_heartbeat(
    session_id: FromPath[str], data: JSONBody[HeartbeatIn], principal: NamedDependency[Principal]
) -> PulseOut:
    """Prove that you are there, every 30 seconds."""
    with database.begin() as session:
        pulse = beat(
            session,
            read_id("ses", session_id),
            expert_id=principal.person_id,
            seq=data.seq,
            is_active=data.is_active,
            sent_at=data.sent_at,
            at=now(),
        )
    shown = pulse.figures
    return PulseOut(
        state=pulse.state,
        is_counted=pulse.is_counted,
        paid_s=shown.paid_s,
        capped_s=shown.capped_s,
        cap_left_s=shown.cap_left_s,
        left_s=shown.left_s,
        is_overtime=shown.is_overtime,
        is_near_cap=shown.is_near_cap,
        is_prompted=shown.is_prompted,
        quiet_from=shown.quiet_from,
    )


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


ROUTES: list[HTTPRouteHandler] = [
    post_session,
    post_heartbeat,
    post_pause,
    post_resume,
    post_stop,
    get_sessions,
    get_session,
    get_deadline,
    get_time,
    get_time_proofs,
    post_time_change,
]
