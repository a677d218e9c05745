"""What experts are told of the rates of work like theirs; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from payouts.money import Money

LOOK_BACK = timedelta(days=365)
"""How long a project's rates are told of after it last offered work."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What an offer said that its work pays: a sum for the accepted work where pay is by
    deliverable, an hour's rate otherwise.

    Units: minor units of the project's currency.
    """

    at: datetime
    pay_basis: Literal["hourly", "deliverable"]
    rate_from: Literal["project", "tier"]
    price_minor: int


@dataclass(frozen=True, slots=True)
class PastRates:
    """What one project of a lab offered for work in one domain, at first and most recently."""

    is_this_project: bool
    first: Priced
    latest: Priced


def is_less(offered: Priced, past: PastRates) -> bool:
    """Whether an offer pays less than its lab once said it would for such work.

    Only what is paid in the same way is compared, and nothing by tier: that is each expert's own.
    """
    best = max(
        (
            one.price_minor
            for one in (past.first, past.latest)
            if (one.pay_basis, one.rate_from) == (offered.pay_basis, "project")
        ),
        default=0,
    )
    return best > offered.price_minor


def rates_told(offered: Priced, found: Sequence[PastRates], currency: str) -> str:
    """What an expert should know of those rates before it accepts, in a sentence."""
    unit = "an hour" if offered.pay_basis == "hourly" else "for accepted work"
    better = [one for one in found if is_less(offered, one)]
    if not better:
        others = sum(not one.is_this_project for one in found)
        if not others:
            return "This lab offered no other work in this domain in the last year"
        projects = "project" if others == 1 else "projects"
        return (
            f"In the last year this lab offered work in this domain on {others} other {projects},"
            " none of them at a higher rate"
        )
    priced = [
        (one, past)
        for past in better
        for one in (past.first, past.latest)
        if (one.pay_basis, one.rate_from) == (offered.pay_basis, "project")
    ]
    best, past = max(priced, key=lambda pair: (pair[0].price_minor, pair[0].at))
    where = "on this project" if past.is_this_project else "on another project"
    amount = Money(best.price_minor, currency)
    return (
        f"This lab has paid more for work in this domain: {amount} {unit} {where},"
        f" offered on {best.at:%Y-%m-%d}"
    )
