"""Pages about disputed time: both sides say what is so, and somebody of ops decides."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.claims.actions import Opening, ask_beyond_cap, ask_for_time
from market.console.forms import REFUSALS, Form, field, once, said_no, tried, whole_number
from market.console.frame import Notice, page
from market.console.visitors import EXPERT, LAB, OPS, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.disputes.actions import appeal, decide, respond, withdraw
from market.disputes.models import Dispute
from market.disputes.queries import dispute, disputes
from market.disputes.rules import DISPUTE, EXPERT_REASONS, MIN_STATEMENT, DisputeNotFound
from market.http import NotFound, VersionConflict, page_of, principal_of_request, read_id, wire_id
from market.inbox.queries import own_zone
from market.offers.models import Offer
from market.people.queries import names_of
from market.projects.models import Project
from market.tasks.models import Task

PAGE = 25
OPEN = ("open", "answered", "decided", "appealed")
ASKABLE = 30
"""Own offers, the newest, about which a form lets an expert ask."""

HOMES = {
    Part.EXPERT: "/console/expert/disputes",
    Part.LAB: "/console/lab/disputes",
    Part.OPS: "/console/ops/disputes",
}
WHAT = {
    "hours": "Hours that the lab contests",
    "missing_time": "Time that was not recorded",
    "unpaid_time": "Time beyond a cap",
}


def _tasks(session: Session, offer_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The names of the tasks of some offers."""
    rows = session.execute(
        select(Offer.id, Task.external_id)
        .join(Task, Task.id == Offer.task_id)
        .where(Offer.id.in_(offer_ids))
    )
    return dict(rows.all())


def get_list(
    request: Request[Any, Any, Any],
    ended: FromQuery[bool] = False,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Disputes that the visitor is a side of, newest first; all of them, for ops."""
    principal = principal_of_request(request)
    with database.begin() as session:
        is_open = Dispute.state.in_(OPEN)
        rows, following = page_of(
            session,
            disputes().where(~is_open if ended else is_open),
            Dispute.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"{principal.tenant} disputes {ended}",
        )
    # As the platform, for the names alone of what the visitor's own disputes are about.
    with database.begin(PLATFORM) as session:
        return page(
            request,
            "disputes.html",
            rows=rows,
            following=following,
            ended=ended,
            home=HOMES[principal.part],
            what=WHAT,
            tasks=_tasks(session, [row.offer_id for row in rows]),
            names=names_of(session, {row.expert_id for row in rows}),
            zone=own_zone(session, principal.person_id),
        )


def _one(
    request: Request[Any, Any, Any],
    dispute_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    principal = principal_of_request(request)
    with database.begin() as session:
        row = dispute(session, dispute_id)
    side, moves = principal.part.value, DISPUTE.allowed(row.state)
    is_opener = side == row.opened_part
    # As the platform, for the names alone of what the visitor's own dispute is about.
    with database.begin(PLATFORM) as session:
        project = session.get_one(Project, row.project_id)
        return page(
            request,
            "dispute.html",
            status=status,
            notice=notice,
            row=row,
            home=HOMES[principal.part],
            what=WHAT[row.kind],
            task=_tasks(session, [row.offer_id]).get(row.offer_id, "a task"),
            project=project.name,
            names=names_of(session, {row.expert_id, row.decided_by, row.final_by}),
            side=side,
            may_answer="respond" in moves and not is_opener and side != Part.OPS.value,
            may_withdraw="withdraw" in moves and is_opener,
            may_appeal=side == Part.EXPERT.value
            and "appeal" in moves
            and row.awarded_s != row.claimed_s,
            may_decide=side == Part.OPS.value and bool({"decide", "decide_appeal"} & moves),
            is_waiting=row.state in OPEN,
            least=MIN_STATEMENT,
            typed=typed or {},
            zone=own_zone(session, principal.person_id),
        )


def get_one(request: Request[Any, Any, Any], dispute_id: FromPath[str]) -> Template:
    """One dispute: what both sides say, what was decided and why, and until when what waits."""
    return _one(request, read_id("dsp", dispute_id))


def post_move(
    request: Request[Any, Any, Any], dispute_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect | Template:
    """Answer a dispute, take it back, appeal its decision, or decide it."""
    principal, found_id = principal_of_request(request), read_id("dsp", dispute_id)
    part, me, at = principal.part, principal.person_id, now()
    with database.begin() as session:
        # Only those who may see it go on; the moves themselves run as the platform.
        seen = dispute(session, found_id)
        is_opener, claimed_s = part.value == seen.opened_part, seen.claimed_s
    allowed = {
        "answer": part is not Part.OPS and not is_opener,
        "withdraw": is_opener,
        "appeal": part is Part.EXPERT,
        "decide": part is Part.OPS,
    }
    if not allowed.get(move, False):
        raise NotFound("move of a dispute", move[:64])
    said = field(data, "statement")

    def act() -> str:
        # As the platform, because lines of pay and their money move with it.
        with database.begin(PLATFORM) as session:
            if move == "answer":
                concedes = data.get("concedes") == "yes"
                respond(session, found_id, statement=said, concedes=concedes, actor_id=me, at=at)
            elif move == "withdraw":
                withdraw(session, found_id, actor_id=me, at=at)
            elif move == "appeal":
                appeal(session, found_id, expert_id=me, statement=said, at=at)
            else:
                row = dispute(session, found_id, locked=True)
                if field(data, "version") != str(row.version):
                    raise VersionConflict(row.version)
                awarded_s = _awarded(data, claimed_s)
                decide(session, found_id, awarded_s=awarded_s, note=said, by=me, at=at)
        return f"{HOMES[part]}/{dispute_id}?said=dispute-{move}"

    try:
        return once(data, act)
    except DisputeNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _one(request, found_id, status=status, notice=notice, typed=data)


def _awarded(data: Mapping[str, str], claimed_s: int) -> int:
    """How many seconds a decision gives: all, none, or so many.

    Raises:
        FormUnreadable.
    """
    outcome = data.get("outcome")
    if outcome in ("all", "none"):
        return claimed_s if outcome == "all" else 0
    if outcome != "some":
        raise FormUnreadable("choose whether all of it is paid, none, or some")
    seconds = whole_number(
        data, "awarded_s", "the seconds that are paid", least=1, most=claimed_s, absent=0
    )
    if not seconds:
        raise FormUnreadable("say how many of the seconds are paid")
    return seconds


@get("/disputes/new", guards=EXPERT, sync_to_thread=True)
def get_new(request: Request[Any, Any, Any], offer: FromQuery[str] = "") -> Template:
    """A form to ask for time that was not recorded, or not paid."""
    return _new(request, {"offer": offer})


def _new(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    me = my_id(request)
    with database.begin() as session:
        offers = session.execute(
            select(Offer.id, Task.external_id, Offer.accepted_at)
            .join(Task, Task.id == Offer.task_id)
            .where(Offer.expert_id == me, Offer.accepted_at.is_not(None))
            .order_by(Offer.id.desc())
            .limit(ASKABLE)
        ).all()
        return page(
            request,
            "expert/dispute_new.html",
            status=status,
            notice=notice,
            offers=offers,
            reasons=EXPERT_REASONS,
            least=MIN_STATEMENT,
            typed=typed,
            zone=own_zone(session, me),
        )


@post("/disputes/new", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_new(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Ask for time; a person decides."""
    me = my_id(request)

    def act() -> str:
        offer_id = read_id("ofr", field(data, "offer"))
        # As the platform, because lines of pay move with it; the action takes only one's own.
        with database.begin(PLATFORM) as session:
            zone = ZoneInfo(own_zone(session, me))
            opening = Opening(
                _moment(data, "starts_at", zone),
                _moment(data, "ends_at", zone),
                field(data, "reason_code"),
                field(data, "statement"),
                tuple(one.strip() for one in field(data, "evidence").split("\n") if one.strip()),
            )
            ask = {"missing_time": ask_for_time, "unpaid_time": ask_beyond_cap}.get(
                field(data, "kind")
            )
            if ask is None:
                raise FormUnreadable("say whether the time was not recorded, or lies beyond a cap")
            made = ask(session, offer_id, opening, expert_id=me, at=now())
            return f"{HOMES[Part.EXPERT]}/{wire_id('dsp', made.id)}?said=dispute-open"

    return tried(data, act, partial(_new, request, data))


def _moment(data: Mapping[str, str], name: str, zone: ZoneInfo) -> datetime:
    """A moment on the visitor's own clock.

    Raises:
        FormUnreadable.
    """
    try:
        typed = datetime.fromisoformat(field(data, name))
    except ValueError:
        label = {"starts_at": "the beginning", "ends_at": "the end"}[name]
        raise FormUnreadable(f"{label} is a day and a time, such as 2026-03-31 14:05") from None
    return (typed if typed.tzinfo else typed.replace(tzinfo=zone)).astimezone(UTC)


def _of(part: list[Any]) -> list[HTTPRouteHandler]:
    """The pages that every side has, behind its own guard."""
    return [
        get("/disputes", guards=part, sync_to_thread=True)(get_list),
        get("/disputes/{dispute_id:str}", guards=part, sync_to_thread=True)(get_one),
        post(
            "/disputes/{dispute_id:str}/{move:str}",
            guards=part,
            sync_to_thread=True,
            status_code=303,
        )(post_move),
    ]


EXPERT_ROUTES: list[HTTPRouteHandler] = [get_new, post_new, *_of(EXPERT)]
LAB_ROUTES: list[HTTPRouteHandler] = _of(LAB)
OPS_ROUTES: list[HTTPRouteHandler] = _of(OPS)
