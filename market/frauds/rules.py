"""The states of a case of fraud, and what is refused about it; pure."""

from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

FRAUD_CASE = Machine(
    "fraud_case",
    ("opened",),
    (
        Move("uphold", ("opened",), "upheld"),
        Move("dismiss", ("opened",), "dismissed"),
        Move("appeal", ("upheld",), "appealed"),
        Move("uphold_appeal", ("appealed",), "final"),
        Move("overturn", ("appealed",), "overturned"),
        # Silence gives the work and its pay back.
        Move("miss_appeal", ("appealed",), "overturned"),
    ),
)

ENDED = ("dismissed", "overturned")
"""The states in which a case says nothing against its submission any more."""


class FraudCaseNotFound(MarketError):
    """No case of fraud that the caller may see has this id."""

    def __init__(self, case_id: UUID) -> None:
        super().__init__("there is no such case")
        self.case_id = case_id


class FraudCaseExists(MarketError):
    """A submission that a case is open about, or was upheld about."""

    def __init__(self, submission_id: UUID) -> None:
        super().__init__("this submission has a case already")
        self.submission_id = submission_id


class PayInDispute(MarketError):
    """A case that is to be upheld while a dispute about the time of its work is open."""

    def __init__(self) -> None:
        super().__init__("a dispute about the pay of this work is open; it is decided first")
