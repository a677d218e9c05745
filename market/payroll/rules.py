"""Which weeks a payroll can be asked for; pure."""

from datetime import date

from market.errors import MarketError


class WeeksUnfit(MarketError):
    """Weeks that are named by no Monday, or that end before they begin."""

    def __init__(self, first: date, last: date) -> None:
        super().__init__(
            "weeks are named by their Mondays, the first one first:"
            f" not {first.isoformat()} to {last.isoformat()}"
        )
        self.first, self.last = first.isoformat(), last.isoformat()


def checked_weeks(first: date, last: date | None) -> tuple[date, date]:
    """The first and the last week, which is the same where no last one is named.

    Raises:
        WeeksUnfit.
    """
    last = last or first
    if first.weekday() or last.weekday() or last < first:
        raise WeeksUnfit(first, last)
    return first, last
