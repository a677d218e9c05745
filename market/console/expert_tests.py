"""Where an expert sits a test: the invitation with its pay, item by item, and what it came to."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.admissions.models import Admission
from market.admissions.queries import admissions, place_of
from market.appeals.actions import file_appeal
from market.appeals.models import Appeal
from market.appeals.rules import MIN_NOTE
from market.console.forms import REFUSALS, Form, field, go, once, said_no, whole_number
from market.console.frame import Notice, page
from market.console.visitors import EXPERT, my_id
from market.db import PLATFORM, database, now
from market.http import read_id, wire_id
from market.inbox.queries import own_zone
from market.item_banks.models import BankItem, ItemFlag
from market.qualifications.models import Qualification
from market.qualifications.queries import qualification, qualifications
from market.qualifications.rules import QualificationNotFound
from market.sitting_pay.queries import paid_for
from market.sittings.actions import answer_item, challenge_item, put_item, start_sitting
from market.sittings.models import Sitting
from market.sittings.queries import prospects_of, sitting, sittings, steps_of, topics_of
from market.sittings.rules import (
    GRACE,
    MAX_ANSWER,
    MIN_CHALLENGE,
    SITTING_FOR,
    SITTINGS_EACH,
    SittingNotFound,
)

HOME = "/console/expert/tests"
SHOWN = 30
"""Tests of one person that its page lists, the newest."""

CAME_TO = {
    "passed": "You are above what was asked",
    "failed": "You are below what was asked",
    "borderline": "The answers cannot tell",
    "thin": "Too few answers to tell",
    "pilot": "A trial of the items",
}


def _address(sitting_id: UUID) -> str:
    return f"{HOME}/sittings/{wire_id('sit', sitting_id)}"


@get("/tests", guards=EXPERT, sync_to_thread=True)
def get_tests(request: Request[Any, Any, Any]) -> Template:
    """Tests that the visitor is invited to, with what they pay, and those that it sat."""
    return _tests(request)


def _tests(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me, at = my_id(request), now()
    # As the platform, since a place is counted among others; only the visitor's own is told.
    with database.begin(PLATFORM) as session:
        applied = session.scalars(
            admissions(person_id=me).order_by(Admission.id.desc()).limit(SHOWN)
        ).all()
        places = {
            one.id: place_of(session, one, at=at) for one in applied if one.state == "waiting"
        }
    with database.begin() as session:
        asked = session.scalars(
            qualifications(person_id=me).order_by(Qualification.id.desc()).limit(SHOWN)
        ).all()
        mine = select(Appeal).where(Appeal.person_id == me, Appeal.kind == "qualification")
        sat: dict[UUID, list[Sitting]] = {}
        for row in session.scalars(sittings(person_id=me).order_by(Sitting.id)):
            sat.setdefault(row.qualification_id, []).append(row)
        return page(
            request,
            "expert/tests.html",
            applied=applied,
            places=places,
            turns={
                which: at + timedelta(days=one.turn.median_d)
                for which, one in places.items()
                if one.turn is not None
            },
            status=status,
            notice=notice,
            asked=asked,
            sat=sat,
            open={which: rows[-1] for which, rows in sat.items() if rows[-1].state == "open"},
            appeals={one.subject_id: one for one in session.scalars(mine)},
            most=SITTINGS_EACH,
            lasts_s=int(SITTING_FOR.total_seconds()),
            least=MIN_NOTE,
            came_to=CAME_TO,
            typed=typed or {},
            zone=own_zone(session, me),
        )


@post(
    "/tests/{qualification_id:str}/{move:str}", guards=EXPERT, sync_to_thread=True, status_code=303
)
def post_test(
    request: Request[Any, Any, Any],
    qualification_id: FromPath[str],
    move: FromPath[str],
    data: Form,
) -> Redirect | Template:
    """Sit down to a test that one was invited to, or appeal what was decided by it."""
    found, me = read_id("qua", qualification_id), my_id(request)
    if move not in ("start", "appeal"):
        raise QualificationNotFound(found)

    def act() -> str:
        # As the platform, which alone reads banks; the actions take only the visitor's own.
        with database.begin(PLATFORM) as session:
            if move == "appeal":
                note = field(data, "note")
                file_appeal(session, "qualification", found, person_id=me, note=note, at=now())
                return f"{HOME}?said=appealed"
            return f"{_address(start_sitting(session, found, person_id=me, at=now()).id)}?said=sat"

    try:
        return once(data, act)
    except QualificationNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _tests(request, status=status, notice=notice, typed={**data, "of": qualification_id})


@get("/tests/sittings/{sitting_id:str}", guards=EXPERT, sync_to_thread=True)
def get_sitting(request: Request[Any, Any, Any], sitting_id: FromPath[str]) -> Template:
    """A sitting: the item that is open with its clock, or what it came to.

    Looking puts no item and ends none, so that a page that is read again starts no clock.
    """
    return _sitting(request, read_id("sit", sitting_id))


def _sitting(
    request: Request[Any, Any, Any],
    sitting_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me, at = my_id(request), now()
    with database.begin() as session:
        # As the expert first: nobody else's sitting is there.
        row = sitting(session, sitting_id)
        asked = qualification(session, row.qualification_id)
        zone = own_zone(session, me)
    is_over = row.state != "open"
    # As the platform, which alone reads items; whose sitting it is was seen above.
    with database.begin(PLATFORM) as session:
        steps = steps_of(session, row.id)
        last = steps[-1] if steps and steps[-1].closed_at is None else None
        # Items that others are asked, too, are told while they are open, and to be challenged.
        told = steps if is_over else steps[-1:] if last else []
        shown = {one.item_id for one in told}
        flags = session.scalars(
            select(ItemFlag).where(ItemFlag.person_id == me, ItemFlag.item_id.in_(shown))
        )
        return page(
            request,
            "expert/sitting.html",
            status=status,
            notice=notice,
            row=row,
            asked=asked,
            base=_address(row.id),
            is_over=is_over,
            open_step=last,
            is_late=last is not None and at > last.due_at + GRACE,
            is_time_over=not is_over and at >= row.ends_at,
            steps=steps,
            items={
                one.id: one
                for one in session.scalars(select(BankItem).where(BankItem.id.in_(shown)))
            },
            challenged={one.item_id: one for one in flags},
            topics=topics_of(session, row.id) if is_over else [],
            ahead=prospects_of(session, row),
            paid=paid_for(session, [row.id]),
            came_to=CAME_TO,
            most=MAX_ANSWER,
            least=MIN_CHALLENGE,
            typed=typed or {},
            zone=zone,
        )


@post(
    "/tests/sittings/{sitting_id:str}/{move:str}",
    guards=EXPERT,
    sync_to_thread=True,
    status_code=303,
)
def post_sitting(
    request: Request[Any, Any, Any], sitting_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect | Template:
    """Take the next item, answer the open one, or say that the key of one is wrong.

    Asking for the next item and answering come to the same however often they are sent.
    """
    found, me = read_id("sit", sitting_id), my_id(request)
    if move not in ("next", "answer", "challenge"):
        raise SittingNotFound(found)
    try:
        if move == "challenge":
            return once(data, lambda: _challenge(data, found, me))
        at, home = now(), _address(found)
        # As the platform, which alone reads items; the actions take only the visitor's own.
        with database.begin(PLATFORM) as session:
            if move == "answer":
                knows = data.get("unknown") != "yes"
                answer_item(
                    session,
                    found,
                    _step(data),
                    field(data, "answer") if knows else None,
                    person_id=me,
                    at=at,
                )
            if move == "next" or data.get("then") != "rest":
                put_item(session, found, person_id=me, at=at)
        return go(home)
    except SittingNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _sitting(request, found, status=status, notice=notice, typed=data)


def _challenge(data: Mapping[str, str], sitting_id: UUID, me: UUID) -> str:
    with database.begin(PLATFORM) as session:
        note = field(data, "note")
        challenge_item(session, sitting_id, _step(data), note, person_id=me, at=now())
    return f"{_address(sitting_id)}?said=challenged"


def _step(data: Mapping[str, str]) -> int:
    return whole_number(data, "step", "the item", least=1, most=1000, absent=0)


ROUTES: list[HTTPRouteHandler] = [get_tests, post_test, get_sitting, post_sitting]
