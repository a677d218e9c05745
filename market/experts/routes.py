"""Profiles, pay tiers and standing, over HTTP."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_201_CREATED
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.orm import Session

from market.auth import Principal
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
from market.experts.actions import change_profile, create_profile
from market.experts.models import Expert
from market.experts.queries import (
    degrees_in,
    domains_of,
    expert,
    experts_found,
    paces_of,
    people_behind,
    profile_of,
    tiers_of,
)
from market.experts.rules import EXPERT_FIELDS, Claim, Degree, Profile, tenths
from market.filters import Filter, filtered
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    page,
    page_of,
    patch,
    post,
    read_id,
    tagged,
    wire_id,
)

Years = Annotated[float, Meta(ge=0, le=99)]
Hours = Annotated[int, Meta(ge=0, le=168)]
Count = Annotated[int, Meta(ge=1, le=100)]


Windows = Annotated[tuple[Window, ...], Meta(max_length=MAX_WINDOWS)]
TimesOff = Annotated[tuple[TimeOff, ...], Meta(max_length=MAX_TIME_OFF)]


class DomainIn(Wire):
    """A domain that an expert knows, and for how many years it has worked in it."""

    domain: str
    years: Years = 0


class DegreeIn(Wire):
    """The highest degree in a domain; `institution` is the web site of the place it is from."""

    domain: str
    degree: Literal["bachelor", "master", "doctorate"]
    institution: str | None = None


class ProfileIn(Wire):
    """What an expert says about itself.

    `licences` are written like domains, with where they hold: `medicine.us-ny`. `windows` are the
    hours in which it works, on the clock of its time zone; an expert who names none works at any
    time, and nobody is offered work that these hours do not hold.
    """

    headline: str = ""
    bio: str = ""
    country: str | None = None
    timezone: str = "UTC"
    languages: tuple[str, ...] = ()
    weekly_hours: Hours = 20
    max_concurrent: Count = 3
    domains: tuple[DomainIn, ...] = ()
    degrees: tuple[DegreeIn, ...] = ()
    licences: tuple[str, ...] = ()
    windows: Windows = ()
    time_off: TimesOff = ()


class ProfileChangeIn(Wire):
    """The fields of a profile that change; `domains` replaces all that were claimed, every other
    list all that there was.
    """

    headline: str | UnsetType = UNSET
    bio: str | UnsetType = UNSET
    country: str | UnsetType | None = UNSET
    timezone: str | UnsetType = UNSET
    languages: list[str] | UnsetType = UNSET
    weekly_hours: Hours | UnsetType = UNSET
    max_concurrent: Count | UnsetType = UNSET
    domains: list[DomainIn] | UnsetType = UNSET
    degrees: list[DegreeIn] | UnsetType = UNSET
    licences: list[str] | UnsetType = UNSET
    windows: Windows | UnsetType = UNSET
    time_off: TimesOff | UnsetType = UNSET


class DomainOut(Wire):
    """A domain of an expert's; `level` is claimed, or qualified by a test."""

    domain: str
    years: float
    level: str


class ExpertOut(Wire):
    """An expert: its own words, its pay tier and its standing.

    It may hold `offered_at_once` tasks: one fewer than `max_concurrent` for each of the
    `missed_offers` that it left unanswered since its last yes or no, and never fewer than one.
    """

    id: str
    headline: str
    bio: str
    country: str | None
    timezone: str
    languages: list[str]
    weekly_hours: int
    max_concurrent: int
    missed_offers: int
    offered_at_once: int
    domains: list[DomainOut]
    degrees: list[DegreeIn]
    licences: list[str]
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


@post("/experts/me", scope="profile:write", status_code=HTTP_201_CREATED, tags=["Experts"])
def post_my_profile(
    data: JSONBody[ProfileIn], principal: NamedDependency[Principal]
) -> Response[ExpertOut]:
    """Make your profile; it puts you on the first pay tier."""
    profile = Profile(
        **{name: getattr(data, name) for name in _PLAIN},
        languages=data.languages,
        claims=_claims(data.domains),
        degrees=_degrees(data.degrees),
        licences=data.licences,
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
        if data.degrees is not UNSET:
            profile = replace(profile, degrees=_degrees(data.degrees))
        if data.licences is not UNSET:
            profile = replace(profile, licences=tuple(data.licences))
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
        return page(named_out(session, rows), following)


@get("/experts/{expert_id:str}", scope="expert:read", tags=["Experts"])
def get_expert(expert_id: FromPath[str]) -> Response[NamedExpertOut]:
    """One expert."""
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id))
        return tagged(named_out(session, [found])[0], found.version)


_PLAIN = ("headline", "bio", "country", "timezone", "weekly_hours", "max_concurrent")


def _claims(domains: Sequence[DomainIn]) -> tuple[Claim, ...]:
    return tuple(Claim(one.domain, tenths(one.years)) for one in domains)


def _degrees(degrees: Sequence[DegreeIn]) -> tuple[Degree, ...]:
    return tuple(Degree(one.domain, one.degree, one.institution) for one in degrees)


def _experts_out(session: Session, rows: Sequence[Expert]) -> list[ExpertOut]:
    ids = [row.id for row in rows]
    domains = domains_of(session, ids)
    tiers = tiers_of(session, ids, now())
    paces = paces_of(session, ids)
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
            missed_offers=paces[row.id].missed,
            offered_at_once=paces[row.id].at_once,
            domains=[
                DomainOut(domain=one.domain, years=float(one.years), level=one.level)
                for one in domains[row.id]
            ],
            degrees=msgspec.convert(degrees_in(row.degrees), list[DegreeIn], from_attributes=True),
            licences=row.licences,
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


def named_out(session: Session, rows: Sequence[Expert]) -> list[NamedExpertOut]:
    """Experts as ops see them, with the people behind them."""
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
]
