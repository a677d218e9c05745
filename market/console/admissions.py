"""Pages of admissions: an expert applies and reads its place; ops see the queue and may cut it."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select

from market.admissions.actions import admit_out_of_turn, apply_for_admission, leave_queue
from market.admissions.models import Admission
from market.admissions.queries import admission, admissions, domain_forecast, terms_in_force
from market.admissions.rules import MIN_REASON, OPEN
from market.console.forms import REFUSALS, Form, field, once, said_no
from market.console.frame import Notice, back_to, page
from market.console.visitors import EXPERT, OPS, my_id
from market.db import PLATFORM, database, now
from market.http import page_of, read_id
from market.people.queries import names_of

HOME = "/console/ops/experts/admissions"
MINE = "/console/expert/tests"
PAGE = 50


@post("/admissions", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_application(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Apply to be taken on in a field."""
    # As the platform, because work, hands and others' applications are counted.
    with database.begin(PLATFORM) as session:
        apply_for_admission(session, my_id(request), field(data, "domain").strip(), at=now())
    return back_to(MINE, "applied")


@post("/admissions/{admission_id:str}/leave", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_leave(
    request: Request[Any, Any, Any], admission_id: FromPath[str], data: Form
) -> Redirect:
    """Take an application back."""
    del data
    found, me = read_id("adm", admission_id), my_id(request)
    with database.begin() as session:
        admission(session, found)
    with database.begin(PLATFORM) as session:
        leave_queue(session, found, person_id=me, at=now())
    return back_to(MINE, "saved")


@get("/experts/admissions", guards=OPS, sync_to_thread=True)
def get_queue(
    request: Request[Any, Any, Any],
    of: FromQuery[str] = "waiting",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Who waits for which field, what its work and hands are forecast to be, what is promised."""
    return _queue(request, of=of, cursor=cursor)


def _queue(
    request: Request[Any, Any, Any],
    *,
    of: str = "waiting",
    cursor: str | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    at = now()
    with database.begin() as session:
        terms = terms_in_force(session, at)
        rows, following = page_of(
            session,
            admissions(state=of),
            Admission.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"admissions {of}",
            newest_first=of != "waiting",
        )
        open_in = session.execute(
            select(Admission.domain, func.count())
            .where(Admission.state.in_(OPEN))
            .group_by(Admission.domain)
            .order_by(func.count().desc(), Admission.domain)
            .limit(PAGE)
        ).all()
        fields = []
        for domain, people in open_in:
            found = domain_forecast(session, domain, at=at)
            work_h = found.work_s(terms.horizon_d) / 3600
            room_h = found.room_s(terms) / 3600
            fields.append((domain, people, work_h, found.capacity_s / 3600, room_h))
        return page(
            request,
            "ops/admissions.html",
            status=status,
            notice=notice,
            of=of,
            rows=rows,
            following=following,
            fields=fields,
            terms=terms,
            least=MIN_REASON,
            names=names_of(session, {row.person_id for row in rows}),
        )


@post("/experts/admissions/{admission_id:str}/admit", guards=OPS, sync_to_thread=True)
def post_admit(
    request: Request[Any, Any, Any], admission_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Admit somebody out of turn, for a reason."""
    me = my_id(request)

    def act() -> str:
        with database.begin() as session:
            admit_out_of_turn(
                session,
                read_id("adm", admission_id),
                reason=field(data, "reason"),
                actor_id=me,
                at=now(),
            )
        return f"{HOME}?said=admitted"

    try:
        return once(data, act)
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _queue(request, status=status, notice=notice)


EXPERT_ROUTES: list[HTTPRouteHandler] = [post_application, post_leave]
OPS_ROUTES: list[HTTPRouteHandler] = [get_queue, post_admit]
