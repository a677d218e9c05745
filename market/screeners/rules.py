"""Limits of screeners, and what is refused about them; pure."""

from collections.abc import Sequence
from uuid import UUID

from market.errors import MarketError

MAX_CODES = 20
MAX_CODE = 64
MAX_PAY_MINOR = 10_000
"""The most that a screening can pay, in minor units: it is short, or it is no screening."""


class ScreenerNotFound(MarketError):
    """A project, or an offer made before it had one, without a screener."""

    def __init__(self, subject_id: UUID) -> None:
        super().__init__("there is no screener here; give the task back instead")
        self.subject_id = subject_id


class ScreenerUnfit(MarketError):
    """A screener with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class ScreenerCodeUnknown(MarketError):
    """A code that the task's screener does not give."""

    def __init__(self) -> None:
        super().__init__("this is no code of this task's screener; copy it as the task shows it")


def checked_codes(codes: Sequence[str]) -> list[str]:
    """The codes without what surrounds them; none ends screening.

    Raises:
        ScreenerUnfit.
    """
    found = [code.strip() for code in codes]
    if len(found) > MAX_CODES or len(set(found)) < len(found):
        raise ScreenerUnfit("codes", f"at most {MAX_CODES}, no two alike")
    if any(not 4 <= len(code) <= MAX_CODE for code in found):
        raise ScreenerUnfit("codes", f"each of 4 to {MAX_CODE} characters")
    return found


def checked_pay(pay_minor: int) -> int:
    """What a screening pays.

    Raises:
        ScreenerUnfit.
    """
    if not 0 <= pay_minor <= MAX_PAY_MINOR:
        raise ScreenerUnfit("pay_minor", f"0 to {MAX_PAY_MINOR}")
    return pay_minor
