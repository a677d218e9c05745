"""Pages of ops about one person: who it is, what it may do, its work, standing and pay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Template
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from market.auth import Part, ScopeMissing, tell_of
from market.console.forms import REFUSALS, Form, field, said_no
from market.console.frame import Notice, page
from market.console.visitors import OPS, FormUnreadable
from market.db import database, now
from market.earnings.models import Earning
from market.experts.models import Expert, Measure
from market.experts.queries import domains_of, paces_of, tiers_of
from market.http import principal_of_request, read_id
from market.offers.models import Offer
from market.people.actions import grant_part, make_key
from market.people.models import Membership, Person
from market.people.queries import person
from market.people.rules import DEFAULT_KEY_DAYS, PersonNotFound, scopes_of
from market.standings.queries import measures_of
from market.submissions.models import Submission
from market.tasks.models import Task

LATEST = 20
FOUND = 50
HANDED_OUT = (Part.EXPERT, Part.REVIEWER)
"""Parts that a page hands out; ops are made from the command line, labs by signing up."""


@dataclass(frozen=True, slots=True)
class Found:
    """Somebody whose name or address has what was looked for, and what it may do here."""

    person: Person
    parts: list[str]


def people_like(session: Session, text: str) -> list[Found]:
    """People by a part of their name or address, by name; some at most."""
    some = session.scalars(
        select(Person)
        .where(
            or_(
                Person.name.icontains(text, autoescape=True),
                Person.email.icontains(text, autoescape=True),
            )
        )
        .order_by(Person.name, Person.id)
        .limit(FOUND)
    ).all()
    tell_of(*(one.id for one in some))
    parts = _parts_of(session, [one.id for one in some])
    return [Found(one, parts[one.id]) for one in some]


def _parts_of(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {one: [] for one in ids}
    for row in session.execute(
        select(Membership.person_id, Membership.part)
        .where(Membership.person_id.in_(ids), Membership.ended_at.is_(None))
        .order_by(Membership.part)
    ):
        found[row.person_id].append(row.part)
    return found


def _person(
    request: Request[Any, Any, Any],
    person_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    secret: str = "",
    given: str = "",
) -> Template:
    at = now()
    with database.begin() as session:
        found = person(session, person_id)
        if found is None:
            raise PersonNotFound(person_id)
        tell_of(person_id)
        expert = session.get(Expert, person_id)
        offers = session.execute(
            select(Offer, Task.external_id)
            .join(Task, Task.id == Offer.task_id)
            .where(Offer.expert_id == person_id)
            .order_by(Offer.id.desc())
            .limit(LATEST)
        ).all()
        submissions = session.execute(
            select(Submission.state, func.count())
            .where(Submission.expert_id == person_id)
            .group_by(Submission.state)
            .order_by(func.count().desc(), Submission.state)
        ).all()
        earned = session.execute(
            select(Earning.currency, func.sum(Earning.pay_minor), func.sum(Earning.seconds))
            .where(Earning.expert_id == person_id)
            .group_by(Earning.currency)
            .order_by(Earning.currency)
        ).all()
        return page(
            request,
            "ops/person.html",
            status=status,
            notice=notice,
            person=found,
            parts=_parts_of(session, [person_id])[person_id],
            expert=expert,
            tier=tiers_of(session, [person_id], at).get(person_id),
            pace=paces_of(session, [person_id]).get(person_id),
            domains=domains_of(session, [person_id])[person_id],
            measures=session.scalars(
                measures_of(person_id).order_by(Measure.id.desc()).limit(LATEST)
            ).all(),
            offers=offers,
            submissions=submissions,
            earned=earned,
            handed_out=HANDED_OUT,
            secret=secret,
            given=given,
        )


@get("/people/{person_id:str}", guards=OPS, sync_to_thread=True)
def get_person(request: Request[Any, Any, Any], person_id: FromPath[str]) -> Template:
    """One person, with all that ops ask about first."""
    return _person(request, read_id("per", person_id))


@post("/people/{person_id:str}/parts", guards=OPS, sync_to_thread=True, status_code=200)
def post_part(request: Request[Any, Any, Any], person_id: FromPath[str], data: Form) -> Template:
    """Let a person play a part, with a new key for it: shown on the next page, once."""
    principal, found = principal_of_request(request), read_id("per", person_id)
    try:
        if "people:write" not in principal.scopes:
            raise ScopeMissing("people:write", principal.part)
        if field(data, "part") not in {part.value for part in HANDED_OUT}:
            raise FormUnreadable("a person is made an expert or a reviewer")
        part = Part(field(data, "part"))
        with database.begin() as session:
            at = now()
            membership = grant_part(session, found, part, organisation_id=None, at=at)
            _, secret = make_key(
                session,
                membership,
                name=f"{part.value} key from ops",
                scopes=scopes_of(part),
                days=DEFAULT_KEY_DAYS,
                at=at,
            )
    except PersonNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _person(request, found, status=status, notice=notice)
    return _person(request, found, secret=secret, given=part.value)


ROUTES: list[HTTPRouteHandler] = [get_person, post_part]
