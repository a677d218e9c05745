"""Pages of ops for what waits for a person: dead letters, cases, webhooks; the audit trail."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select

from market.appeals.actions import assign_appeal, decide_appeal
from market.appeals.models import Appeal
from market.appeals.queries import appeals
from market.appeals.rules import OPEN
from market.audit.models import AuditEntry
from market.audit.queries import audit_entries, newest_link
from market.audit.rules import Access
from market.console.forms import Form
from market.console.frame import back_to, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.dead_letters import open_letters, settle_letter
from market.deliveries.models import WebhookDelivery, WebhookEndpoint
from market.events import EventRow, StateChange
from market.http import page_of, read_id
from market.people.models import Organisation
from market.people.queries import names_of
from market.recoveries.actions import decide_case
from market.recoveries.models import RecoveryCase
from market.recoveries.queries import cases

PAGE = 50
LATELY = timedelta(days=1)
NOBODY_ID = UUID(int=0)
"""Nobody's: what a text that is no id looks for."""


@post("/queues/{letter_id:str}/{action:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_letter(
    request: Request[Any, Any, Any], letter_id: FromPath[str], action: FromPath[str], data: Form
) -> Redirect:
    """Queue a dead job once more, or drop it with a reason."""
    reason = data.get("note", "").strip()[:500]
    if action not in ("replay", "drop"):
        raise FormUnreadable("a dead letter is queued once more or dropped")
    if action == "drop" and not reason:
        raise FormUnreadable("say why the job is dropped")
    with database.begin() as session:
        (letter,) = open_letters(session, [read_id("dlt", letter_id)])
        settle_letter(
            session,
            letter,
            "replay" if action == "replay" else "drop",
            reason=reason,
            by=my_id(request),
            at=now(),
        )
    return back_to("/console/ops/queues", f"letter-{action}")


@get("/cases", guards=OPS, sync_to_thread=True)
def get_cases(
    request: Request[Any, Any, Any],
    ended: FromQuery[bool] = False,
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Appeals with their clocks, and cases about pay that was wrong."""
    del said
    with database.begin(PLATFORM) as session:
        is_open = Appeal.state.in_(OPEN)
        rows, following = page_of(
            session,
            appeals().where(~is_open if ended else is_open),
            Appeal.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"appeals {ended}",
        )
        wanted = RecoveryCase.state != "opened" if ended else RecoveryCase.state == "opened"
        pay = session.scalars(
            cases().where(wanted).order_by(RecoveryCase.id.desc()).limit(PAGE)
        ).all()
        people: set[UUID | None] = {row.person_id for row in rows}
        people |= {row.decider_id for row in rows} | {row.expert_id for row in pay}
        people |= {row.opened_by for row in pay} | {row.decided_by for row in pay}
        return page(
            request,
            "ops/cases.html",
            appeals=rows,
            pay=pay,
            ended=ended,
            following=following,
            names=names_of(session, people),
            me=my_id(request),
        )


@post("/cases/appeals/{appeal_id:str}/{move:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_appeal(
    request: Request[Any, Any, Any], appeal_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect:
    """Take an appeal on, or decide one that you took on."""
    found_id, at = read_id("apl", appeal_id), now()
    share = data.get("share", "").strip()
    if share and not (share.isascii() and share.isdecimal() and len(share) <= 3):
        raise FormUnreadable("the share is a whole number of per cent")
    with database.begin() as session:
        if move == "take":
            assign_appeal(session, found_id, decider_id=my_id(request), at=at)
        elif move == "decide" and data.get("outcome") in ("uphold", "overturn", "overturn_partly"):
            decide_appeal(
                session,
                found_id,
                data["outcome"],
                decider_id=my_id(request),
                decision=data.get("note", ""),
                share=int(share) if share else None,
                at=at,
            )
        else:
            raise FormUnreadable("an appeal is taken, upheld, overturned or overturned in part")
    return back_to("/console/ops/cases", f"appeal-{move}")


@post("/cases/pay/{case_id:str}/decide", guards=OPS, sync_to_thread=True, status_code=303)
def post_case(request: Request[Any, Any, Any], case_id: FromPath[str], data: Form) -> Redirect:
    """Decide a case about pay that another person opened."""
    if data.get("outcome") not in ("uphold", "dismiss"):
        raise FormUnreadable("a case is upheld or dismissed")
    with database.begin() as session:
        decide_case(
            session,
            read_id("rcv", case_id),
            uphold=data["outcome"] == "uphold",
            decision=data.get("note", ""),
            by=my_id(request),
            at=now(),
        )
    return back_to("/console/ops/cases", "case-decide")


@get("/audit", guards=OPS, sync_to_thread=True)
def get_audit(
    request: Request[Any, Any, Any],
    of: FromQuery[str] = "",
    about: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Everything that happened, newest first: of one kind, or about one thing, with its moves."""
    kind, subject = of.strip()[:100], _subject(about.strip())
    wanted = select(EventRow)
    if kind:
        wanted = wanted.where(EventRow.type == kind)
    if about.strip():
        wanted = wanted.where(EventRow.subject_id == subject)
    with database.begin() as session:
        rows, following = page_of(
            session,
            wanted,
            EventRow.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"audit {kind} {subject}",
        )
        moves = (
            session.scalars(
                select(StateChange)
                .where(StateChange.subject_id == subject)
                .order_by(StateChange.id.desc())
                .limit(PAGE)
            ).all()
            if about.strip()
            else []
        )
        people = {row.actor_id for row in rows} | {row.person_id for row in rows}
        return page(
            request,
            "ops/audit.html",
            rows=rows,
            moves=moves,
            of=kind,
            about=about.strip(),
            following=following,
            names=names_of(session, people | {move.actor_id for move in moves}),
        )


@get("/audit/accesses", guards=OPS, sync_to_thread=True)
def get_accesses(
    request: Request[Any, Any, Any],
    of: FromQuery[str] = "",
    about: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Who was told of whom and what ops asked for, newest first: of one kind, about one person."""
    wanted = audit_entries(
        kind=of or None,
        person_id=(_subject(about.strip()) or NOBODY_ID) if about.strip() else None,
    )
    with database.begin() as session:
        rows, following = page_of(
            session,
            wanted,
            AuditEntry.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"accesses {of} {about}",
        )
        last = newest_link(session)
        people = {row.actor_id for row in rows} | {one for row in rows for one in row.people}
        return page(
            request,
            "ops/accesses.html",
            rows=rows,
            of=of,
            about=about.strip(),
            following=following,
            kinds=tuple(Access),
            last=last,
            names=names_of(session, people),
        )


def _subject(text: str) -> UUID | None:
    """The id that a reader typed, with its prefix or without; nothing has no id."""
    try:
        return UUID(text.rpartition("_")[2])
    except ValueError:
        return None


@get("/webhooks", guards=OPS, sync_to_thread=True)
def get_webhooks(request: Request[Any, Any, Any]) -> Template:
    """Whether those who listen can hear: every endpoint, and its last day."""
    with database.begin(PLATFORM) as session:
        endpoints = session.scalars(
            select(WebhookEndpoint)
            .where(WebhookEndpoint.removed_at.is_(None))
            .order_by(WebhookEndpoint.state.desc(), WebhookEndpoint.id.desc())
            .limit(PAGE)
        ).all()
        counts: dict[UUID, dict[str, int]] = {}
        for endpoint_id, state, number in session.execute(
            select(WebhookDelivery.endpoint_id, WebhookDelivery.state, func.count())
            .where(
                WebhookDelivery.endpoint_id.in_([row.id for row in endpoints]),
                WebhookDelivery.created_at > now() - LATELY,
            )
            .group_by(WebhookDelivery.endpoint_id, WebhookDelivery.state)
        ):
            counts.setdefault(endpoint_id, {})[state] = number
        tenants = [row.tenant_id for row in endpoints]
        owners = session.execute(
            select(Organisation.id, Organisation.name).where(Organisation.id.in_(tenants))
        )
        return page(
            request,
            "ops/webhooks.html",
            endpoints=endpoints,
            counts=counts,
            owners={**names_of(session, set(tenants)), **dict(owners.all())},
        )


ROUTES: list[HTTPRouteHandler] = [
    post_letter,
    get_cases,
    post_appeal,
    post_case,
    get_audit,
    get_accesses,
    get_webhooks,
]
