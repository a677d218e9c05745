"""Pages about cases of fraud: ops open and decide, authors of the work read, answer and appeal."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.appeals.rules import APPEAL_WITHIN
from market.auth import Part
from market.console.forms import REFUSALS, Form, field, once, said_no, tried
from market.console.frame import Notice, page
from market.console.visitors import EXPERT, OPS, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.frauds.actions import (
    answer_fraud_case,
    appeal_fraud_case,
    decide_fraud_appeal,
    decide_fraud_case,
    open_fraud_case,
)
from market.frauds.models import FraudCase
from market.frauds.queries import fraud_case, fraud_cases
from market.frauds.rules import FRAUD_CASE, FraudCaseNotFound
from market.http import NotFound, page_of, principal_of_request, read_id, wire_id
from market.inbox.queries import own_zone
from market.people.queries import names_of
from market.recoveries.actions import answer_case
from market.recoveries.models import RecoveryCase
from market.recoveries.queries import case, cases
from market.recoveries.rules import SHORTEST_REASON
from market.submissions.models import Submission
from market.tasks.models import Task

PAGE = 25
HOMES = {Part.EXPERT: "/console/expert/cases", Part.OPS: "/console/ops/cases/frauds"}
MOVES = {Part.EXPERT: ("answer", "appeal"), Part.OPS: ("decide", "decide-appeal")}


def _works(session: Session, submission_ids: set[UUID]) -> dict[UUID, str]:
    """The names of the tasks that some submissions answered."""
    rows = session.execute(
        select(Submission.id, Task.external_id)
        .join(Task, Task.id == Submission.task_id)
        .where(Submission.id.in_(submission_ids))
    )
    return dict(rows.all())


@get("/cases/frauds", guards=OPS, sync_to_thread=True)
def get_list(
    request: Request[Any, Any, Any],
    ended: FromQuery[bool] = False,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Cases of fraud, newest first: those in which somebody may still speak, or the ended ones."""
    is_open = FraudCase.state.in_(("opened", "appealed")) | (
        (FraudCase.state == "upheld") & (FraudCase.decided_at > now() - APPEAL_WITHIN)
    )
    with database.begin(PLATFORM) as session:
        rows, following = page_of(
            session,
            fraud_cases().where(~is_open if ended else is_open),
            FraudCase.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"frauds {ended}",
        )
        return page(
            request,
            "ops/frauds.html",
            rows=rows,
            following=following,
            ended=ended,
            tasks=_works(session, {row.submission_id for row in rows}),
            names=names_of(session, {row.expert_id for row in rows}),
        )


@get("/cases", guards=EXPERT, sync_to_thread=True)
def get_own(request: Request[Any, Any, Any]) -> Template:
    """Cases about the visitor's own work and pay, newest first."""
    return _own(request)


def _own(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me = my_id(request)
    with database.begin() as session:
        # An expert sees the cases about its own work and pay only.
        rows = session.scalars(fraud_cases().order_by(FraudCase.id.desc()).limit(PAGE)).all()
        pay = session.scalars(cases().order_by(RecoveryCase.id.desc()).limit(PAGE)).all()
        zone = own_zone(session, me)
    # As the platform, for the names alone of what the visitor's own cases are about.
    with database.begin(PLATFORM) as session:
        return page(
            request,
            "expert/cases.html",
            status=status,
            notice=notice,
            rows=rows,
            pay=pay,
            tasks=_works(session, {row.submission_id for row in rows}),
            least=SHORTEST_REASON,
            typed=typed or {},
            zone=zone,
        )


@post("/cases/pay/{case_id:str}/answer", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_pay_answer(
    request: Request[Any, Any, Any], case_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Say one's side to a case about a line of pay; it is read before anything is decided."""
    found, said = read_id("rcv", case_id), field(data, "text")
    with database.begin() as session:
        # As the expert first: nobody else's case is there.
        case(session, found)

    def act() -> str:
        with database.begin(PLATFORM) as session:
            answer_case(session, found, text=said, at=now())
        return f"{HOMES[Part.EXPERT]}?said=fraud-answer"

    return tried(data, act, partial(_own, request, typed={**data, "of": case_id}))


def get_one(request: Request[Any, Any, Any], case_id: FromPath[str]) -> Template:
    """One case: what is claimed and shown, what its author says, what was decided and why."""
    return _one(request, read_id("frd", case_id))


def _one(
    request: Request[Any, Any, Any],
    case_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    principal, at = principal_of_request(request), now()
    is_ops, me = principal.part is Part.OPS, principal.person_id
    with database.begin() as session:
        row = fraud_case(session, case_id)
    moves = FRAUD_CASE.allowed(row.state)
    until = None if row.decided_at is None else row.decided_at + APPEAL_WITHIN
    # As the platform, for the names alone of what the visitor may see, and of nobody of ops
    # before their experts: a decision is the house's.
    with database.begin(PLATFORM) as session:
        people = {row.expert_id, row.opened_by, row.decided_by, row.final_by} if is_ops else set()
        return page(
            request,
            "fraud_case.html",
            status=status,
            notice=notice,
            row=row,
            home=HOMES[principal.part],
            is_ops=is_ops,
            task=_works(session, {row.submission_id}).get(row.submission_id, "a task"),
            names=names_of(session, people),
            may_answer=not is_ops and row.state == "opened",
            may_appeal=not is_ops and "appeal" in moves and until is not None and at <= until,
            may_decide=is_ops and row.state == "opened" and row.opened_by != me,
            may_end=is_ops and "overturn" in moves and me not in (row.opened_by, row.decided_by),
            appeal_until=until,
            least=SHORTEST_REASON,
            typed=typed or {},
            zone=own_zone(session, me),
        )


def post_move(
    request: Request[Any, Any, Any], case_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect | Template:
    """Answer a case about one's work or appeal its decision; decide either, as ops."""
    principal, found_id = principal_of_request(request), read_id("frd", case_id)
    part, me = principal.part, principal.person_id
    with database.begin() as session:
        # Only those who may see it go on; the moves themselves run as the platform.
        fraud_case(session, found_id)
    if move not in MOVES[part]:
        raise NotFound("move of a case", move[:64])
    said = field(data, "text")

    def act() -> str:
        at = now()
        # As the platform, because work, verdict and pay move with it.
        with database.begin(PLATFORM) as session:
            if move == "answer":
                answer_fraud_case(session, found_id, text=said, at=at)
            elif move == "appeal":
                appeal_fraud_case(session, found_id, person_id=me, note=said, at=at)
            elif move == "decide":
                is_upheld = _chosen(data, "uphold", "dismiss")
                decide_fraud_case(session, found_id, uphold=is_upheld, decision=said, by=me, at=at)
            else:
                is_lifted = _chosen(data, "overturn", "uphold")
                decide_fraud_appeal(
                    session, found_id, overturn=is_lifted, decision=said, by=me, at=at
                )
        return f"{HOMES[part]}/{case_id}?said=fraud-{move}"

    try:
        return once(data, act)
    except FraudCaseNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _one(request, found_id, status=status, notice=notice, typed=data)


def _chosen(data: Mapping[str, str], yes: str, no: str) -> bool:
    """Which of two outcomes was chosen; none is chosen for anybody.

    Raises:
        FormUnreadable.
    """
    if data.get("outcome") not in (yes, no):
        raise FormUnreadable("choose one of the two outcomes")
    return data["outcome"] == yes


@get("/cases/frauds/new", guards=OPS, sync_to_thread=True)
def get_new(request: Request[Any, Any, Any], submission: FromQuery[str] = "") -> Template:
    """A form to say that accepted work is a fraud."""
    return _new(request, {"submission": submission})


def _new(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    least = SHORTEST_REASON
    return page(
        request, "ops/fraud_new.html", status=status, notice=notice, least=least, typed=typed
    )


@post("/cases/frauds/new", guards=OPS, sync_to_thread=True, status_code=303)
def post_new(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Open a case; nothing changes by it until it is heard and decided by another person."""
    me = my_id(request)

    def act() -> str:
        shown = [one.strip() for one in field(data, "evidence").split("\n") if one.strip()]
        with database.begin(PLATFORM) as session:
            opened = open_fraud_case(
                session,
                read_id("sub", field(data, "submission")),
                reason=field(data, "reason"),
                evidence=shown,
                by=me,
                at=now(),
            )
            return f"{HOMES[Part.OPS]}/{wire_id('frd', opened.id)}?said=fraud-open"

    return tried(data, act, partial(_new, request, data))


def _of(path: str, part: list[Any]) -> list[HTTPRouteHandler]:
    """The pages that both sides have, behind their own guards."""
    one = path + "/{case_id:str}"
    return [
        get(one, guards=part, sync_to_thread=True)(get_one),
        post(one + "/{move:str}", guards=part, sync_to_thread=True, status_code=303)(post_move),
    ]


OPS_ROUTES: list[HTTPRouteHandler] = [get_list, get_new, post_new, *_of("/cases/frauds", OPS)]
EXPERT_ROUTES: list[HTTPRouteHandler] = [get_own, post_pay_answer, *_of("/cases", EXPERT)]
