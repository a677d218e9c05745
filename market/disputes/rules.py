"""Disputes about time: their states, their clocks, how what is contested is cut out; refusals.

Silence never costs an expert anything: a side that does not answer only lets a person decide
without it, and a decision that comes too late is the expert's. Only a person withholds pay.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from market.earnings.rules import Stretch, paid_at, week_of
from market.errors import MarketError
from market.states import Machine, Move
from payouts.pay import RateSpan

DISPUTE = Machine(
    "dispute",
    ("open",),
    (
        Move("respond", ("open",), "answered"),
        Move("lapse", ("open",), "answered"),
        Move("concede", ("open",), "decided"),
        Move("withdraw", ("open", "answered"), "withdrawn"),
        Move("decide", ("answered",), "decided"),
        Move("miss_deadline", ("answered",), "decided"),
        Move("appeal", ("decided",), "appealed"),
        Move("decide_appeal", ("appealed",), "final"),
        Move("miss_appeal", ("appealed",), "final"),
        Move("close", ("decided",), "final"),
    ),
)
"""Source: PAYOUTS, section 9, and the machine "appeal" of the requirements."""

KINDS = ("hours", "missing_time", "unpaid_time")
"""A lab contests credited hours; an expert asks for time that was not recorded, or not paid."""

LAB_REASONS = ("not_on_task", "wrong_task", "idle", "duplicate", "fraud")
EXPERT_REASONS = ("heartbeats_lost", "offline_work", "cap_too_low", "wrong_record", "other")

RESPOND_DAYS = 3
DECIDE_DAYS = 4
FINAL_DAYS = 5
"""Working days for the other side's answer, the decision, and the decision of an appeal."""

APPEAL_FOR = timedelta(days=14)
ASK_WITHIN = timedelta(days=14)
"""How long after it was worked time can be asked for."""

MAX_ASKED = timedelta(hours=12)
MIN_STATEMENT = 20
MAX_STATEMENT = 10_000


class DisputeNotFound(MarketError):
    """No dispute that the caller may see has this id."""

    def __init__(self, dispute_id: UUID) -> None:
        super().__init__("there is no such dispute")
        self.dispute_id = dispute_id


class DisputeReasonMissing(MarketError):
    """A word in a dispute that is too short, or a reason that is none of the list."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        listed = f", and a reason_code out of {', '.join(known)}" if known else ""
        super().__init__(f"say what is so in {MIN_STATEMENT} to {MAX_STATEMENT} characters{listed}")
        self.known = list(known)


class NothingToDispute(MarketError):
    """A range of time in which there is nothing of the kind that is disputed."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class RangeInvalid(MarketError):
    """A range of time that cannot be asked about."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the range {why}")


class NotYoursToDecide(MarketError):
    """A decision by somebody who has a part in the dispute, or who decided it before."""

    def __init__(self) -> None:
        super().__init__("someone decides who is no side of this dispute and has not decided it")


class AwardInvalid(MarketError):
    """An award of more seconds than were disputed."""

    def __init__(self, claimed_s: int) -> None:
        super().__init__(f"an award is 0 to {claimed_s} seconds, what the dispute is about")
        self.claimed_s = claimed_s


class AppealTooLate(MarketError):
    """An appeal after its time, or by somebody who was denied nothing."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


def working_days_after(at: datetime, days: int) -> datetime:
    """The same time of day so many working days later; Saturday and Sunday, by UTC, are none."""
    while days > 0:
        at += timedelta(days=1)
        if at.weekday() < 5:
            days -= 1
    return at


def checked_statement(text: str, reason_code: str = "", known: Sequence[str] = ()) -> str:
    """What a side says, once it says enough, for a known reason where one is asked for.

    Raises:
        DisputeReasonMissing.
    """
    if not MIN_STATEMENT <= len(text.strip()) <= MAX_STATEMENT or (
        known and reason_code not in known
    ):
        raise DisputeReasonMissing(known)
    return text.strip()


def contested(
    stretches: Sequence[Stretch],
    spans: Sequence[RateSpan],
    starts_at: datetime,
    ends_at: datetime,
    overtime_basis_points: int,
) -> Iterator[tuple[date, int, int]]:
    """The paid seconds of a range, by week and rate: what of each line of pay a dispute is about.

    Units: a Monday; minor units an hour; seconds.
    """
    for stretch in stretches:
        first, last = max(stretch.starts_at, starts_at), min(stretch.ends_at, ends_at)
        if first < last:
            # A second is contested as a whole, and paid at the rate in force when it begins.
            for seconds, rate in paid_at(stretch, first, last, spans, overtime_basis_points):
                yield week_of(stretch.starts_at), rate, seconds
