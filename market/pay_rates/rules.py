"""What the average rates of pay are told by; pure."""

from typing import Literal

By = Literal["project", "lab", "domain", "tier"]


def average_minor(pay_minor: int, seconds: int) -> int:
    """What an hour came to, every second counting alike, to the nearest minor unit.

    Units: `seconds` above 0.
    """
    return (2 * pay_minor * 3600 + seconds) // (2 * seconds)
