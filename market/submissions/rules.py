"""Submissions: their states, their limits, what is refused."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

MAX_PAYLOAD_BYTES = 1024 * 1024

LEASE_GRACE = timedelta(minutes=15)
"""How long after its deadline an offer on which nobody works is left to its expert."""

SUBMISSION = Machine(
    "submission",
    ("draft",),
    (
        Move("submit", ("draft",), "awaiting_review"),
        Move("give_back", ("draft",), "returned"),
        Move("time_out", ("draft",), "timed_out"),
        Move("screen_out", ("draft",), "screened_out"),
        Move("claim", ("awaiting_review",), "in_review"),
        Move("auto_approve", ("awaiting_review", "in_review"), "accepted"),
        Move("accept", ("in_review",), "accepted"),
        Move("accept_share", ("in_review",), "partially_accepted"),
        Move("ask_rework", ("in_review",), "rework_requested"),
        Move("reject", ("in_review",), "rejected"),
        Move("resubmit", ("rework_requested",), "awaiting_review"),
        Move("decline_rework", ("rework_requested",), "returned"),
        Move("appeal", ("rejected", "partially_accepted"), "appealed"),
        Move("overturn", ("appealed",), "accepted"),
        Move("overturn_partly", ("appealed",), "partially_accepted"),
        Move("uphold", ("appealed",), "rejected_final"),
        # An appeal against a part leaves at least that part.
        Move("uphold_share", ("appealed",), "partially_accepted"),
        Move("miss_deadline", ("appealed",), "accepted"),
        # Only by a case of fraud that was heard, and back only by its appeal.
        Move("void", ("accepted",), "voided"),
        Move("reinstate", ("voided",), "accepted"),
        Move("unreject", ("rejected", "rejected_final"), "accepted"),
    ),
)


OPEN = ("draft", "rework_requested")
"""The states in which a submission is still being written."""


def says_something(payload: Mapping[str, object]) -> bool:
    """Whether anything is written in a draft: more than the names of fields, and blanks."""
    return any(
        value.strip() if isinstance(value, str) else value not in (None, [], {})
        for value in payload.values()
    )


class SubmissionNotFound(MarketError):
    """No submission that the caller may see has this id."""

    def __init__(self, submission_id: UUID) -> None:
        super().__init__("there is no such submission")
        self.submission_id = submission_id


class NoSessionTime(MarketError):
    """Work handed in without a second of recorded time on it."""

    def __init__(self) -> None:
        super().__init__("there is no recorded time on this offer; start a work session first")


class AlreadySubmitted(MarketError):
    """A second submission on one offer."""

    def __init__(self) -> None:
        super().__init__("this offer has its submission; nothing more can be handed in on it")


class PayloadTooLarge(MarketError):
    """A payload above what is kept of one submission."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a submission holds at most {MAX_PAYLOAD_BYTES} bytes, not {size}")
        self.size = size
        self.limit = MAX_PAYLOAD_BYTES


class PayloadEmpty(MarketError):
    """A submission with nothing in it."""

    def __init__(self) -> None:
        super().__init__("a submission needs a payload with at least one field")
