"""From seconds to money: the one rounding rule, and rates cut where they change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from payouts.errors import BadAmount, RateMissing, RatesOverlap

SECONDS_PER_HOUR = 3600
BASIS_POINTS = 10_000

_SECOND = timedelta(seconds=1)


def pay_minor(seconds: int, rate_minor_per_hour: int) -> int:
    """What whole seconds at one rate are worth, rounded once, a half to the even neighbour.

    Units: seconds; minor units an hour; minor units.
    Raises: BadAmount: either is negative, or not an integer.
    """
    return _half_even(_count(seconds) * _count(rate_minor_per_hour), SECONDS_PER_HOUR)


def fee_minor(pay: int, fee_basis_points: int) -> int:
    """The platform's fee on pay that has been rounded already; rounded once itself.

    Units: minor units; hundredths of a per cent; minor units.
    Raises: BadAmount: either is negative, or not an integer.
    """
    return _half_even(_count(pay) * _count(fee_basis_points), BASIS_POINTS)


def worst_case_minor(
    seconds: int, rate_minor_per_hour: int, fee_basis_points: int
) -> tuple[int, int]:
    """The pay and the fee to reserve for one line of at most so many seconds; both rounded up.

    Enough for one line at this rate. Time that will be paid in several lines needs a reservation
    for each of them, since each line is rounded on its own.

    Units: as in `pay_minor` and `fee_minor`.
    Raises: BadAmount: one of them is negative, or not an integer.
    """
    pay = -(-_count(seconds) * _count(rate_minor_per_hour) // SECONDS_PER_HOUR)
    fee = -(-pay * _count(fee_basis_points) // BASIS_POINTS)
    return pay, fee


@dataclass(frozen=True, slots=True)
class RateSpan:
    """A rate and when it is in force: from `starts_at` on, until just before `ends_at`."""

    rate_minor_per_hour: int
    starts_at: datetime
    ends_at: datetime | None


def split_by_rate(
    start: datetime, end: datetime, spans: Sequence[RateSpan]
) -> list[tuple[int, int]]:
    """Cut a stretch of time where its rate changes: pairs of whole seconds and their rate.

    The seconds are counted from `start`, and each is paid at the rate in force when it begins; a
    fraction left at the end is not a second yet. Neighbours at one rate come as one pair.

    Units: seconds; minor units an hour.
    Raises: RateMissing, RatesOverlap.
    """
    total = max(0, (end - start) // _SECOND)
    pieces: list[tuple[int, int]] = []
    done = 0
    for span in sorted(spans, key=lambda span: span.starts_at):
        first = min(total, max(0, _seconds_until(start, span.starts_at)))
        last = total if span.ends_at is None else min(total, _seconds_until(start, span.ends_at))
        if last <= first:
            continue
        if first > done:
            raise RateMissing(start + done * _SECOND)
        if first < done:
            raise RatesOverlap(start + first * _SECOND)
        if pieces and pieces[-1][1] == span.rate_minor_per_hour:
            pieces[-1] = (pieces[-1][0] + last - first, span.rate_minor_per_hour)
        else:
            pieces.append((last - first, span.rate_minor_per_hour))
        done = last
    if done < total:
        raise RateMissing(start + done * _SECOND)
    return pieces


def _seconds_until(start: datetime, moment: datetime) -> int:
    # A second that begins before the moment still belongs to what came before it, so this rounds
    # up: the number of seconds, counted from the start, that begin before the moment.
    return -((start - moment) // _SECOND)


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1):
        whole += 1
    return whole


def _count(value: int) -> int:
    if type(value) is not int or value < 0:
        raise BadAmount(value)
    return value
