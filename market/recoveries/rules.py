"""States, limits and refusals of cases about pay that was wrong."""

from datetime import datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

RECOVERY_CASE = Machine(
    "recovery_case",
    initial=("opened",),
    moves=(Move("uphold", ("opened",), "upheld"), Move("dismiss", ("opened",), "dismissed")),
)

ANSWER_WITHIN = timedelta(days=5)
"""How long an expert has to answer; three working days fit into it wherever they begin."""
SHORTEST_REASON = 40


class EarningNotFound(MarketError):
    """No line of pay has this id."""

    def __init__(self, earning_id: UUID) -> None:
        super().__init__("there is no such line of pay")
        self.earning_id = earning_id


class CaseNotFound(MarketError):
    """No case that the caller may see has this id."""

    def __init__(self, case_id: UUID) -> None:
        super().__init__("there is no such case")
        self.case_id = case_id


class CaseReasonMissing(MarketError):
    """A case without facts that an expert could answer."""

    def __init__(self) -> None:
        super().__init__(
            f"say in {SHORTEST_REASON} characters or more what is wrong and what shows it"
        )


class CaseExists(MarketError):
    """A line of pay that a case is open about, or was upheld about."""

    def __init__(self, earning_id: UUID) -> None:
        super().__init__("this line of pay has a case already")
        self.earning_id = earning_id


class SamePerson(MarketError):
    """Whoever opened a case is to decide it, too."""

    def __init__(self) -> None:
        super().__init__("a case is decided by another person than the one who opened it")


class AnswerStillDue(MarketError):
    """A case that is to be upheld while its expert may still answer."""

    def __init__(self, answer_by: datetime) -> None:
        super().__init__(f"the expert may answer until {answer_by:%Y-%m-%d %H:%M} UTC; wait for it")
        self.answer_by = answer_by.isoformat()


def checked_reason(text: str) -> str:
    """What a case or an answer says, once it says enough.

    Raises:
        CaseReasonMissing.
    """
    if len(text.strip()) < SHORTEST_REASON:
        raise CaseReasonMissing()
    return text.strip()
