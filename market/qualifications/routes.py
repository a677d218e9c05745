"""Qualifications, over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
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
    read_ids,
    wire_id,
)
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
    regrade_qualification,
    revoke_qualification,
    set_sitting_rate,
)
from market.qualifications.models import Qualification, SittingRate
from market.qualifications.queries import qualification, qualifications, sitting_rate

Score = Annotated[int, Meta(ge=0, le=100)]
Evidence = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=50)
]


class QualificationIn(Wire):
    """Who is asked to which test; `domain` or `review_level`, one of the two.

    Its time is paid at the published rate, unless `unpaid_reason` says why not, for it to read.
    """

    person_id: str
    domain: str | None = None
    review_level: int | None = None
    pass_score: Score = 70
    unpaid_reason: Annotated[str, Meta(max_length=2000)] | None = None


class SittingRateIn(Wire):
    """What tests are paid with from now on, and why."""

    rate_minor_per_hour: int
    note: Annotated[str, Meta(max_length=2000)]
    currency: str = "USD"


class SittingRateOut(Wire):
    """What the time of a test is paid with. Units: minor units of `currency` an hour."""

    rate_minor_per_hour: int
    currency: str
    starts_at: datetime


class QualificationMoveIn(Wire):
    """What a test came to, or why it no longer counts."""

    action: Literal["grade", "regrade", "revoke"]
    score: Score | None = None
    reason_code: Annotated[str, Meta(max_length=100)] = ""
    note: Annotated[str, Meta(max_length=10_000)] = ""
    evidence: Evidence = ()


class QualificationOut(Wire):
    """A qualification, with why it was decided as it was; its holder reads the same.

    Its time is paid at `pay_minor_per_hour`, or `unpaid_reason` says why it is not.
    """

    id: str
    person_id: str
    domain: str | None
    review_level: int | None
    state: str
    pass_score: int
    score: int | None
    invited_at: datetime
    begun_at: datetime | None
    decided_at: datetime | None
    ends_at: datetime
    reason_code: str | None
    note: str | None
    evidence: list[str]
    pay_minor_per_hour: int | None
    pay_currency: str | None
    unpaid_reason: str | None


@get("/sitting-rate", scope="qualification:read", tags=["Qualifications"])
def get_sitting_rate() -> SittingRateOut:
    """What the time of a test is paid with, if you were invited to it now."""
    with database.begin(PLATFORM) as session:
        return _rate(sitting_rate(session, now()))


@post("/sitting-rates", scope="pay:write", status_code=HTTP_201_CREATED, tags=["Qualifications"])
def post_sitting_rate(
    data: JSONBody[SittingRateIn], principal: NamedDependency[Principal]
) -> SittingRateOut:
    """Publish what tests are paid with; invitations made before keep their rate."""
    with database.begin() as session:
        made = set_sitting_rate(
            session,
            data.rate_minor_per_hour,
            currency=data.currency,
            note=data.note,
            at=now(),
            actor_id=principal.person_id,
        )
        return _rate(made)


def _rate(row: SittingRate) -> SittingRateOut:
    return SittingRateOut(
        rate_minor_per_hour=row.rate_minor_per_hour,
        currency=row.currency,
        starts_at=row.starts_at,
    )


@post(
    "/qualifications",
    scope="qualification:grade",
    status_code=HTTP_201_CREATED,
    tags=["Qualifications"],
)
def post_qualification(
    data: JSONBody[QualificationIn], principal: NamedDependency[Principal]
) -> QualificationOut:
    """Ask a person to a test."""
    with database.begin() as session:
        made = invite_to_qualify(
            session,
            read_id("per", data.person_id),
            domain=data.domain,
            review_level=data.review_level,
            pass_score=data.pass_score,
            unpaid_reason=data.unpaid_reason,
            at=now(),
            actor_id=principal.person_id,
        )
        return _out(made)


@post(
    "/qualifications/{qualification_id:str}/begin",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_qualification_begin(
    qualification_id: FromPath[str], principal: NamedDependency[Principal]
) -> QualificationOut:
    """Begin a test that you were asked to."""
    # As the platform, which alone moves qualifications; the action takes only the caller's own.
    with database.begin(PLATFORM) as session:
        row = begin_qualification(
            session, read_id("qua", qualification_id), person_id=principal.person_id, at=now()
        )
        return _out(row)


@post(
    "/qualifications/{qualification_id:str}/transitions",
    scope="qualification:grade",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_qualification_move(
    qualification_id: FromPath[str],
    data: JSONBody[QualificationMoveIn],
    principal: NamedDependency[Principal],
) -> QualificationOut:
    """Grade a test, grade it again, or take a qualification away."""
    found = read_id("qua", qualification_id)
    score = -1 if data.score is None else data.score
    with database.begin() as session:
        if data.action == "revoke":
            row = revoke_qualification(
                session,
                found,
                reason_code=data.reason_code,
                note=data.note,
                evidence=data.evidence,
                at=now(),
                actor_id=principal.person_id,
            )
        elif data.action == "grade":
            row = grade_qualification(
                session,
                found,
                score=score,
                evidence=data.evidence,
                at=now(),
                actor_id=principal.person_id,
            )
        else:
            row = regrade_qualification(
                session,
                found,
                score=score,
                reason_code=data.reason_code or "regraded",
                evidence=data.evidence,
                at=now(),
                actor_id=principal.person_id,
            )
        return _out(row)


@get("/qualifications", scope="qualification:read", tags=["Qualifications"])
def get_qualifications(
    principal: NamedDependency[Principal],
    person_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[QualificationOut]:
    """Qualifications, newest first: your own, or as ops those of anyone."""
    wanted = read_ids("per", person_id)
    if principal.part is not Part.OPS:
        wanted = principal.person_id
    with database.begin() as session:
        return listed(
            session,
            qualifications(person_id=wanted, state=in_state),
            Qualification.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|qualifications|{wanted}|{in_state}",
        )


@get("/qualifications/{qualification_id:str}", scope="qualification:read", tags=["Qualifications"])
def get_qualification(qualification_id: FromPath[str]) -> QualificationOut:
    """One qualification."""
    with database.begin() as session:
        return _out(qualification(session, read_id("qua", qualification_id)))


def _out(row: Qualification) -> QualificationOut:
    return QualificationOut(
        id=wire_id("qua", row.id),
        person_id=wire_id("per", row.person_id),
        domain=row.domain,
        review_level=row.review_level,
        state=row.state,
        pass_score=row.pass_score,
        score=row.score,
        invited_at=row.invited_at,
        begun_at=row.begun_at,
        decided_at=row.decided_at,
        ends_at=row.ends_at,
        reason_code=row.reason_code,
        note=row.note,
        evidence=row.evidence,
        pay_minor_per_hour=row.pay_minor_per_hour,
        pay_currency=row.pay_currency,
        unpaid_reason=row.unpaid_reason,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_qualification,
    post_qualification_begin,
    post_qualification_move,
    get_qualifications,
    get_qualification,
    get_sitting_rate,
    post_sitting_rate,
]
