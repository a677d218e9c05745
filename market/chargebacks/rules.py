"""What is refused about card disputes, and how our answer to the bank is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from market.errors import MarketError
from payouts.money import Money

SHORTEST_NOTE = 10


class DisputeNotFound(MarketError):
    """No card dispute that the caller may see has this id."""

    def __init__(self, dispute_id: UUID) -> None:
        super().__init__("there is no such card dispute")
        self.dispute_id = dispute_id


class DisputeAnswered(MarketError):
    """Evidence for a card dispute that is decided, or was answered before."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"this card dispute is {state} or has been answered: a bank takes evidence once"
        )
        self.state_now = state


class EvidenceMissing(MarketError):
    """An answer to a bank without a word of a person's."""

    def __init__(self) -> None:
        super().__init__(
            f"say in {SHORTEST_NOTE} characters or more, for the bank to read, what was agreed"
        )


@dataclass(frozen=True, slots=True)
class PaidWork:
    """What one project of a lab paid for in one week.

    Units: seconds; minor units of `currency`.
    """

    project: str
    week: date
    seconds: int
    pay_minor: int
    fee_minor: int
    currency: str


def evidence_of(note: str, work: Sequence[PaidWork], paid_in: Money) -> dict[str, str]:
    """Our answer: a person's words, then the work that the payment was used for, line by line.

    Raises:
        EvidenceMissing.
    """
    if len(note.strip()) < SHORTEST_NOTE:
        raise EvidenceMissing()
    lines = [
        f"{one.week} {one.project}: {one.seconds / 3600:.2f} hours,"
        f" {Money(one.pay_minor, one.currency)} to experts and"
        f" {Money(one.fee_minor, one.currency)} of fee"
        for one in work
    ]
    listed = "\n".join(lines) or "No work has been paid from this lab's money yet."
    return {
        "product_description": (
            f"Prepaid budget of {paid_in} for expert work, ordered and directed by the payer."
        ),
        "uncategorized_text": f"{note.strip()}\n\nWork paid, by week and project:\n{listed}",
    }
