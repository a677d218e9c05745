"""Admissions, over HTTP: applying, one's place and why, what is promised, and what ops decide."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.admissions.actions import (
    admit_out_of_turn,
    apply_for_admission,
    leave_queue,
    publish_terms,
)
from market.admissions.models import Admission
from market.admissions.queries import (
    admission,
    admissions,
    domain_forecast,
    place_of,
    terms_in_force,
)
from market.admissions.rules import AdmissionUnfit, Terms
from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.experts.rules import is_domain
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
    wire_ids,
)

Why = Annotated[str, Meta(max_length=2000)]


class AdmissionIn(Wire):
    """The field in which you want to be taken on."""

    domain: Annotated[str, Meta(max_length=120)]


class OutOfTurnIn(Wire):
    """Why somebody is admitted whatever the forecast says."""

    reason: Why


class TermsIn(Wire):
    """Terms of admission: `guarantee_s` seconds at the published rate of tests, or `fee_minor`."""

    load: float
    horizon_d: int
    within_d: int
    guarantee_s: int
    fee_minor: int
    budget_minor: int
    pass_score: int
    note: Why


class TermsOut(Wire):
    """Under what people are taken on: hours for `load` of the forecast work; first work within
    `within_d` days of the test, or `guarantee_s` at the published rate of tests, or `fee_minor`.
    """

    load: float
    horizon_d: int
    within_d: int
    guarantee_s: int
    fee_minor: int
    budget_minor: int
    pass_score: int


class PlaceOut(Wire):
    """Where an application stands and why; when its turn may come, as likely as not by
    `expected_at`, at the pace of the last four weeks; null where nobody was admitted in them.
    """

    position: int
    work_hours_a_week: float
    capacity_hours_a_week: float
    sentence: str
    expected_at: datetime | None
    not_before: datetime | None


class AdmissionOut(Wire):
    """One application: its state, its place while it waits, and what is promised since."""

    id: str
    person_id: str
    domain: str
    weekly_hours: int
    state: str
    asked_at: datetime
    decided_at: datetime | None
    reason: str | None
    qualification_id: str | None
    guarantee_minor: int | None
    currency: str | None
    within_d: int | None
    due_at: datetime | None
    settled_at: datetime | None
    place: PlaceOut | None


class DomainForecastOut(Wire):
    """The work of a week in a field, at the low end of the record, and the hours of who is there.

    `room_hours` are those for which somebody may be admitted; below nought there are too many.
    """

    domain: str
    work_hours_a_week: float
    waiting_hours: float
    capacity_hours_a_week: float
    room_hours: float
    experts: int


@post("/admissions", scope="profile:write", status_code=HTTP_201_CREATED, tags=["Admissions"])
def post_admission(
    data: JSONBody[AdmissionIn], principal: NamedDependency[Principal]
) -> AdmissionOut:
    """Apply to be taken on in a field: at once where there is work for you, else in your turn."""
    # As the platform, because work, hands and others' applications are counted.
    with database.begin(PLATFORM) as session:
        made = apply_for_admission(session, principal.person_id, data.domain, at=now())
        return _out(session, made, at=now())


@get("/admissions", scope="qualification:read", tags=["Admissions"])
def get_admissions(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AdmissionOut]:
    """Applications, newest first: your own, or all of them as ops; places are told one by one."""
    # As the platform, since reviewers have no rows of their own here; only your own are told.
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            admissions(person_id=_whose(principal), state=in_state),
            Admission.id,
            lambda row: _out(None, row, at=now()),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|admissions|{in_state}",
        )


@get("/admissions/{admission_id:str}", scope="qualification:read", tags=["Admissions"])
def get_admission(
    admission_id: FromPath[str], principal: NamedDependency[Principal]
) -> AdmissionOut:
    """One application, with its place in the queue while it waits, and why."""
    found = read_id("adm", admission_id)
    # As the platform, since a place is counted among others; only your own is told.
    with database.begin(PLATFORM) as session:
        row = admission(session, found, person_id=_whose(principal))
        return _out(session, row, at=now())


@post(
    "/admissions/{admission_id:str}/leave",
    scope="profile:write",
    status_code=HTTP_200_OK,
    tags=["Admissions"],
)
def post_leave(admission_id: FromPath[str], principal: NamedDependency[Principal]) -> AdmissionOut:
    """Take an application back while it waits."""
    found = read_id("adm", admission_id)
    with database.begin() as session:
        admission(session, found)
    with database.begin(PLATFORM) as session:
        row = leave_queue(session, found, person_id=principal.person_id, at=now())
        return _out(session, row, at=now())


@post(
    "/admissions/{admission_id:str}/admit",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Admissions"],
)
def post_out_of_turn(
    admission_id: FromPath[str],
    data: JSONBody[OutOfTurnIn],
    principal: NamedDependency[Principal],
) -> AdmissionOut:
    """Admit somebody out of turn; the reason is kept, and the promise is the same."""
    with database.begin(PLATFORM) as session:
        row = admit_out_of_turn(
            session,
            read_id("adm", admission_id),
            reason=data.reason,
            actor_id=principal.person_id,
            at=now(),
        )
        return _out(session, row, at=now())


@get("/admission-forecast", scope="expert:read", tags=["Admissions"])
def get_forecast(domain: FromQuery[str]) -> DomainForecastOut:
    """What a field's work and hands are forecast to be, and for how many hours there is room."""
    if not is_domain(domain):
        raise AdmissionUnfit("domain", "a domain, such as chemistry.organic")
    at = now()
    with database.begin(PLATFORM) as session:
        terms = terms_in_force(session, at)
        found = domain_forecast(session, domain, at=at)
        return DomainForecastOut(
            domain=domain,
            work_hours_a_week=round(found.work_s(terms.horizon_d) / 3600, 1),
            waiting_hours=round(found.backlog_s / 3600, 1),
            capacity_hours_a_week=round(found.capacity_s / 3600, 1),
            room_hours=round(found.room_s(terms) / 3600, 1),
            experts=found.experts,
        )


@get("/admission-terms", scope="qualification:read", tags=["Admissions"])
def get_terms() -> TermsOut:
    """Under what people are taken on now."""
    with database.begin(PLATFORM) as session:
        return _terms_out(terms_in_force(session, now()))


@post("/admission-terms", scope="pay:write", status_code=HTTP_201_CREATED, tags=["Admissions"])
def post_terms(data: JSONBody[TermsIn], principal: NamedDependency[Principal]) -> TermsOut:
    """Publish terms of admission; promises made before stand."""
    terms = Terms(
        load=data.load,
        horizon_d=data.horizon_d,
        within_d=data.within_d,
        guarantee_s=data.guarantee_s,
        fee_minor=data.fee_minor,
        budget_minor=data.budget_minor,
        pass_score=data.pass_score,
    )
    with database.begin(PLATFORM) as session:
        publish_terms(session, terms, note=data.note, at=now(), actor_id=principal.person_id)
    return _terms_out(terms)


def _whose(principal: Principal) -> UUID | None:
    return None if principal.part is Part.OPS else principal.person_id


def _terms_out(terms: Terms) -> TermsOut:
    return TermsOut(
        load=terms.load,
        horizon_d=terms.horizon_d,
        within_d=terms.within_d,
        guarantee_s=terms.guarantee_s,
        fee_minor=terms.fee_minor,
        budget_minor=terms.budget_minor,
        pass_score=terms.pass_score,
    )


def _place(session: Session | None, row: Admission, at: datetime) -> PlaceOut | None:
    if session is None or row.state != "waiting":
        return None
    found = place_of(session, row, at=at)
    return PlaceOut(
        position=found.position,
        work_hours_a_week=round(found.work_s / 3600, 1),
        capacity_hours_a_week=round(found.capacity_s / 3600, 1),
        sentence=found.sentence,
        expected_at=None if found.turn is None else at + timedelta(days=found.turn.median_d),
        not_before=None if found.turn is None else at + timedelta(days=found.turn.low_d),
    )


def _out(session: Session | None, row: Admission, *, at: datetime) -> AdmissionOut:
    return AdmissionOut(
        id=wire_id("adm", row.id),
        person_id=wire_id("per", row.person_id),
        domain=row.domain,
        weekly_hours=row.weekly_hours,
        state=row.state,
        asked_at=row.asked_at,
        decided_at=row.decided_at,
        reason=row.reason,
        qualification_id=wire_ids("qua", row.qualification_id),
        guarantee_minor=row.guarantee_minor,
        currency=row.currency,
        within_d=row.within_d,
        due_at=row.due_at,
        settled_at=row.settled_at,
        place=_place(session, row, at),
    )


ROUTES: list[HTTPRouteHandler] = [
    post_admission,
    get_admissions,
    get_admission,
    post_leave,
    post_out_of_turn,
    get_forecast,
    get_terms,
    post_terms,
]
