"""Reviews and verdicts: states, what a vote needs, how votes become a verdict, what is refused.

A majority is strictly more than half of the votes. A submission is accepted unless a majority
rejects it, so a tie is the author's. It is validated when a majority says that the target model
failed, and a stump when it is accepted, validated, and a majority says that the attempt was fair;
here a tie is nobody's proof.
"""

import math
from dataclasses import dataclass
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

REVIEW = Machine(
    "review",
    ("queued",),
    (
        Move("claim", ("queued",), "claimed"),
        Move("open", ("claimed",), "in_progress"),
        # A claim shows the submission already; who votes at once has opened it by that.
        Move("vote", ("claimed", "in_progress"), "voted"),
        Move("agree", ("voted",), "agreed"),
        Move("conflict", ("voted",), "conflict"),
        Move("assign_senior", ("conflict",), "adjudicating"),
        Move("decide", ("adjudicating",), "final"),
        Move("close", ("agreed",), "final"),
        Move("expire", ("queued", "claimed", "in_progress"), "expired"),
        Move("requeue", ("expired",), "queued"),
        Move("recuse", ("claimed", "in_progress"), "recused"),
        Move("overturn", ("final",), "overturned"),
    ),
)

HELD = ("claimed", "in_progress")
CLAIM_S = 2 * 3600
"""How long a reviewer may hold a review before it goes back to the queue."""

MIN_REJECTION = 100
"""Characters that the reason of a rejection needs."""

MAX_NOTE = 10_000

REASON_CODES = (
    "instructions_not_followed",
    "wrong_answer",
    "incomplete",
    "not_original",
    "unclear",
    "out_of_domain",
    "unsafe_content",
    "fabricated",
)
"""Why work may be rejected; a rejection names one."""

Z_95 = 1.959963984540054
"""The quantile of the normal distribution that leaves 2.5 % above it."""


class ReviewNotFound(MarketError):
    """No review that the caller may see has this id."""

    def __init__(self, review_id: UUID) -> None:
        super().__init__("there is no such review")
        self.review_id = review_id


class SelfReview(MarketError):
    """A review of one's own work."""

    def __init__(self) -> None:
        super().__init__("nobody reviews work of their own")


class AlreadyReviewing(MarketError):
    """A second review of one submission by one person."""

    def __init__(self) -> None:
        super().__init__("you have a review of this submission; someone else takes this one")


class ReviewTaken(MarketError):
    """A review that another person holds, or that is done."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this review is {state.replace('_', ' ')}; claim another one")
        self.state = state


class ReviewLapsed(MarketError):
    """A vote on a review whose time was over."""

    def __init__(self) -> None:
        super().__init__("your time for this review is over; claim it again")


class QueueEmpty(MarketError):
    """No review waits that this reviewer may take."""

    def __init__(self) -> None:
        super().__init__("no review waits for you; ask again later")


class RejectionUnfounded(MarketError):
    """A rejection without a coded reason and a hundred characters on it."""

    def __init__(self, field: str) -> None:
        super().__init__(
            "a rejection names a reason_code and says why in a note of at least"
            f" {MIN_REJECTION} characters; {field} does not do"
        )
        self.field = field
        self.reason_codes = list(REASON_CODES)


class VoteIncomplete(MarketError):
    """A vote on an attempt that does not say whether the model failed, and fairly."""

    def __init__(self, field: str) -> None:
        super().__init__(f"this submission has an attempt: its vote needs {field}")
        self.field = field


class VoteUnfit(MarketError):
    """A vote with a figure or a text out of bounds."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Vote:
    """What one reviewer says of a submission."""

    verdict: str
    model_failed: bool | None = None
    attempt_fair: bool | None = None
    reason_code: str | None = None
    note: str = ""
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on one submission, counted: of how many asked, how many are in, and what they say.

    A majority is of the votes that were asked for, so that silence adds to no side.
    """

    needed: int
    votes: int
    rejects: int
    model_failed: int
    attempt_fair: int

    @property
    def is_complete(self) -> bool:
        """Whether no vote is missing."""
        return self.votes >= self.needed

    @property
    def is_accepted(self) -> bool:
        """Accepted, unless strictly more than half reject."""
        return 2 * self.rejects <= self.needed

    @property
    def is_validated(self) -> bool:
        """Whether strictly more than half say that the model failed."""
        return 2 * self.model_failed > self.needed

    @property
    def is_fair(self) -> bool:
        """Whether strictly more than half say that the attempt was a fair question."""
        return 2 * self.attempt_fair > self.needed


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, with the interval in which the true share lies, 95 times in 100."""

    part: int
    whole: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share itself; none of nothing."""
        return self.part / self.whole if self.whole else None


def check_vote(vote: Vote, *, has_attempt: bool) -> None:
    """Refuse a vote that does not say what its kind must say.

    Raises:
        RejectionUnfounded, VoteIncomplete, VoteUnfit.
    """
    if vote.verdict not in ("accept", "reject"):
        raise VoteUnfit("verdict", "accept or reject")
    if not 0 <= vote.seconds <= 24 * 3600:
        raise VoteUnfit("seconds", "0 to 86400")
    if len(vote.note) > MAX_NOTE:
        raise VoteUnfit("note", f"at most {MAX_NOTE} characters")
    if vote.reason_code is not None and vote.reason_code not in REASON_CODES:
        raise VoteUnfit("reason_code", "one of " + ", ".join(REASON_CODES))
    if vote.verdict == "reject":
        if vote.reason_code is None:
            raise RejectionUnfounded("reason_code")
        if len(vote.note.strip()) < MIN_REJECTION:
            raise RejectionUnfounded("note")
    if has_attempt:
        for field in ("model_failed", "attempt_fair"):
            if getattr(vote, field) is None:
                raise VoteIncomplete(field)


def wilson(part: int, whole: int, z: float = Z_95) -> Share:
    """A share with its score interval, which holds for small counts and for shares near 0 and 1.

    Source: Wilson (1927), Journal of the American Statistical Association 22, 209-212.
    """
    if whole == 0:
        return Share(0, 0, 0.0, 1.0)
    share = part / whole
    spread = z * z / whole
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / whole + spread / (4 * whole))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return Share(part, whole, max(0.0, low), min(1.0, high))
