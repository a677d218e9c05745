"""What is refused about the books."""

from datetime import timedelta
from uuid import UUID

from market.errors import MarketError

BOOKS_CHECK = "books_check"
"""The kind of operation that looks at all invariants."""

CHECK_TAKES = timedelta(hours=3)
"""The longest that a check can take: two tries of its job, and the wait between them."""

SUBJECTS_KEPT = 100
"""How many things that break one invariant are named in what a check found."""


class BooksBroken(MarketError):
    """Something is in the books that must not be."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(f"{len(found)} things in the books must not be: " + "; ".join(found[:20]))
        self.found = found


class BreaksOverdue(MarketError):
    """Stripe and the books have differed for more than a day, and nobody has said why."""

    def __init__(self, overdue: int) -> None:
        super().__init__(f"{overdue} differences between Stripe and the books are over a day old")
        self.overdue = overdue


class ProofsBroken(MarketError):
    """The books are not what was published about them."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("; ".join(found[:20]))
        self.found = found


class BreakNotFound(MarketError):
    """No open break has this id."""

    def __init__(self, break_id: UUID) -> None:
        super().__init__("there is no such break, or it has ended")
        self.break_id = break_id


class BreakUnbookable(MarketError):
    """A break between two figures of Stripe's own, which no entry of ours can mend."""

    def __init__(self, break_id: UUID) -> None:
        super().__init__("Stripe contradicts itself here: resolve it as explained, with Stripe")
        self.break_id = break_id


class ResolutionUnknown(MarketError):
    """A way to end a break that there is not."""

    def __init__(self, how: str) -> None:
        super().__init__("how is `explained` or `suspense`")
        self.how = how[:40]


class ExplanationMissing(MarketError):
    """A break ended without a word on why."""

    def __init__(self) -> None:
        super().__init__("say in 10 characters or more why; the auditor will read it")


class ProofNotFound(MarketError):
    """No published proof has this number, or none holds this entry yet."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


class OwnMoneyShort(MarketError):
    """More than is our own was to leave for our bank."""

    def __init__(self, own_minor: int) -> None:
        super().__init__(
            f"{own_minor} minor units are our own; the rest belongs to labs and experts"
        )
        self.own_minor = own_minor


def checked_explanation(note: str) -> str:
    """Why a break ended, once it says enough.

    Raises:
        ExplanationMissing.
    """
    if len(note.strip()) < 10:
        raise ExplanationMissing()
    return note.strip()
