"""Reads about everybody's pay of some weeks."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_

from market.db import PLATFORM, database
from market.earnings.models import Earning
from market.offers.models import Offer
from market.people.models import Person
from payouts.models import Payout

LOT = 1000


@dataclass(frozen=True, slots=True)
class PayrollLine:
    """One line of somebody's pay, the project's name as it was accepted, and how far its payout is.

    Units: minor units of the line's currency.
    """

    earning: Earning
    name: str
    project: str | None
    payout_state: str | None


@dataclass(frozen=True, slots=True)
class PayrollTotal:
    """What somebody earned in one currency; `pay_minor` is all of it but what was withheld by a
    decision, which stands beside it.

    Units: seconds; minor units of `currency`.
    """

    expert_id: UUID
    name: str
    currency: str
    lines: int
    seconds: int
    pay_minor: int
    waiting_minor: int
    """Of it, what still waits for an approval or a decision."""
    in_payouts_minor: int
    paid_minor: int
    withheld_minor: int


def _of_weeks(first: date, last: date) -> ColumnElement[bool]:
    return Earning.week.between(first, last)


def payroll_lines(first: date, last: date, *, lot: int = LOT) -> Iterator[list[PayrollLine]]:
    """Every line of pay of the weeks that begin from `first` to `last`, by week; a lot and a
    transaction at a time.
    """
    name = Offer.terms["project_name"].astext
    wanted = (
        select(Earning, Person.name, name, Payout.state)
        .join(Person, Person.id == Earning.expert_id)
        .outerjoin(Offer, Offer.id == Earning.offer_id)
        .outerjoin(Payout, Payout.id == Earning.payout_id)
        .where(_of_weeks(first, last))
        .order_by(Earning.week, Earning.id)
        .limit(lot)
    )
    following = wanted
    while True:
        with database.begin(PLATFORM) as session:
            found = [PayrollLine(*row) for row in session.execute(following)]
        yield found
        if len(found) < lot:
            return
        end = found[-1].earning
        following = wanted.where(tuple_(Earning.week, Earning.id) > (end.week, end.id))


def payroll_totals(first: date, last: date, *, lot: int = LOT) -> Iterator[list[PayrollTotal]]:
    """What each expert earned in the weeks that begin from `first` to `last`, by currency; a lot
    and a transaction at a time.
    """
    is_kept = Earning.state != "withheld"
    columns = (
        func.count(),
        func.sum(Earning.seconds).filter(is_kept),
        func.sum(Earning.pay_minor).filter(is_kept),
        func.sum(Earning.pay_minor).filter(Earning.state.in_(("accrued", "disputed"))),
        func.sum(Earning.pay_minor).filter(Payout.state != "paid"),
        func.sum(Earning.pay_minor).filter(Payout.state == "paid"),
        func.sum(Earning.pay_minor).filter(~is_kept),
    )
    wanted = (
        select(Earning.expert_id, Person.name, Earning.currency, *columns)
        .join(Person, Person.id == Earning.expert_id)
        .outerjoin(Payout, Payout.id == Earning.payout_id)
        .where(_of_weeks(first, last))
        .group_by(Earning.expert_id, Person.name, Earning.currency)
        .order_by(Earning.expert_id, Earning.currency)
        .limit(lot)
    )
    following = wanted
    while True:
        with database.begin(PLATFORM) as session:
            found = [
                PayrollTotal(expert_id, name, currency, *(int(one or 0) for one in sums))
                for expert_id, name, currency, *sums in session.execute(following)
            ]
        yield found
        if len(found) < lot:
            return
        end = found[-1]
        following = wanted.where(
            tuple_(Earning.expert_id, Earning.currency) > (end.expert_id, end.currency)
        )
