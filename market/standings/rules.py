"""The steps of an expert's standing, and what is refused of one; pure."""

from market.errors import MarketError

STEPS = ("watch", "limit", "suspend", "close", "lift")
"""What ops, and the rules that they write, can do about somebody's standing."""


class EvidenceMissing(MarketError):
    """An expert shut out without evidence."""

    def __init__(self, action: str) -> None:
        super().__init__(f"{action} needs evidence: name one piece of it at least")
        self.action = action


class MeasureUnfit(MarketError):
    """A step of standing with a reach or an end that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
