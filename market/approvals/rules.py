"""What a line of pay waits for, in words."""

from datetime import datetime

from market.earnings.rules import PAID_AT, Period, week_of


def what_next(
    state: str, review_until: datetime | None, payout_state: str | None, *, at: datetime
) -> str:
    """What happens to a line of pay next, for its expert to read."""
    if payout_state == "paid":
        return "Nothing: it is paid, and the money is in the bank."
    if payout_state is not None:
        return f"Its payout is {payout_state.replace('_', ' ')}; the payout says what comes next."
    if state == "accrued" and review_until is not None:
        return (
            f"The lab can look at it until {review_until:%Y-%m-%d %H:%M} UTC; if it says nothing,"
            " the line is approved then."
        )
    if state == "disputed":
        return "A person decides about it; the dispute says by when, and what was said so far."
    if state == "withheld":
        return "A decision withheld it; the dispute says whose, why, and how to appeal."
    run = Period(week_of(at)).starts_at + PAID_AT
    if run <= at:
        run = Period(week_of(at)).ends_at + PAID_AT
    return f"It is approved, and goes out with the payouts of {run:%Y-%m-%d %H:%M} UTC."
