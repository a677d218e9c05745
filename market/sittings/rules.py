"""Sittings: their states, how long they take, what a result means, what is refused; pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from market.errors import MarketError
from market.qualifications.rules import RETAKE_AFTER
from market.states import Machine, Move

if TYPE_CHECKING:
    from matching.adaptive import Evidence

SITTING = Machine(
    "sitting",
    ("open",),
    (
        # By its stop rule, or because nothing is left to ask.
        Move("finish", ("open",), "finished"),
        # Its time was over; what was answered counts all the same.
        Move("run_out", ("open",), "run_out"),
    ),
)

RESULTS = ("passed", "failed", "borderline", "thin", "pilot")
"""What a sitting came to. Only the first two decide a qualification: a test that cannot tell the
sides of the cut apart, one of few answers, and one of a bank that is not calibrated yet, do not."""

SITTING_FOR = timedelta(hours=3)
"""How long a sitting may take."""

GRACE = timedelta(seconds=5)
"""How much later than its limit an answer may arrive, for the way that it takes."""

SITTINGS_EACH = 3
"""Sittings that one qualification allows."""

SITTINGS_A_YEAR = 6
"""Sittings in one bank that a person has in a year."""

YEAR = timedelta(days=365)

SURE = 0.85
"""Posterior probability from which a side of the cut is a verdict. Of the inflated posterior: what
a test says agrees with a full record in so many cases, not more."""

NORMAL_90 = 1.6448536269514722

MAX_ANSWER = 2_000
MIN_CHALLENGE = 20


def bank_name(domain: str | None, review_level: int | None) -> str:
    """The bank that tests a subject: a domain's own, or that of a level of review."""
    return domain if domain is not None else f"review.{review_level}"


def seed_of(sitting_id: UUID) -> int:
    """The seed of a sitting: the random half of its id, which nobody knows before it begins."""
    return int.from_bytes(sitting_id.bytes[8:], "big") >> 1


def result_of(evidence: "Evidence", *, is_pilot: bool, least: int) -> str:
    """What evidence comes to; never a verdict from few answers, or from a bank that says little."""
    if is_pilot:
        return "pilot"
    if evidence.items < least or evidence.chance_above is None:
        return "thin"
    if evidence.chance_above >= SURE:
        return "passed"
    return "failed" if evidence.chance_above <= 1 - SURE else "borderline"


def weakened(mean: float, sd: float, inflation: float) -> float:
    """What the stump model is told of a test: its mean, with as much less weight as its doubt is
    more than the test alone would have.

    The answers' own information is taken out of the posterior under a standard normal prior,
    weakened until the variance is the inflated one, and put back; of a test that says less than the
    prior nothing is left.

    Units: ability standard deviations; `sd` inflated already, by the factor `inflation` on its
        square.
    """
    alone = sd**2 / inflation
    if alone >= 1:
        return 0.0
    return mean * max(1 - sd**2, 0.0) / (1 - alone)


@dataclass(frozen=True, slots=True)
class Prospects:
    """What would change a result: in words, and as facts."""

    text: str
    sittings_left: int
    again_at: datetime | None
    can_appeal: bool


def prospects(
    result: str, *, pass_score: int, state: str, sittings_left: int, decided_at: datetime | None
) -> Prospects:
    """What would change a result, by the state that its qualification is in now."""
    again_at = None if state != "denied" or decided_at is None else decided_at + RETAKE_AFTER
    can_appeal = state in ("denied", "revoked")
    more = sittings_left if state == "in_progress" else 0
    if state == "granted":
        text = "You are qualified; nothing more is needed until it runs out."
    elif again_at is not None:
        text = (
            f"Ability enough to get {pass_score} % of these items right, at {SURE:.0%} chance. From"
            f" {again_at:%Y-%m-%d} on you may be invited to a new test with other items. A wrong"
            " key that you challenge is repaired, and the decision can be appealed."
        )
    elif more:
        text = {
            "thin": "Too few items were answered to say anything.",
            "pilot": "This bank is being calibrated; it gives no verdicts yet.",
        }.get(result, f"{pass_score} % lies within what the answers leave open.")
        text += f" {more} more with other items may follow now; what you answered counts on."
    elif state == "in_progress":
        text = "The sittings of this test are used up; ops decide by what was answered."
    else:
        text = f"This test is {state}; a new one begins with an invitation."
    return Prospects(text, more, again_at, can_appeal)


class SittingNotFound(MarketError):
    """No sitting of the caller's has this id."""

    def __init__(self, sitting_id: UUID) -> None:
        super().__init__("there is no such sitting")
        self.sitting_id = sitting_id


class SittingHeld(MarketError):
    """A second sitting while one is open."""

    def __init__(self, sitting_id: UUID) -> None:
        super().__init__("a sitting of this test is open; go on with it")
        self.sitting_id = f"sit_{sitting_id.hex}"


class SittingsUsedUp(MarketError):
    """More sittings than a qualification, or a year, allows."""

    def __init__(self, limit: int, again_at: datetime | None) -> None:
        then = (
            "ops decide by what you have answered"
            if again_at is None
            else f"there is another from {again_at:%Y-%m-%d} on"
        )
        super().__init__(f"the {limit} sittings of this test are used up; {then}")
        self.limit = limit
        self.again_at = None if again_at is None else again_at.isoformat()


class BankExhausted(MarketError):
    """A bank without enough items that a person has not seen."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the bank {name} has too few items left that you have not seen; it is refilled by ops"
        )
        self.bank = name


class BankOutOfReach(MarketError):
    """A pass score that no ability this bank can measure comes to."""

    def __init__(self, name: str, pass_score: int) -> None:
        super().__init__(
            f"the items of {name} cannot tell who gets {pass_score} % of them right; ask for"
            " another pass score, or add easier and harder items"
        )
        self.bank = name
        self.pass_score = pass_score


class ItemNotOpen(MarketError):
    """An answer to an item that is not the open one."""

    def __init__(self, step: int | None) -> None:
        which = "no item is open; ask for the next one" if step is None else f"item {step} is open"
        super().__init__(which)
        self.open_step = step


class AnsweredOtherwise(MarketError):
    """Another answer to an item that was answered."""

    def __init__(self, step: int) -> None:
        super().__init__(f"item {step} was answered otherwise; an answer stands once it is given")
        self.step = step


class AnswerTooLate(MarketError):
    """An answer after the time for its item."""

    def __init__(self, due_at: datetime) -> None:
        super().__init__(
            f"the time for this item was over at {due_at:%H:%M:%SZ}; it counts as not known; ask"
            " for the next one"
        )
        self.due_at = due_at.isoformat()


class AnswerUnfit(MarketError):
    """An answer that cannot be one, or a challenge without a reason."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
