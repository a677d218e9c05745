"""How far a departure is, why experts leave, and what is refused about it; pure."""

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

DEPARTURE = Machine(
    "departure",
    ("returning",),
    (
        # What an appeal or a returned payout brings back is followed like the rest.
        Move("return_work", ("settling", "paying", "done"), "returning"),
        Move("settle", ("returning", "paying", "done"), "settling"),
        Move("pay", ("returning", "settling", "done"), "paying"),
        Move("finish", ("returning", "settling", "paying"), "done"),
        Move("call_off", ("returning", "settling", "paying", "done"), "called_off"),
    ),
)

UNDER_WAY = ("returning", "settling", "paying")

CAUSES = ("own", "asked", "region", "closed")
"""The expert's own wish, a request of ops, a country that is closed, a standing that is."""

MIN_REASON = 10
MAX_REASON = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a departure still waits for.

    Units: minor units of all currencies together for the sums, which tell only whether any is.
    """

    offers: int = 0
    """Offers and leases that are live: they go back, or are handed in within their grace."""
    sessions: int = 0
    reviews: int = 0
    """Submissions without a verdict."""
    lines: int = 0
    """Lines of pay that wait for their approval."""
    disputes: int = 0
    appeals: int = 0
    cases: int = 0
    """Cases about its work or its pay that are open."""
    owed_minor: int = 0
    payouts: int = 0
    """Payouts that are in no bank yet."""

    @property
    def stage(self) -> str:
        """How far that is."""
        if self.offers or self.sessions:
            return "returning"
        if self.reviews or self.lines or self.disputes or self.appeals or self.cases:
            return "settling"
        return "paying" if self.owed_minor or self.payouts else "done"

    def in_words(self, *, is_payee: bool) -> list[str]:
        """What is waited for, a sentence each, for the expert to read."""
        said = [
            WORDS[one.name].format(getattr(self, one.name))
            for one in fields(self)
            if one.name in WORDS and getattr(self, one.name)
        ]
        if (self.owed_minor or self.lines or self.payouts) and not is_payee:
            said.append("We cannot pay you before you say where: set up your payouts.")
        return said


WORDS = {
    "offers": "{} pieces of work go back; what is under way can be handed in within its grace.",
    "sessions": "{} work sessions are open; their time is paid until they end.",
    "reviews": "{} pieces of work wait for their verdict.",
    "lines": "{} lines of pay wait for their approval; silence approves them on Wednesday noon.",
    "disputes": "{} disputes about your time keep their clocks.",
    "appeals": "{} appeals of yours keep their clocks.",
    "cases": "{} cases about your work or pay are open.",
    "payouts": "{} payouts are on their way to your bank, or are held with a reason beside them.",
}


def way_back(step: str | None) -> str:
    """The move by which someone who left comes back to where its standing was, by the step that is
    in force against it.
    """
    return {"watch": "come_back_watched", "limit": "come_back_limited"}.get(step or "", "come_back")


class DepartureNotFound(MarketError):
    """No departure that the caller may see."""

    def __init__(self) -> None:
        super().__init__("there is no such departure")


class ReasonUnfit(MarketError):
    """A departure or a closed country without a word on why."""

    def __init__(self) -> None:
        super().__init__(
            f"say why in {MIN_REASON} to {MAX_REASON} characters; it is read by whoever it concerns"
        )


class CannotComeBack(MarketError):
    """A departure that its expert cannot call off."""

    def __init__(self, cause: str) -> None:
        why = {
            "asked": "it was asked for by ops, who can call it off",
            "region": "your country is closed; it ends by itself when the country opens again",
            "closed": "your standing is closed; an appeal can open it again",
        }
        super().__init__(f"you cannot call this departure off: {why[cause]}")
        self.cause = cause


class CountryClosed(MarketError):
    """A country that is to be closed and is, or to be opened and is."""

    def __init__(self, country: str, *, is_closed: bool) -> None:
        super().__init__(f"{country} is {'closed already' if is_closed else 'not closed'}")
        self.country = country


@dataclass(frozen=True, slots=True)
class Due:
    """A departure and what it waits for, as one look found both."""

    departure_id: UUID
    state: str
    left: Left


def checked_reason(reason: str) -> str:
    """A reason, once it says something.

    Raises:
        ReasonUnfit.
    """
    said = reason.strip()
    if not MIN_REASON <= len(said) <= MAX_REASON:
        raise ReasonUnfit()
    return said


@dataclass(frozen=True, slots=True)
class Told:
    """How far one expert's departure is.

    Units: minor units of each currency, `owed`.
    """

    cause: str
    state: str
    reason: str
    begun_at: datetime
    changed_at: datetime
    left: Left
    is_payee: bool
    owed: tuple[tuple[str, int], ...]
