"""An expert's profile and availability, its standing with reasons, and where it is paid."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect, Stream, Template
from sqlalchemy import select

from market.appeals.actions import file_appeal
from market.appeals.models import Appeal
from market.availability.rules import DAYS, TimeOff, Window, away_of, week_of, windows_of
from market.console.forms import REFUSALS, Form, field, lines, said_no, tried, whole_number
from market.console.frame import HEADERS, Notice, back_to, page
from market.console.visitors import EXPERT, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.experts.actions import change_profile, create_profile
from market.experts.models import Expert, Measure
from market.experts.queries import domains_of, profile_of, tiers_of
from market.experts.rules import Claim, Degree, Profile
from market.explanations.queries import work_for
from market.http import NotFound, read_id, wire_id
from market.pay_tiers.queries import announced_tier
from market.payees.actions import become_payee
from market.payees.routes import onboarding_url
from market.people.queries import person
from market.people.rules import PersonNotFound
from market.qualifications.models import Qualification
from market.records.actions import attest_skills
from market.records.models import Attestation
from market.records.routes import FILE, record_lines
from market.settings import in_force
from market.sittings.models import Sitting
from market.sittings.queries import prospects_of, sittings
from market.standings.queries import measures_of

MINUTE = "%Y-%m-%d %H:%M"
"""A moment of time off as it is typed, on the expert's clock."""


def _typed_profile(profile: Profile) -> dict[str, str]:
    return {
        "headline": profile.headline,
        "bio": profile.bio,
        "country": profile.country or "",
        "timezone": profile.timezone,
        "languages": ", ".join(profile.languages),
        "weekly_hours": str(profile.weekly_hours),
        "max_concurrent": str(profile.max_concurrent),
        "windows": "\n".join(
            f"{one.day} {one.starts}-{one.ends}" for one in windows_of(profile.week)
        ),
        "time_off": "\n".join(
            " to ".join(at.astimezone(_zone(profile.timezone)).strftime(MINUTE) for at in span)
            for span in profile.away
        ),
        "domains": "\n".join(
            f"{claim.domain} {claim.years.normalize():f}" if claim.years else claim.domain
            for claim in profile.claims
        ),
        "degrees": "\n".join(
            " ".join(filter(None, (one.domain, one.degree, one.institution)))
            for one in profile.degrees
        ),
        "licences": ", ".join(profile.licences),
    }


def _claim(line: str) -> Claim:
    name, _, years = line.partition(" ")
    try:
        worked = Decimal(years.strip() or "0")
    except InvalidOperation:
        raise FormUnreadable(
            f"{line[:80]!r} is not a domain and its years, such as chemistry.organic 12"
        ) from None
    if not worked.is_finite():
        raise FormUnreadable(f"the years of {name[:80]!r} are a number, such as 12")
    return Claim(name, worked.quantize(Decimal("0.1")))


def _degree(line: str) -> Degree:
    """A line such as `chemistry.organic doctorate ethz.ch`, in which the last word may lack."""
    domain, *rest = line.lower().split()
    if len(rest) not in (1, 2):
        raise FormUnreadable(
            f"{line[:80]!r} is no degree, such as chemistry.organic doctorate ethz.ch"
        )
    return Degree(domain, *rest)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise FormUnreadable(f"{name[:60]!r} is no time zone, such as Europe/Berlin") from None


def _windows(line: str) -> list[Window]:
    """The windows of a line such as `mon-fri 09:00-17:00`."""
    days, _, hours = line.lower().partition(" ")
    first, _, last = days.partition("-")
    starts, _, ends = hours.replace(" ", "").partition("-")
    try:
        from_day, to_day = DAYS.index(first), DAYS.index(last or first)
        if to_day < from_day:
            raise ValueError("a week begins on Monday")
        return [
            msgspec.convert({"day": day, "starts": starts, "ends": ends}, Window)
            for day in DAYS[from_day : to_day + 1]
        ]
    except ValueError:
        raise FormUnreadable(
            f"{line[:80]!r} is no hours of a week, such as mon-fri 09:00-17:00"
        ) from None


def _time_off(line: str, zone: ZoneInfo) -> TimeOff:
    """A line such as `2026-12-24 to 2026-12-26`, where a date stands for the whole day."""
    first, _, last = (one.strip() for one in line.partition(" to "))
    try:
        starts, ends = datetime.fromisoformat(first), datetime.fromisoformat(last or first)
        if ":" not in (last or first):
            ends += timedelta(days=1)
    except (ValueError, OverflowError):
        raise FormUnreadable(
            f"{line[:80]!r} is no time off, such as 2026-12-24 to 2026-12-26"
        ) from None
    return TimeOff(
        starts_at=starts.replace(tzinfo=starts.tzinfo or zone),
        ends_at=ends.replace(tzinfo=ends.tzinfo or zone),
    )


def _read_profile(data: Mapping[str, str]) -> Profile:
    zone = _zone(field(data, "timezone") or "UTC")
    return Profile(
        headline=field(data, "headline"),
        bio=field(data, "bio"),
        country=field(data, "country").upper() or None,
        timezone=zone.key,
        languages=lines(data, "languages"),
        weekly_hours=whole_number(
            data, "weekly_hours", "hours a week", least=0, most=168, absent=20
        ),
        max_concurrent=whole_number(
            data, "max_concurrent", "tasks at once", least=1, most=100, absent=3
        ),
        claims=tuple(_claim(one) for one in lines(data, "domains")),
        degrees=tuple(_degree(one) for one in lines(data, "degrees")),
        licences=lines(data, "licences"),
        week=week_of([one for line in lines(data, "windows") for one in _windows(line)]),
        away=away_of([_time_off(one, zone) for one in lines(data, "time_off")]),
    )


def _profile(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me, at = my_id(request), now()
    # As the platform, since it counts work that the expert may not see.
    with database.begin(PLATFORM) as session:
        fitting = work_for(session, me, at=at)
    with database.begin() as session:
        found = session.get(Expert, me)
        known = profile_of(session, found) if found is not None else Profile()
        measures = session.scalars(measures_of(me).order_by(Measure.id.desc()).limit(20)).all()
        appeals = {
            one.subject_id: one
            for one in session.scalars(select(Appeal).where(Appeal.kind.in_(("measure", "tier"))))
        }
        last = {
            row.qualification_id: row
            for row in session.scalars(
                sittings(person_id=me).where(Sitting.result.is_not(None)).order_by(Sitting.id)
            )
        }
        return page(
            request,
            "expert/profile.html",
            status=status,
            notice=notice,
            expert=found,
            tier=tiers_of(session, [me], at).get(me) if found is not None else None,
            domains=domains_of(session, [me])[me] if found is not None else [],
            typed={**_typed_profile(known), **(typed or {})},
            fitting=fitting,
            measures=measures,
            coming=announced_tier(session, me, at),
            appeals=appeals,
            qualifications=session.scalars(
                select(Qualification)
                .where(Qualification.person_id == me)
                .order_by(Qualification.id.desc())
                .limit(20)
            ).all(),
            sat={which: (row, prospects_of(session, row)) for which, row in last.items()},
            zone=known.timezone,
        )


@get("/profile", guards=EXPERT, sync_to_thread=True)
def get_profile(request: Request[Any, Any, Any]) -> Template:
    """What the visitor knows and when it works, where it stands, and why."""
    return _profile(request)


@post("/profile", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_profile(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Make the visitor's profile, or replace what it says."""
    me = my_id(request)
    try:
        profile = _read_profile(data)
        with database.begin() as session:
            is_there = session.get(Expert, me) is not None
            if is_there:
                change_profile(session, me, profile, at=now())
        if not is_there:
            # As the platform, since standing and pay tier are not the expert's own to write.
            with database.begin(PLATFORM) as session:
                create_profile(session, me, profile, at=now())
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _profile(request, status=status, notice=notice, typed=data)
    return back_to("/console/expert/profile", "saved")


@post("/measures/{measure_id:str}/appeal", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_measure_appeal(
    request: Request[Any, Any, Any], measure_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Appeal a step of one's standing."""
    return _appeal(request, data, "measure", read_id("mea", measure_id))


@post("/tiers/{tier_id:str}/appeal", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_tier_appeal(
    request: Request[Any, Any, Any], tier_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Appeal a step down to a lower pay tier."""
    return _appeal(request, data, "tier", read_id("tie", tier_id))


def _appeal(
    request: Request[Any, Any, Any], data: Form, kind: str, subject_id: UUID
) -> Redirect | Template:
    def act() -> str:
        # As the platform, because what is appealed moves; the action takes only one's own.
        with database.begin(PLATFORM) as session:
            file_appeal(
                session,
                kind,
                subject_id,
                person_id=my_id(request),
                note=field(data, "note"),
                at=now(),
            )
        return "/console/expert/profile?said=appealed"

    return tried(data, act, partial(_profile, request))


@post("/payee", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_payee(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Say in which country one is paid; Stripe opens an account for it."""
    # As the platform, which alone plans calls to Stripe; the payee is the visitor.
    with database.begin(PLATFORM) as session:
        me = person(session, my_id(request))
        if me is None:
            raise PersonNotFound(my_id(request))
        become_payee(
            session,
            expert_id=me.id,
            country=field(data, "country").upper(),
            email=me.email,
            at=now(),
        )
    return back_to("/console/expert/earnings", "payee")


@post("/onboarding", guards=EXPERT, sync_to_thread=True, status_code=200)
def post_onboarding(request: Request[Any, Any, Any], data: Form) -> Template:
    """A fresh page of Stripe's, as a plain link: a form may not lead away from here."""
    del data
    return page(request, "expert/onboarding.html", url=onboarding_url(my_id(request)))


@get("/record", guards=EXPERT, sync_to_thread=True)
def get_record(request: Request[Any, Any, Any]) -> Stream:
    """Everything that is kept about the visitor, as a file of JSON lines."""
    kept = {**HEADERS, "Content-Disposition": FILE}
    lines_of_it = record_lines(my_id(request))
    return Stream(lines_of_it, media_type="application/x-ndjson", headers=kept)


@post("/attestations", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_attestation(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Sign what of the visitor's skills is verified now, for whomever it shows it to."""
    me = my_id(request)

    def act() -> str:
        # As the platform, which alone signs; the action tells of the visitor only.
        with database.begin(PLATFORM) as session:
            issuer = in_force.settings.public_url
            made = attest_skills(session, me, issuer=issuer, at=now())
            return f"/console/expert/attestations/{wire_id('ats', made.id)}"

    return tried(data, act, partial(_profile, request))


@get("/attestations/{attestation_id:str}", guards=EXPERT, sync_to_thread=True)
def get_attestation(
    request: Request[Any, Any, Any], attestation_id: FromPath[str]
) -> Response[bytes]:
    """One attestation of the visitor's own, with its signature, as a file."""
    wanted = select(Attestation).where(
        Attestation.id == read_id("ats", attestation_id), Attestation.person_id == my_id(request)
    )
    with database.begin(PLATFORM) as session:
        found = session.scalar(wanted)
    if found is None:
        raise NotFound("attestation", attestation_id[:64])
    name = f'attachment; filename="attestation-{found.issued_at:%Y-%m-%d}.json"'
    return Response(
        msgspec.json.encode({"document": found.document, "signature": found.signature}),
        media_type="application/json",
        headers={**HEADERS, "Content-Disposition": name},
    )


ROUTES: list[HTTPRouteHandler] = [
    get_record,
    post_attestation,
    get_attestation,
    get_profile,
    post_profile,
    post_measure_appeal,
    post_tier_appeal,
    post_payee,
    post_onboarding,
]
