"""Where a lab contests hours that wait for its approval: only that part of the pay waits."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect, Template

from market.claims.actions import Opening, contest_hours
from market.console.forms import REFUSALS, Form, field, lines, once, said_no
from market.console.frame import Notice, page
from market.console.visitors import LAB, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.disputes.rules import LAB_REASONS, MIN_STATEMENT
from market.http import read_id, wire_id
from market.offers.queries import offer
from market.offers.rules import OfferNotFound
from market.tasks.models import Task
from market.time_entries.queries import time_entries
from market.work.models import TimeEntry


def _own_time(offer_id: UUID) -> list[TimeEntry]:
    """The recorded time of an offer on the lab's own projects.

    Raises:
        OfferNotFound.
    """
    with database.begin() as session:
        # A lab sees the time on its own projects only.
        found = list(time_entries(session, offer_id))
    if not found:
        raise OfferNotFound(offer_id)
    return found


def _form(
    request: Request[Any, Any, Any],
    offer_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    entries = _own_time(offer_id)
    # As the platform, because offers are their experts'; only the name of the lab's own task.
    with database.begin(PLATFORM) as session:
        task = session.get_one(Task, offer(session, offer_id).task_id)
    first, last = entries[0].during.lower, entries[-1].during.upper
    return page(
        request,
        "lab/contest.html",
        status=status,
        notice=notice,
        offer_id=offer_id,
        task=task,
        entries=entries,
        reasons=LAB_REASONS,
        least=MIN_STATEMENT,
        typed={
            "starts_at": f"{first:%Y-%m-%dT%H:%M:%S}" if first else "",
            "ends_at": f"{last:%Y-%m-%dT%H:%M:%S}" if last else "",
            **(typed or {}),
        },
    )


@get("/hours/{offer_id:str}/contest", guards=LAB, sync_to_thread=True)
def get_contest(request: Request[Any, Any, Any], offer_id: FromPath[str]) -> Template:
    """What was recorded on a task, and a form to say what of it is wrong."""
    return _form(request, read_id("ofr", offer_id))


@post("/hours/{offer_id:str}/contest", guards=LAB, sync_to_thread=True, status_code=303)
def post_contest(
    request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Contest some of the time; the expert answers, and a person decides."""
    found_id, me = read_id("ofr", offer_id), my_id(request)

    def act() -> str:
        _own_time(found_id)
        opening = Opening(
            _moment(data, "starts_at", "the beginning"),
            _moment(data, "ends_at", "the end"),
            field(data, "reason_code"),
            field(data, "statement"),
            lines(data, "evidence"),
        )
        # As the platform, because lines of pay and their money move with it.
        with database.begin(PLATFORM) as session:
            made = contest_hours(session, found_id, opening, actor_id=me, at=now())
            return f"/console/lab/disputes/{wire_id('dsp', made.id)}?said=contested"

    try:
        return once(data, act)
    except OfferNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _form(request, found_id, status=status, notice=notice, typed=data)


def _moment(data: Mapping[str, str], name: str, label: str) -> datetime:
    """A moment in UTC, as the page shows them.

    Raises:
        FormUnreadable.
    """
    try:
        typed = datetime.fromisoformat(field(data, name))
    except ValueError:
        raise FormUnreadable(f"{label} is a day and a time, such as 2026-03-31 14:05") from None
    return typed if typed.tzinfo else typed.replace(tzinfo=UTC)


ROUTES: list[HTTPRouteHandler] = [get_contest, post_contest]
