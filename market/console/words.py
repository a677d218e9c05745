"""How pages say numbers, times, states and reasons; pure.

What belongs together is held together by spaces that do not break, so that `95.00 USD` and
`22 Nov 2026, 03:23` stay on one line in the narrowest table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from payouts.money import exponent_of

HELD_TOGETHER = "\u00a0"
NOTHING = "–"

TONES = {
    "good": "accepted completed succeeded paid counted good final delivered confirmed payable"
    " passed granted adopted calibrated",
    "live": "live running active pending queued in_review sent calibrating processing requested"
    " awaiting_review batched transferring transferred payout_pending in_transit",
    "warn": "paused held rework_requested draining watched idle limited disputed grace borderline"
    " flagged",
    "bad": "failed rejected cancelled returned reversed suspended abandoned voided aborted",
}
"""Colour -> the states that it helps to read; every other state is grey."""

RENAMED = {
    "canceled": "cancelled",
    "timed_out": "not answered in time",
    "awaiting_review": "waiting for review",
    "in_transit": "on its way to the bank",
    "payout_pending": "on its way to the bank",
    "transferred": "on its way to the bank",
    "transferring": "being sent",
    "batched": "being sent",
    "accrued": "owed",
}
"""States whose names would puzzle a reader."""

REASON_WORDS = {
    "stump": "Good chance of a stump",
    "exploration": "Could do better than is known so far",
    "urgency": "The task is pressing",
    "quality": "Accepted work of quality",
    "interest": "Interest in the task",
    "affinity": "Profile near the task",
    "learning": "The outcome would teach much",
    "cost": "Pay and fee",
    "concentration": "Holds a share of the project already",
}
"""The parts of a pair's value in plain words."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of what a pair is worth.

    Units: `weighed` in units of value; `starts` and `width` in thousandths of a bar that all parts
        which speak for the pair fill together, nought for one that speaks against it.
    """

    text: str
    weighed: float
    starts: float
    width: float


def reasons(parts: Mapping[str, Mapping[str, float | str]]) -> list[Reason]:
    """The parts of a pair's value, what speaks most for it first; parts that add nothing are left
    out.
    """
    weighed = {name: float(part["weighed"]) for name, part in parts.items()}
    whole = sum(amount for amount in weighed.values() if amount > 0)
    found, starts = [], 0.0
    for name, amount in sorted(weighed.items(), key=lambda item: -item[1]):
        # Less than a thousandth would read as nought.
        if abs(amount) < 0.0005:
            continue
        width = 1000 * amount / whole if amount > 0 else 0.0
        found.append(Reason(REASON_WORDS.get(name, capital(words(name))), amount, starts, width))
        starts += width
    return found


def money(amount_minor: int | None, currency: str = "USD") -> str:
    """An amount as people write it, with as many decimals as its currency has."""
    if amount_minor is None:
        return NOTHING
    sign = "−" if amount_minor < 0 else ""
    decimals = exponent_of(currency)
    whole, rest = divmod(abs(int(amount_minor)), 10**decimals)
    tail = f".{rest:0{decimals}d}" if decimals else ""
    return f"{sign}{whole:,}{tail}{HELD_TOGETHER}{currency}"


def duration(seconds: int | None, units: int = 2) -> str:
    """A stretch of time in its largest units, from days to seconds; nothing that is nought."""
    if seconds is None:
        return NOTHING
    # Up to two days hours are easier to think in.
    sizes = [(86_400, "days")] if seconds >= 2 * 86_400 else []
    sizes += [(3600, "h"), (60, "min"), (1, "s")]
    rest, said = int(seconds), list[tuple[int, str]]()
    for size, name in sizes:
        number, rest = divmod(rest, size)
        if number or said:
            said.append((number, name))
    some = [f"{number}{HELD_TOGETHER}{name}" for number, name in said[:units] if number]
    return HELD_TOGETHER.join(some) or f"0{HELD_TOGETHER}s"


def when(at: datetime | None, zone: str = "UTC") -> str:
    """A moment, in a zone; its name is said where it is not UTC."""
    if at is None:
        return NOTHING
    try:
        local = at.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        local, zone = at.astimezone(UTC), "UTC"
    said = f"{local:%-d %b %Y, %H:%M}".replace(" ", HELD_TOGETHER)
    return said if zone == "UTC" else f"{said} ({zone.rsplit('/', 1)[-1].replace('_', ' ')} time)"


def day(on: date | None) -> str:
    """A day without its hours."""
    return NOTHING if on is None else f"{on:%-d %b %Y}".replace(" ", HELD_TOGETHER)


def last_day(until: date) -> str:
    """The last day of a stretch that ends before a moment, or before a day begins."""
    if isinstance(until, datetime):
        return day((until - timedelta(microseconds=1)).date())
    return day(until - timedelta(days=1))


def left(until: datetime | None, at: datetime) -> str:
    """How long it is until a moment, in words."""
    if until is None:
        return NOTHING
    seconds = int((until - at).total_seconds())
    return f"{duration(seconds)} left" if seconds > 0 else "over"


def share(part: float | None) -> str:
    """A share in per cent."""
    return NOTHING if part is None else f"{100 * part:.1f}{HELD_TOGETHER}%"


def count(number: float | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if number is None else f"{int(number):,}"


def words(text: str) -> str:
    """A slug as words."""
    return text.replace("_", " ").replace(".", " ").replace("-", " ")


def capital(text: str) -> str:
    """The same words with a capital at their head."""
    return text[:1].upper() + text[1:]


def named_state(state: str) -> str:
    """A state in words."""
    return RENAMED.get(state, words(state))


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an event says, for people; `subject` where it is the id of something."""

    name: str
    text: str
    subject: UUID | None = None


def facts(data: Mapping[str, object]) -> list[Fact]:
    """What an event says: amounts with their currency, stretches of time in their units."""
    currency = data.get("currency")
    money_in = currency if isinstance(currency, str) and len(currency) == 3 else None
    has_amount = any(name.endswith("_minor") for name in data)
    return [
        _fact(name, value, money_in)
        for name, value in data.items()
        if not (name == "currency" and money_in and has_amount)
    ]


def _fact(name: str, value: object, currency: str | None) -> Fact:
    if isinstance(value, bool):
        return Fact(words(name), "yes" if value else "no")
    if isinstance(value, int) and name.endswith("_minor") and currency:
        return Fact(words(name.removesuffix("_minor")), money(value, currency))
    if isinstance(value, int) and name.endswith("_s"):
        return Fact(words(name.removesuffix("_s")), duration(value))
    if isinstance(value, str) and (name == "id" or name.endswith("_id")):
        try:
            subject = UUID(value)
        except ValueError:
            return Fact(words(name), value)
        return Fact(words(name.removesuffix("_id")), f"…\u2060{value[-12:]}", subject)
    if isinstance(value, (list, tuple)):
        return Fact(words(name), ", ".join(map(str, value)) or NOTHING)
    return Fact(words(name), NOTHING if value is None else str(value))


def domain(slug: str) -> str:
    """A field, and the part of it: `chemistry.organic` as `Chemistry: organic`."""
    field, _, rest = slug.partition(".")
    said = capital(words(field))
    return f"{said}: {words(rest)}" if rest else said


def tone(state: str) -> str:
    """The colour that helps to read a state."""
    return next((name for name, states in TONES.items() if state in states.split()), "")
