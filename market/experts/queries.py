"""Reads about experts: profiles, domains, pay tiers and the rates that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, bindparam, exists, func, literal, select, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, Range
from sqlalchemy.orm import Session

from market.availability.queries import away_in, week_in
from market.experts.models import Expert, ExpertDomain, PayTier, TierAssignment
from market.experts.rules import (
    DOMAINS_MEET,
    LAST_ANSWER,
    PACE,
    Claim,
    Degree,
    ExpertNotFound,
    Profile,
)
from market.language import Facts, Known
from market.people.models import Person
from payouts.pay import RateSpan


def expert(session: Session, expert_id: UUID, *, lock: bool = False) -> Expert:
    """The expert with this id; locked, when it is about to be changed.

    Raises:
        ExpertNotFound.
    """
    found = session.get(Expert, expert_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise ExpertNotFound(expert_id)
    return found


def experts_found(*, domain: str | None = None, standing: str | None = None) -> Select[Expert]:
    """All experts, or those of a domain or a standing, as a statement to page through."""
    statement = select(Expert)
    if domain is not None:
        met = text(DOMAINS_MEET.format(one="market.expert_domain.domain", other=":wanted"))
        known = exists().where(ExpertDomain.expert_id == Expert.id, met.bindparams(wanted=domain))
        statement = statement.where(known)
    if standing is not None:
        statement = statement.where(Expert.state == standing)
    return statement


_FACTS = text(
    """
    select e.id, e.country, e.timezone, e.languages, e.weekly_hours, e.max_concurrent,
        e.degrees, e.licences, e.state as standing, e.created_at,
        (select count(*) from market.offer o
         where o.expert_id = e.id and o.state = 'completed') as completed
    from market.expert e where e.id = any(:experts)
    """
).bindparams(bindparam("experts", type_=ARRAY(Uuid())))


def facts_of(session: Session, expert_ids: Sequence[UUID], at: datetime) -> dict[UUID, Facts]:
    """What expressions can ask about each of some experts, as `EXPERT_FIELDS` names it.

    Runs as the platform.
    """
    tiers = tiers_of(session, expert_ids, at)
    domains = domains_of(session, expert_ids)
    found: dict[UUID, Facts] = {}
    for row in session.execute(_FACTS.columns(id=Uuid()), {"experts": list(expert_ids)}):
        known: dict[str, Known | None] = {
            "country": row.country,
            "timezone": row.timezone,
            "languages": frozenset(row.languages) or None,
            "weekly_hours": row.weekly_hours,
            "max_concurrent": row.max_concurrent,
            "standing": row.standing,
            "tier": tiers.get(row.id),
            "completed": row.completed,
            "days_here": (at - row.created_at) // timedelta(days=1),
            "licences": frozenset(row.licences) or None,
            "domains": frozenset(one.domain for one in domains[row.id]) or None,
        }
        for domain, one in row.degrees.items():
            known[f"degree.{domain}"] = one["degree"]
            known[f"institution.{domain}"] = one.get("institution")
        for one in domains[row.id]:
            has_ability = one.ability is not None and not isnan(one.ability)
            known[f"skill.{one.domain}"] = one.ability if has_ability else None
            known[f"years.{one.domain}"] = one.years
            known[f"level.{one.domain}"] = one.level
        found[row.id] = {name: value for name, value in known.items() if value is not None}
    return found


@dataclass(frozen=True, slots=True)
class Pace:
    """Offers that an expert left unanswered since its last yes or no, and how many tasks it may
    hold until its next.
    """

    missed: int
    at_once: int


PACES = """
    select e.id, pace.missed, pace.at_once from market.expert e
    cross join lateral (
        select {last_answer} as answered_at from market.offer where expert_id = e.id
    ) o {pace}
    where e.id = any(:experts)
    """
_PACES = (
    text(PACES.format(last_answer=LAST_ANSWER, pace=PACE.format(expert="e")))
    .bindparams(bindparam("experts", type_=ARRAY(Uuid())))
    .columns(id=Uuid())
)


def paces_of(session: Session, expert_ids: Sequence[UUID]) -> dict[UUID, Pace]:
    """The pace in force for each of some experts."""
    rows = session.execute(_PACES, {"experts": list(expert_ids)})
    return {row.id: Pace(row.missed, row.at_once) for row in rows}


def domains_of(session: Session, expert_ids: Sequence[UUID]) -> dict[UUID, list[ExpertDomain]]:
    """The domains of each of some experts, in alphabetical order."""
    found: dict[UUID, list[ExpertDomain]] = {expert_id: [] for expert_id in expert_ids}
    rows = session.scalars(
        select(ExpertDomain)
        .where(ExpertDomain.expert_id.in_(expert_ids))
        .order_by(ExpertDomain.expert_id, ExpertDomain.domain)
    )
    for row in rows:
        found[row.expert_id].append(row)
    return found


def degrees_in(kept: Mapping[str, Mapping[str, str]]) -> tuple[Degree, ...]:
    """The degrees of an expert's row, by domain."""
    return tuple(
        Degree(domain, one["degree"], one.get("institution"))
        for domain, one in sorted(kept.items())
    )


def people_behind(session: Session, expert_ids: Sequence[UUID]) -> dict[UUID, Person]:
    """The people that some experts are, by their shared id."""
    rows = session.scalars(select(Person).where(Person.id.in_(expert_ids)))
    return {row.id: row for row in rows}


def tiers_of(session: Session, expert_ids: Sequence[UUID], at: datetime) -> dict[UUID, str]:
    """The pay tier that each of some experts stands on at a time; who stands on none is absent."""
    rows = session.execute(
        select(TierAssignment.expert_id, TierAssignment.tier).where(
            TierAssignment.expert_id.in_(expert_ids), TierAssignment.during.contains(at)
        )
    )
    return {row.expert_id: row.tier for row in rows}


def profile_of(session: Session, found: Expert) -> Profile:
    """What an expert says about itself now; domains that were shown by a test are not said."""
    return Profile(
        headline=found.headline,
        bio=found.bio,
        country=found.country,
        timezone=found.timezone,
        languages=tuple(found.languages),
        weekly_hours=found.weekly_hours,
        max_concurrent=found.max_concurrent,
        claims=tuple(
            Claim(row.domain, row.years)
            for row in domains_of(session, [found.id])[found.id]
            if row.level == "claimed"
        ),
        degrees=degrees_in(found.degrees),
        licences=tuple(found.licences),
        week=week_in(found.week),
        away=away_in(found.away),
    )


def rate_spans(
    session: Session, expert_id: UUID, currency: str, start: datetime, end: datetime | None
) -> list[RateSpan]:
    """The rates at which an expert's time is paid by its pay tier, in order, cut to a stretch.

    A new span begins where the expert changes tier and where a tier changes its rate. A stretch
    without tier or rate has no span. With `end=None` the last one may have no end.

    Units: minor units of the currency an hour.
    """
    wanted = literal(Range(start, end), TSTZRANGE)
    shared = TierAssignment.during * PayTier.during * wanted
    rows = session.execute(
        select(PayTier.rate_minor_per_hour, func.lower(shared), func.upper(shared))
        .join(PayTier, PayTier.name == TierAssignment.tier)
        .where(
            TierAssignment.expert_id == expert_id,
            PayTier.currency == currency,
            TierAssignment.during.overlaps(wanted),
            PayTier.during.overlaps(wanted),
            TierAssignment.during.overlaps(PayTier.during),
            ~func.isempty(shared),
        )
        .order_by(func.lower(shared))
    )
    return [RateSpan(rate, starts_at, ends_at) for rate, starts_at, ends_at in rows]


def tier_rates(session: Session, currency: str, at: datetime) -> dict[str, int]:
    """What each pay tier pays at a time; empty when none pays in this currency.

    Units: minor units of the currency an hour.
    """
    rows = session.execute(
        select(PayTier.name, PayTier.rate_minor_per_hour).where(
            PayTier.currency == currency, PayTier.during.contains(at)
        )
    )
    return {row.name: row.rate_minor_per_hour for row in rows}
