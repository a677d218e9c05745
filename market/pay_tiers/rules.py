"""When a step to another pay tier begins, and refusals; pure."""

from datetime import UTC, datetime, time, timedelta

from market.errors import MarketError

DEMOTION_NOTICE = timedelta(days=7)
"""How long before it begins at least a step down to a lower pay tier is announced."""


def demotion_starts(announced_at: datetime) -> datetime:
    """When a step down begins: with a pay week, the first that begins after the notice for it."""
    earliest = announced_at.astimezone(UTC) + DEMOTION_NOTICE
    monday = datetime.combine(earliest.date() - timedelta(days=earliest.weekday()), time(), UTC)
    return monday if monday >= earliest else monday + timedelta(days=7)


class TierInForce(MarketError):
    """An expert stands on this pay tier already, or an assignment starts at this very moment."""

    def __init__(self, tier: str) -> None:
        super().__init__(f"the expert stands on pay tier {tier} already")
        self.tier = tier


class TierInPast(MarketError):
    """A pay tier assigned from a time before the present assignment began."""

    def __init__(self) -> None:
        super().__init__("a pay tier cannot begin before the present one did")
