"""Domains, levels, pay tiers and standing: what they may be, and what is refused."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from uuid import UUID
from zoneinfo import available_timezones

from market.availability.rules import Spans, Week
from market.errors import MarketError
from market.language import Field, Vocabulary
from market.states import Machine, Move

LEVELS = ("claimed", "qualified")
"""How sure we are of a domain, in rising order: the expert's word, or a test."""

DEGREES = ("bachelor", "master", "doctorate")
"""Degrees of a university, in rising order."""

TIERS = ("T1", "T2", "T3", "T4")
"""The pay tiers, in rising order."""

ENTRY_TIER = "T1"
"""Where everyone starts."""


STANDING = Machine(
    "standing",
    initial=("good",),
    moves=(
        Move("watch", ("good",), "watched"),
        Move("limit", ("watched",), "limited"),
        Move("suspend", ("limited",), "suspended"),
        Move("close", ("suspended",), "closed"),
        # An appeal that succeeds, or is not answered in time, lifts whatever measure is in force.
        Move("lift", ("watched", "limited", "suspended", "closed"), "good"),
        # Not a step against anybody: only a departure takes these, and undoes them.
        Move("leave", ("good", "watched", "limited"), "left"),
        Move("come_back", ("left",), "good"),
        Move("come_back_watched", ("left",), "watched"),
        Move("come_back_limited", ("left",), "limited"),
    ),
)


WORKING = ("good", "watched", "limited")
"""The standings in which an expert may be offered work."""

DOMAIN = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*(?:\.[a-z0-9]+(?:[-_][a-z0-9]+)*)*")
MAX_DOMAIN = 120
MAX_DOMAINS = 50
MAX_TEXT = 10_000
MAX_YEARS = 99
COUNTRY = re.compile(r"[A-Z]{2}")
INSTITUTION = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
"""An institution by the address of its web site, since its name is spelt in many ways."""

LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
TIMEZONE = re.compile(r"[A-Za-z_]+(?:/[A-Za-z0-9_+\-]+){0,2}")

DOMAINS_MEET = (
    "({one} = {other} or starts_with({one}, {other} || '.') or starts_with({other}, {one} || '.'))"
)
"""The rule of `domains_meet` in SQL: a template for two expressions, `one` and `other`."""


LIMITED = """exists (select from market.measure narrowed
    where narrowed.expert_id = {expert} and narrowed.step = 'limit' and narrowed.ended_at is null
        and (cardinality(narrowed.domains) = 0 or exists (select from unnest(narrowed.domains) wide
            where {domain} = wide or starts_with({domain}, wide || '.'))))"""
"""Whether a limit on an expert's standing reaches a domain, in SQL: a template for two expressions.

No new work is offered where it reaches; what the expert holds stays its own.
"""


LAST_ANSWER = """coalesce(
        greatest(max(accepted_at), max(ended_at) filter (where state = 'declined')), '-infinity')"""
"""When an expert last said yes or no, in SQL: an aggregate over its offers."""

PACE = """cross join lateral (
        select count(*)::int as missed,
            greatest(1, {expert}.max_concurrent - count(*))::int as at_once
        from market.offer where expert_id = {expert}.id and state = 'timed_out'
            and expires_at > o.answered_at
    ) pace"""
"""How many offers an expert left unanswered since it last answered one, and how many tasks it may
hold by that, in SQL: a template that joins `pace` to an expert and to the `answered_at` of `o`.

One fewer for each that was missed, and never fewer than one; any answer undoes all of it, and
nothing else follows.
"""


_DEGREE = "{row}.degrees -> cast({key} as text)"
_DOMAIN_OF = "from market.expert_domain d where d.expert_id = {row}.id and d.domain = {key}"

EXPERT_FIELDS = Vocabulary(
    Field(
        name="skill",
        kind="measure",
        is_keyed=True,
        column=f"(select nullif(d.ability, 'NaN') {_DOMAIN_OF})",
        about="measured ability in a domain, as the chance to succeed at work of difficulty 0",
        example="0.8",
    ),
    Field(
        name="years",
        kind="number",
        is_keyed=True,
        column=f"(select d.years {_DOMAIN_OF})",
        about="years of practice in a domain, as the expert says",
        example="5",
    ),
    Field(
        name="level",
        kind="choice",
        is_keyed=True,
        column=f"(select d.level {_DOMAIN_OF})",
        choices=LEVELS,
        about="how sure a domain is: the expert's word, or a test",
        example='"qualified"',
    ),
    Field(
        name="domains",
        kind="set",
        column="array(select d.domain from market.expert_domain d where d.expert_id = {row}.id)",
        form=DOMAIN,
        about="the domains that the expert names or has shown",
        example='"chemistry.organic"',
    ),
    Field(
        name="degree",
        kind="choice",
        is_keyed=True,
        column=f"({_DEGREE} ->> 'degree')",
        choices=DEGREES,
        about="the highest degree in a domain, as the expert says",
        example='"doctorate"',
    ),
    Field(
        name="institution",
        kind="text",
        is_keyed=True,
        column=f"({_DEGREE} ->> 'institution')",
        form=INSTITUTION,
        about="where the degree in a domain is from, by its web site, as the expert says",
        example='"ethz.ch"',
    ),
    Field(
        name="licences",
        kind="set",
        column="{row}.licences",
        form=DOMAIN,
        about="the licences to practise that the expert names, with where they hold",
        example='"medicine.us-ny"',
    ),
    Field(
        name="country",
        kind="text",
        column="{row}.country",
        form=COUNTRY,
        about="where the expert lives, in two letters",
        example='"CA"',
    ),
    Field(
        name="timezone",
        kind="text",
        column="{row}.timezone",
        form=TIMEZONE,
        about="the expert's time zone",
        example='"Europe/Berlin"',
    ),
    Field(
        name="languages",
        kind="set",
        column="{row}.languages",
        form=LANGUAGE,
        about="the languages that the expert works in",
        example='"en"',
    ),
    Field(
        name="weekly_hours",
        kind="number",
        column="{row}.weekly_hours",
        about="hours a week that the expert has",
        example="10",
    ),
    Field(
        name="max_concurrent",
        kind="number",
        column="{row}.max_concurrent",
        about="tasks that the expert takes at once",
        example="3",
    ),
    Field(
        name="standing",
        kind="text",
        column="{row}.state",
        choices=STANDING.states,
        about="the expert's standing",
        example='"good"',
    ),
    Field(
        name="tier",
        kind="choice",
        column="(select a.tier from market.tier_assignment a"
        " where a.expert_id = {row}.id and a.during @> {at})",
        choices=TIERS,
        about="the pay tier that the expert stands on now",
        example='"T2"',
    ),
    Field(
        name="completed",
        kind="number",
        column="(select count(*) from market.offer o"
        " where o.expert_id = {row}.id and o.state = 'completed')",
        about="tasks that the expert has completed",
        example="5",
    ),
    Field(
        name="days_here",
        kind="number",
        column="floor(extract(epoch from {at} - {row}.created_at) / 86400)",
        about="whole days since the profile was made",
        example="30",
    ),
)
"""What expressions can ask about an expert."""


def domains_meet(one: str, other: str) -> bool:
    """Whether knowing one domain counts for the other: the same, or one lies within the other.

    `chemistry` and `chemistry.organic` meet; `chemistry.organic` and `chemistry.physical` do not.
    """
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def domain_within(domain: str, wide: Iterable[str]) -> bool:
    """Whether a domain is one of some domains, or lies within one of them."""
    return any(domain == one or domain.startswith(f"{one}.") for one in wide)


def is_domain(text: str) -> bool:
    """Whether a text is a domain: lower-case words between dots, the widest first."""
    return len(text) <= MAX_DOMAIN and DOMAIN.fullmatch(text) is not None


def checked_domains(domains: Iterable[str]) -> list[str]:
    """Domains in their order, each once.

    Raises:
        DomainInvalid, TooManyDomains.
    """
    found = list(dict.fromkeys(domains))
    if len(found) > MAX_DOMAINS:
        raise TooManyDomains(len(found))
    for domain in found:
        if not is_domain(domain):
            raise DomainInvalid(domain)
    return found


@dataclass(frozen=True, slots=True)
class Claim:
    """A domain that an expert says to know, and for how many years it has worked in it."""

    domain: str
    years: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Degree:
    """The highest degree that an expert says to have in a domain, and where it is from."""

    domain: str
    degree: str
    institution: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What an expert says about itself.

    Units: hours a week it wants to work; tasks it will hold at once; `week` as in `Week`.
    """

    headline: str = ""
    bio: str = ""
    country: str | None = None
    timezone: str = "UTC"
    languages: tuple[str, ...] = ()
    weekly_hours: int = 20
    max_concurrent: int = 3
    claims: tuple[Claim, ...] = ()
    degrees: tuple[Degree, ...] = ()
    licences: tuple[str, ...] = ()
    week: Week = ()
    away: Spans = ()


def check_profile(profile: Profile) -> None:
    """Refuse a profile that cannot be what somebody means.

    Raises:
        ProfileInvalid, DomainInvalid, TooManyDomains.
    """
    languages = profile.languages
    demands = (
        ("headline", len(profile.headline) <= 200, "at most 200 characters"),
        ("bio", len(profile.bio) <= MAX_TEXT, f"at most {MAX_TEXT} characters"),
        (
            "country",
            profile.country is None or COUNTRY.fullmatch(profile.country),
            "two capital letters (ISO 3166), such as DE",
        ),
        ("timezone", is_timezone(profile.timezone), "a time zone, such as Europe/Berlin"),
        (
            "languages",
            len(languages) <= 30 and all(LANGUAGE.fullmatch(one) for one in languages),
            "at most 30 language tags, such as en or pt-BR",
        ),
        ("weekly_hours", 0 <= profile.weekly_hours <= 168, "0 to 168"),
        ("max_concurrent", 1 <= profile.max_concurrent <= 100, "1 to 100"),
        (
            "domains",
            all(0 <= claim.years <= MAX_YEARS for claim in profile.claims),
            f"known for 0 to {MAX_YEARS} years",
        ),
    )
    for field, is_met, wanted in demands:
        if not is_met:
            raise ProfileInvalid(field, wanted)
    _check_shown(profile)
    names = checked_domains(claim.domain for claim in profile.claims)
    if len(names) != len(profile.claims):
        raise ProfileInvalid("domains", "named once each")


def _check_shown(profile: Profile) -> None:
    for field, names in (
        ("degrees", [one.domain for one in profile.degrees]),
        ("licences", profile.licences),
    ):
        if len(set(names)) != len(names) or len(names) > MAX_DOMAINS:
            raise ProfileInvalid(field, f"{MAX_DOMAINS} at most, each named once")
        if not all(is_domain(name) for name in names):
            raise ProfileInvalid(field, "lower-case words between dots, such as medicine.us-ny")
    for one in profile.degrees:
        at = one.institution or "ethz.ch"
        if one.degree not in DEGREES or len(at) > MAX_DOMAIN or not INSTITUTION.fullmatch(at):
            raise ProfileInvalid("degrees", "bachelor, master or doctorate, from such as ethz.ch")


def tenths(years: float) -> Decimal:
    """Years as they are kept: to a tenth, and a half of one upwards, as PostgreSQL rounds them."""
    return Decimal(str(years)).quantize(Decimal("0.1"), ROUND_HALF_UP)


def is_timezone(name: str) -> bool:
    """Whether a text names a time zone; where the system keeps no list of them, by its form."""
    known = _timezones()
    return TIMEZONE.fullmatch(name) is not None and (not known or name in known)


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


class DomainInvalid(MarketError):
    """A text that is no domain."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"{domain[:MAX_DOMAIN]!r} is no domain: write lower-case words between dots, the "
            f"widest first, such as chemistry.organic, in at most {MAX_DOMAIN} characters"
        )
        self.domain = domain[:MAX_DOMAIN]


class TooManyDomains(MarketError):
    """More domains than one expert or project can have."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} domains are too many; name {MAX_DOMAINS} at most")
        self.count = count


class ProfileInvalid(MarketError):
    """A field of a profile that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class ExpertNotFound(MarketError):
    """No expert has this id."""

    def __init__(self, expert_id: UUID) -> None:
        super().__init__("there is no such expert; an expert first makes a profile")
        self.expert_id = expert_id


class ProfileExists(MarketError):
    """A person has an expert's profile already."""

    def __init__(self) -> None:
        super().__init__("you have a profile; change it with PATCH")


class ReasonMissing(MarketError):
    """A step that has to be given a reason."""

    def __init__(self, action: str) -> None:
        super().__init__(f"say why: {action} needs a reason")
        self.action = action
