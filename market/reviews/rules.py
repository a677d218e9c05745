"""Reviews: their states, how long they are held, who may take one, what is refused."""

from datetime import timedelta
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
        # Also after the vote, as long as nothing is decided: a tie may come to light late.
        Move("recuse", ("claimed", "in_progress", "voted"), "recused"),
        Move("overturn", ("final",), "overturned"),
    ),
)

HELD = ("claimed", "in_progress")
CLAIM_S = 2 * 3600
"""How long a reviewer may hold a review before it goes back to the queue."""

VERDICTS = ("accept", "accept_share", "rework", "reject")
"""What a reviewer may say of work: take it, take a part, send it back to its author, refuse it."""

SOON = timedelta(hours=24)
"""What silence decides within this time is reviewed before all else."""

WAITS_LONG = timedelta(hours=1)
"""How long work has waited when those who may review it are told that it does."""

RESERVED = timedelta(hours=24)
"""How long reworked work waits for the reviewer who sent it back, before anybody may take it."""

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


class ConflictOfInterest(MarketError):
    """A review by somebody who is tied to the author."""

    def __init__(self) -> None:
        super().__init__(
            "a conflict of interest is on record, so you cannot review this; take another one"
        )


class LevelTooLow(MarketError):
    """A review that needs a qualification which its reviewer has not got."""

    def __init__(self, level: int) -> None:
        super().__init__(f"this review needs a reviewer of level {level}")
        self.level = level
