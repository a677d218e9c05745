"""Pages from which ops and labs write to a cohort: counted before it is sent, then how it went."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.auth import Part
from market.console.forms import REFUSALS, Form, field, once, said_no
from market.console.frame import Notice, page
from market.console.visitors import LAB, OPS
from market.console.words import count
from market.db import PLATFORM, database, now
from market.expressions.models import CohortRow
from market.expressions.queries import newest_cohorts, read_expression
from market.expressions.rules import FEWEST_TOLD, told
from market.http import page_of, principal_of_request, read_id, wire_id
from market.language import from_json
from market.messages.actions import send_message
from market.messages.models import CohortMessage
from market.messages.queries import message, messages, reachable, reached
from market.messages.rules import MAX_CONTENT, MAX_SUBJECT

PAGE = 25
COHORTS = 12
"""Cohorts of a lab that stand beside the form, the newest."""

HOMES = {Part.OPS: "/console/ops/experts/messages", Part.LAB: "/console/lab/messages"}


def get_list(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """Messages that were sent, newest first, and a form to write one."""
    return _list(request, {}, cursor=cursor)


def _list(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    *,
    cursor: str | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    principal = principal_of_request(request)
    with database.begin() as session:
        rows, following = page_of(
            session,
            messages(),
            CohortMessage.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"{principal.tenant} messages",
        )
        # An expression may name a lab's own cohorts; ops have none, and would read those of all.
        named = newest_cohorts(principal.organisation_id).order_by(CohortRow.id.desc())
        cohorts = session.scalars(named.limit(COHORTS)).all() if principal.organisation_id else ()
        return page(
            request,
            "messages.html",
            status=status,
            notice=notice,
            rows=rows,
            following=following,
            home=HOMES[principal.part],
            cohorts=cohorts,
            sources={row.id: from_json(row.expression).source for row in rows},
            is_lab=principal.part is Part.LAB,
            most_subject=MAX_SUBJECT,
            most_content=MAX_CONTENT,
            typed=typed,
        )


def post_message(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Count whom a message would reach, or send it; the form says which of both."""
    try:
        if data.get("do") != "send":
            return _list(request, data, notice=_counted(request, field(data, "expression")))
        return once(data, lambda: _sent(request, data))
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _list(request, data, status=status, notice=notice)


def _counted(request: Request[Any, Any, Any], source: str) -> Notice:
    """How many a message would reach now, in words; a few are not told to a lab."""
    principal = principal_of_request(request)
    # As the platform, because people are counted whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        wanted = read_expression(session, principal.organisation_id, source)
        found = reachable(session, wanted.tree, principal.organisation_id, at=now())
    number = told(len(found), is_lab=principal.part is Part.LAB)
    if number is None:
        return Notice(f"It would reach fewer than {FEWEST_TOLD} people. Nothing was sent.")
    people = "1 person" if number == 1 else f"{count(number)} people"
    return Notice(f"It would reach {people} now. Nothing was sent.", "" if number else "warn")


def _sent(request: Request[Any, Any, Any], data: Mapping[str, str]) -> str:
    principal = principal_of_request(request)
    # As the platform, because people are told whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        made = send_message(
            session,
            field(data, "expression"),
            subject=field(data, "subject"),
            content=field(data, "content"),
            organisation_id=principal.organisation_id,
            by=principal.person_id,
            at=now(),
        )
        return f"{HOMES[principal.part]}/{wire_id('msg', made.id)}?said=message-sent"


def get_one(request: Request[Any, Any, Any], message_id: FromPath[str]) -> Template:
    """One message, whom it was for, and how its copies went in numbers."""
    principal = principal_of_request(request)
    with database.begin() as session:
        row = message(session, read_id("msg", message_id))
    # As the platform, because copies are their readers'; only numbers of the visitor's message.
    with database.begin(PLATFORM) as session:
        found = reached(session, row.id)
    is_lab = principal.part is Part.LAB
    numbers = (
        ("Told", found.told, "everybody once, in the inbox"),
        ("By e-mail", found.mailed, "at once, as they chose"),
        ("In a digest", found.in_digest, "waits for the next one"),
        ("Not delivered", found.failed, "letters that came back"),
        ("Read", found.read, "opened in the inbox"),
    )
    return page(
        request,
        "message.html",
        row=row,
        home=HOMES[principal.part],
        source=from_json(row.expression).source,
        numbers=[(name, told(number, is_lab=is_lab), said) for name, number, said in numbers],
        fewest=FEWEST_TOLD,
    )


def _of(path: str, part: list[Any]) -> list[HTTPRouteHandler]:
    """The pages that both parts have, behind their own guards."""
    return [
        get(path, guards=part, sync_to_thread=True)(get_list),
        post(path, guards=part, sync_to_thread=True, status_code=303)(post_message),
        get(path + "/{message_id:str}", guards=part, sync_to_thread=True)(get_one),
    ]


OPS_ROUTES: list[HTTPRouteHandler] = _of("/experts/messages", OPS)
LAB_ROUTES: list[HTTPRouteHandler] = _of("/messages", LAB)
