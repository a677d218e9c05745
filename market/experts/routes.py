"""Profiles, pay tiers and standing, over HTTP."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.orm import Session

from market.auth import Principal, tell_of
from market.availability.queries import away_in, week_in
from market.availability.rules import (
    MAX_TIME_OFF,
    MAX_WINDOWS,
    TimeOff,
    Window,
    away_of,
    week_of,
    windows_of,
)
from market.db import PLATFORM, database, now
from market.experts.actions import (
    assign_tier,
    change_profile,
    change_standing,
    create_profile,
    import_experts,
)
from market.experts.models import Expert, Measure, TierAssignment
from market.experts.queries import (
    domains_of,
    expert,
    experts_found,
    measures_of,
    people_behind,
    profile_of,
    tier_steps,
    tiers_of,
)
from market.experts.rules import EXPERT_FIELDS, Claim, Profile, tenths
from market.filters import Filter, filtered
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    listed,
    page,
    page_of,
    patch,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.imports import ImportOut, import_out, take_in
from market.uploads import MAX_UPLOAD_BYTES, Upload, UploadOperation, spool_upload

Years = Annotated[float, Meta(ge=0, le=99)]
Hours = Annotated[int, Meta(ge=0, le=168)]
Count = Annotated[int, Meta(ge=1, le=100)]


Windows = Annotated[tuple[Window, ...], Meta(max_length=MAX_WINDOWS)]
TimesOff = Annotated[tuple[TimeOff, ...], Meta(max_length=MAX_TIME_OFF)]


class DomainIn(Wire):
    """A domain that an expert knows, and for how many years it has worked in it."""

    domain: str
    years: Years = 0


class ProfileIn(Wire):
    """What an expert says about itself.

    `windows` are the hours in which it works, on the clock of its time zone; an expert who names
    none works at any time, and nobody is offered work that these hours do not hold.
    """

    headline: str = ""
    bio: str = ""
    country: str | None = None
    timezone: str = "UTC"
    languages: tuple[str, ...] = ()
    weekly_hours: Hours = 20
    max_concurrent: Count = 3
    domains: tuple[DomainIn, ...] = ()
    windows: Windows = ()
    time_off: TimesOff = ()


class ProfileChangeIn(Wire):
    """The fields of a profile that change; `domains` replaces all that were claimed, `windows` and
    `time_off` all that there were.
    """

    headline: str | UnsetType = UNSET
    bio: str | UnsetType = UNSET
    country: str | UnsetType | None = UNSET
    timezone: str | UnsetType = UNSET
    languages: list[str] | UnsetType = UNSET
    weekly_hours: Hours | UnsetType = UNSET
    max_concurrent: Count | UnsetType = UNSET
    domains: list[DomainIn] | UnsetType = UNSET
    windows: Windows | UnsetType = UNSET
    time_off: TimesOff | UnsetType = UNSET


class DomainOut(Wire):
    """A domain of an expert's; `level` is claimed, or qualified by a test."""

    domain: str
    years: float
    level: str


class ExpertOut(Wire):
    """An expert: its own words, its pay tier and its standing."""

    id: str
    headline: str
    bio: str
    country: str | None
    timezone: str
    languages: list[str]
    weekly_hours: int
    max_concurrent: int
    domains: list[DomainOut]
    windows: list[Window]
    time_off: list[TimeOff]
    opens_at: datetime | None
    tier: str | None
    standing: str
    source: str
    created_at: datetime
    version: int


class NamedExpertOut(ExpertOut):
    """An expert as ops see it, with the person behind it."""

    name: str
    email: str


class TierIn(Wire):
    """The pay tier that an expert gets from now on, and why."""

    tier: Literal["T1", "T2", "T3", "T4"]
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


class TierStepOut(Wire):
    """A pay tier and when it counts. A step down was `announced_at` and can be appealed (`tie_`);
    `is_taken_back` one never began.
    """

    id: str
    tier: str
    starts_at: datetime | None
    ends_at: datetime | None
    reason: str
    announced_at: datetime | None
    is_taken_back: bool


class StandingIn(Wire):
    """A step of an expert's standing; the note says on what evidence."""

    action: str
    reason_code: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    note: Annotated[str, Meta(min_length=1, max_length=4000)] | None = None
    evidence: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=50)
    ] = ()
    domains: tuple[str, ...] = ()
    until: Annotated[datetime, Meta(tz=True)] | None = None
    reviews_all: bool = False


class MeasureOut(Wire):
    """A step of standing: why, on what evidence, how far it reaches, and when it ended."""

    id: str
    step: str
    reason_code: str
    note: str
    evidence: list[str]
    domains: list[str]
    reviews_all: bool
    until: datetime | None
    taken_at: datetime
    ended_at: datetime | None
    end_reason: str | None


@post("/experts/me", scope="profile:write", status_code=HTTP_201_CREATED, tags=["Experts"])
def post_my_profile(
    data: JSONBody[ProfileIn], principal: NamedDependency[Principal]
) -> Response[ExpertOut]:
    """Make your profile; it puts you on the first pay tier."""
    profile = Profile(
        **{name: getattr(data, name) for name in _PLAIN},
        languages=data.languages,
        claims=_claims(data.domains),
        week=week_of(data.windows),
        away=away_of(data.time_off),
    )
    # As the platform, since standing and pay tier are not the expert's own to write.
    with database.begin(PLATFORM) as session:
        made = create_profile(session, principal.person_id, profile, at=now())
        return tagged(_experts_out(session, [made])[0], made.version, status=HTTP_201_CREATED)


@get("/experts/me", scope="profile:read", tags=["Experts"])
def get_my_profile(principal: NamedDependency[Principal]) -> Response[ExpertOut]:
    """Your profile, pay tier and standing."""
    with database.begin() as session:
        found = expert(session, principal.person_id)
        return tagged(_experts_out(session, [found])[0], found.version)


@patch("/experts/me", scope="profile:write", tags=["Experts"])
def patch_my_profile(
    data: JSONBody[ProfileChangeIn], principal: NamedDependency[Principal]
) -> Response[ExpertOut]:
    """Change some fields of your profile; send the ETag that you read as If-Match."""
    with database.begin() as session:
        found = expert(session, principal.person_id, lock=True)
        expect_version(found.version)
        profile = profile_of(session, found)
        given = {name: getattr(data, name) for name in _PLAIN if getattr(data, name) is not UNSET}
        profile = replace(profile, **given)
        if data.languages is not UNSET:
            profile = replace(profile, languages=tuple(data.languages))
        if data.domains is not UNSET:
            profile = replace(profile, claims=_claims(data.domains))
        if data.windows is not UNSET:
            profile = replace(profile, week=week_of(data.windows))
        if data.time_off is not UNSET:
            profile = replace(profile, away=away_of(data.time_off))
        changed = change_profile(session, principal.person_id, profile, at=now())
        return tagged(_experts_out(session, [changed])[0], changed.version)


@get("/experts", scope="expert:read", tags=["Experts"])
def get_experts(
    domain: FromQuery[str | None] = None,
    standing: FromQuery[str | None] = None,
    matching: Filter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[NamedExpertOut]:
    """All experts, newest first, or those who know a domain, have a standing, or for whom the
    expression `filter` holds, such as `skill.chemistry >= 0.8 and country in ("US", "CA")`.
    """
    with database.begin() as session:
        found = experts_found(domain=domain, standing=standing)
        rows, following = page_of(
            session,
            filtered(found, matching, EXPERT_FIELDS, row="market.expert", at=now()),
            Expert.id,
            limit=limit,
            cursor=cursor,
            filters=f"experts {domain} {standing} {matching}",
        )
        return page(_named(session, rows), following)


@get("/experts/{expert_id:str}", scope="expert:read", tags=["Experts"])
def get_expert(expert_id: FromPath[str]) -> Response[NamedExpertOut]:
    """One expert."""
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id))
        return tagged(_named(session, [found])[0], found.version)


@post(
    "/experts/{expert_id:str}/tier",
    scope="expert:write",
    status_code=HTTP_201_CREATED,
    tags=["Experts"],
)
def post_tier(
    expert_id: FromPath[str], data: JSONBody[TierIn], principal: NamedDependency[Principal]
) -> Response[NamedExpertOut]:
    """Put an expert on another pay tier: a higher one from now on, a lower one a week after it was
    announced at the earliest, with the pay week that begins then.
    """
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id), lock=True)
        expect_version(found.version, required=False)
        assign_tier(
            session,
            found.id,
            data.tier,
            at=now(),
            reason=data.reason,
            actor_id=principal.person_id,
        )
        return tagged(_named(session, [found])[0], found.version, status=HTTP_201_CREATED)


@post(
    "/experts/{expert_id:str}/transitions",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Experts"],
)
def post_standing(
    expert_id: FromPath[str], data: JSONBody[StandingIn], principal: NamedDependency[Principal]
) -> Response[NamedExpertOut]:
    """Take a step of an expert's standing: watch, limit, suspend, close or lift."""
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id), lock=True)
        expect_version(found.version)
        change_standing(
            session,
            found.id,
            data.action,
            at=now(),
            reason_code=data.reason_code,
            note=data.note,
            evidence=data.evidence,
            domains=data.domains,
            until=data.until,
            reviews_all=data.reviews_all,
            actor_id=principal.person_id,
        )
        return tagged(_named(session, [found])[0], found.version)


@post(
    "/experts:import",
    scope="expert:write",
    keyed="required",
    streamed=True,
    status_code=HTTP_201_CREATED,
    request_max_body_size=MAX_UPLOAD_BYTES,
    operation_class=UploadOperation,
    dependencies={"upload": Provide(spool_upload)},
    tags=["Experts"],
)
def post_experts_import(upload: NamedDependency[Upload]) -> Response[bytes]:
    """Upload experts as JSON lines, CSV or Parquet: every row gets a verdict.

    A row has `email` and `name`, and may have the fields of a profile and `tier`. `languages`,
    `domains`, `windows` and `time_off` are lists (JSON text in CSV). All that can be taken is taken
    together, or nothing.
    """

    def act() -> ImportOut:
        with database.begin() as session:
            return import_out(session, import_experts(session, upload, now=now))

    return take_in(upload, act)


@get("/experts/me/measures", scope="profile:read", tags=["Experts"])
def get_my_measures(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[MeasureOut]:
    """Every step of your standing with its reason and its evidence, newest first; each can be
    appealed.
    """
    return _measures(principal.person_id, limit, cursor)


@get("/experts/{expert_id:str}/measures", scope="expert:read", tags=["Experts"])
def get_measures(
    expert_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[MeasureOut]:
    """Every step of an expert's standing, newest first."""
    return _measures(read_id("per", expert_id), limit, cursor)


@get("/experts/me/tiers", scope="profile:read", tags=["Experts"])
def get_my_tiers(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[TierStepOut]:
    """Your pay tiers, what is announced first, with reasons; a step down can be appealed."""
    return _tiers(principal.person_id, limit, cursor)


@get("/experts/{expert_id:str}/tiers", scope="expert:read", tags=["Experts"])
def get_tiers(
    expert_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[TierStepOut]:
    """An expert's pay tiers, newest first."""
    return _tiers(read_id("per", expert_id), limit, cursor)


def _tiers(expert_id: UUID, limit: int, cursor: str | None) -> Page[TierStepOut]:
    tell_of(expert_id)
    with database.begin() as session:
        return listed(
            session,
            tier_steps(expert(session, expert_id).id),
            TierAssignment.id,
            lambda one: TierStepOut(
                id=wire_id("tie", one.id),
                tier=one.tier,
                starts_at=one.during.lower,
                ends_at=one.during.upper,
                reason=one.reason,
                announced_at=one.announced_at,
                is_taken_back=one.during.isempty,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"tiers {expert_id}",
        )


def _measures(expert_id: UUID, limit: int, cursor: str | None) -> Page[MeasureOut]:
    tell_of(expert_id)
    with database.begin() as session:
        return listed(
            session,
            measures_of(expert(session, expert_id).id),
            Measure.id,
            lambda one: MeasureOut(
                id=wire_id("mea", one.id),
                step=one.step,
                reason_code=one.reason_code,
                note=one.note,
                evidence=one.evidence,
                domains=one.domains,
                reviews_all=one.reviews_all,
                until=one.until,
                taken_at=one.taken_at,
                ended_at=one.ended_at,
                end_reason=one.end_reason,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"measures {expert_id}",
        )


_PLAIN = ("headline", "bio", "country", "timezone", "weekly_hours", "max_concurrent")


def _claims(domains: Sequence[DomainIn]) -> tuple[Claim, ...]:
    return tuple(Claim(one.domain, tenths(one.years)) for one in domains)


def _experts_out(session: Session, rows: Sequence[Expert]) -> list[ExpertOut]:
    ids = [row.id for row in rows]
    domains = domains_of(session, ids)
    tiers = tiers_of(session, ids, now())
    return [
        ExpertOut(
            id=wire_id("per", row.id),
            headline=row.headline,
            bio=row.bio,
            country=row.country,
            timezone=row.timezone,
            languages=row.languages,
            weekly_hours=row.weekly_hours,
            max_concurrent=row.max_concurrent,
            domains=[
                DomainOut(domain=one.domain, years=float(one.years), level=one.level)
                for one in domains[row.id]
            ],
            windows=windows_of(week_in(row.week)),
            time_off=[TimeOff(starts_at=one, ends_at=two) for one, two in away_in(row.away)],
            opens_at=row.opens_at,
            tier=tiers.get(row.id),
            standing=row.state,
            source=row.source,
            created_at=row.created_at,
            version=row.version,
        )
        for row in rows
    ]


def _named(session: Session, rows: Sequence[Expert]) -> list[NamedExpertOut]:
    people = people_behind(session, [row.id for row in rows])
    return [
        NamedExpertOut(
            **msgspec.structs.asdict(plain), name=people[row.id].name, email=people[row.id].email
        )
        for row, plain in zip(rows, _experts_out(session, rows), strict=True)
    ]


ROUTES: list[HTTPRouteHandler] = [
    post_my_profile,
    get_my_profile,
    patch_my_profile,
    get_experts,
    get_expert,
    post_tier,
    post_standing,
    get_my_tiers,
    get_tiers,
    get_my_measures,
    get_measures,
    post_experts_import,
]
