"""What a sum becomes in another currency: at the rate that a test has set, and at none without."""

from __future__ import annotations

from fractions import Fraction

from tests.fakestripe.bank import Leg
from tests.fakestripe.world import ApiRefusal, Json, World

EXCHANGE = "stripe/exchange"
"""Where one currency goes and the other comes from; Stripe's own, on either side of zero."""


def set_rate(world: World, source: str, target: str, rate: str) -> Json:
    """From now on this many units of the one currency for one of the other."""
    if Fraction(rate) <= 0:
        raise KeyError(rate)
    found = {"id": f"{source}/{target}", "rate": rate}
    if found["id"] in world.objects.get("rate", {}):
        world.objects["rate"][found["id"]] = found
        return found
    return world.put("rate", found)


def rate_of(world: World, source: str, target: str) -> str:
    """The rate between two currencies.

    Raises:
        ApiRefusal: none is known.
    """
    found = world.objects.get("rate", {}).get(f"{source}/{target}")
    if found is None:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            f"Money in {source} cannot be sent to an account that keeps {target}.",
            code="currency_not_supported",
            param="currency",
        )
    return str(found["rate"])


def changed(amount: int, rate: str) -> int:
    """A sum at a rate, to the nearest minor unit; both currencies have the same decimals here."""
    return int(amount * Fraction(rate) + Fraction(1, 2))


def legs(
    source: str, gives: int, given: str, target: str, gets: int, gotten: str
) -> tuple[Leg, ...]:
    """Out of one place in one currency, into another in another, past Stripe's own store."""
    if given == gotten:
        return (source, given, -gives), (target, gotten, gets)
    return (
        (source, given, -gives),
        (EXCHANGE, given, gives),
        (EXCHANGE, gotten, -gets),
        (target, gotten, gets),
    )
