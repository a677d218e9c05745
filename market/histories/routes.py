"""Histories, over HTTP."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from market.auth import Part, Principal
from market.db import PLATFORM, database
from market.histories.queries import state_now, steps_of
from market.histories.rules import TABLES, NoHistory, Step, state_at
from market.http import KINDS, NotFound, Wire, get, read_id, wire_id


class StepOut(Wire):
    """One move: `by` is `you`, `the machine` or `somebody`; who it was, and the note and the
    evidence that went with it, are for ops and for whoever made the move.
    """

    from_state: str
    to_state: str
    action: str
    at: datetime
    by: str
    actor_id: str | None
    reason_code: str | None
    note: str | None
    evidence: list[str]


class HistoryOut(Wire):
    """How a thing came to its state: `state` at the time asked for (null if it was not there yet),
    `state_now`, and every move until that time, the first one first.
    """

    id: str
    kind: str
    at: datetime | None
    state: str | None
    state_now: str
    moves: list[StepOut]


@get("/history/{subject_id:str}", scope="event:read", tags=["History"])
def get_history(
    subject_id: FromPath[str],
    principal: NamedDependency[Principal],
    at: FromQuery[datetime | None] = None,
) -> HistoryOut:
    """The history of anything that has states and that you may see, as of a time or until now:
    projects, tasks, offers, sessions, submissions, reviews, payouts and all the others.
    """
    prefix = subject_id.partition("_")[0]
    if prefix not in TABLES:
        raise NoHistory(prefix)
    found = read_id(prefix, subject_id)
    with database.begin() as session:
        current = state_now(session, prefix, found)
    if current is None:
        raise NotFound(KINDS[prefix], subject_id[:64])
    # As the platform, since moves that no event tells of are nobody's to read one by one.
    with database.begin(PLATFORM) as session:
        steps = steps_of(session, prefix, found)
    return HistoryOut(
        id=subject_id,
        kind=KINDS[prefix],
        at=at,
        state=current if at is None else state_at(steps, current, at),
        state_now=current,
        moves=[_out(one, principal) for one in steps if at is None or one.at <= at],
    )


def _out(step: Step, principal: Principal) -> StepOut:
    is_own = step.actor_id == principal.person_id
    is_told = is_own or principal.part is Part.OPS
    by = "the machine" if step.actor_id is None else "you" if is_own else "somebody"
    return StepOut(
        from_state=step.from_state,
        to_state=step.to_state,
        action=step.action,
        at=step.at,
        by=by,
        actor_id=wire_id("per", step.actor_id) if step.actor_id and is_told else None,
        reason_code=step.reason_code,
        note=step.note if is_told else None,
        evidence=list(step.evidence) if is_told else [],
    )


ROUTES: list[HTTPRouteHandler] = [get_history]
