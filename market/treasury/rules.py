"""States, limits and refusals of money on its way to experts."""

from collections.abc import Mapping
from datetime import date, datetime
from uuid import UUID

from market.earnings.rules import week_of
from market.errors import MarketError
from payouts.seen import BalanceSeen


class PeriodEndInvalid(MarketError):
    """A day on which no pay period has ended."""

    def __init__(self, period_end: date, latest: date) -> None:
        super().__init__(
            f"a pay period ends with Sunday: send the Monday after it, {latest} or earlier,"
            f" not {period_end}"
        )
        self.latest = latest.isoformat()


class PayoutNotFound(MarketError):
    """No payout that the caller may see has this id."""

    def __init__(self, payout_id: UUID) -> None:
        super().__init__("there is no such payout")
        self.payout_id = payout_id


def checked_period_end(period_end: date, *, at: datetime) -> date:
    """The Monday that ended a pay period, once it is certain to be one.

    Raises:
        PeriodEndInvalid.
    """
    latest = week_of(at)
    if period_end.weekday() != 0 or period_end > latest:
        raise PeriodEndInvalid(period_end, latest)
    return period_end


class HoldNotFound(MarketError):
    """No hold that still stands has this id."""

    def __init__(self, hold_id: UUID) -> None:
        super().__init__("there is no such hold, or it has ended")
        self.hold_id = hold_id


class CallNotFound(MarketError):
    """No call to Stripe has this id."""

    def __init__(self, call_id: UUID) -> None:
        super().__init__("there is no such call")
        self.call_id = call_id


class CallStillOpen(MarketError):
    """A call whose outcome is known, or that was not looked for often enough."""

    def __init__(self, call_id: UUID, why: str) -> None:
        super().__init__(f"this call {why}")
        self.call_id = call_id
        self.why = why


class NoteMissing(MarketError):
    """A decision about somebody's money without a word on why."""

    def __init__(self) -> None:
        super().__init__("say in 10 characters or more why; whoever asks later will read it")


def checked_note(note: str) -> str:
    """Why somebody decided something, once it says enough.

    Raises:
        NoteMissing.
    """
    if len(note.strip()) < 10:
        raise NoteMissing()
    return note.strip()


class StripeDiffers(MarketError):
    """Stripe holds another amount for the platform than the books say."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("Stripe and the books differ: " + "; ".join(found))
        self.found = found


def differences(
    before: Mapping[str, int], after: Mapping[str, int], seen: BalanceSeen
) -> list[str]:
    """What Stripe says that the books said neither just before nor just after, in words.

    Units: minor units by currency; what is pending at Stripe counts, as it does in the books.
    """
    found = []
    for currency in sorted({*before, *after, *seen.available, *seen.pending}):
        held = seen.available.get(currency, 0) + seen.pending.get(currency, 0)
        if held not in (before.get(currency, 0), after.get(currency, 0)):
            booked = after.get(currency, 0)
            found.append(f"{currency}: Stripe holds {held}, the books say {booked}")
    return found


EXTRA_REASONS = ("correction", "retry", "leaving", "hardship")
"""Why an expert may be paid a second time in a period."""


class ExtraReasonUnknown(MarketError):
    """A second payout in a period for a reason that is none of ours."""

    def __init__(self, reason_code: str) -> None:
        super().__init__(f"reason_code is one of {', '.join(EXTRA_REASONS)}")
        self.reason_code = reason_code[:40]


class NothingOwed(MarketError):
    """An expert is to be paid, and nothing is owed that is free."""

    def __init__(self, expert_id: UUID) -> None:
        super().__init__("nothing is owed to this expert that could be paid now")
        self.expert_id = expert_id


class PayoutNotMovable(MarketError):
    """A payout that cannot be withdrawn or recalled from where it is."""

    def __init__(self, state: str, action: str) -> None:
        super().__init__(
            f"a payout that is {state} cannot be {action}: unsent ones can be withdrawn, failed"
            " and returned ones recalled"
        )
        self.state_now = state
