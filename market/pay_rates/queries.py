"""Reads about what paid hours cost, and what came of them."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from market.earnings.models import Earning
from market.offers.models import Offer
from market.pay_rates.rules import By, average_minor
from market.people.models import Organisation
from market.projects.models import Project
from market.submissions.models import Submission
from market.verdicts.models import Verdict


@dataclass(frozen=True, slots=True)
class PayRate:
    """What the paid hours of one group came to, weighted by their seconds.

    Units: seconds; minor units of `currency`. `key` is the id of a project or a lab, and otherwise
    the name itself; `measured_s` are the seconds on work that has a verdict.
    """

    key: str
    name: str
    currency: str
    experts: int
    seconds: int
    pay_minor: int
    measured_s: int

    @property
    def minor_per_hour(self) -> int:
        """The average over all seconds, to the nearest minor unit."""
        return average_minor(self.pay_minor, self.seconds)


def pay_rates(
    session: Session,
    by: By,
    *,
    organisation_id: UUID | None = None,
    first: date | None = None,
    last: date | None = None,
) -> list[PayRate]:
    """What paid hours came to, by group and currency, the dearest hour first.

    Hours alone: not sums for work, nor bonuses, nor fees, nor what a case withheld. Read as the
    platform: a lab may see what it paid for, and no other row of pay.
    """
    groups = {
        "project": (Project.id, Project.name),
        "lab": (Organisation.id, Organisation.name),
        "domain": (Offer.terms["domain"].astext, Offer.terms["domain"].astext),
        "tier": (Offer.terms["tier"].astext, Offer.terms["tier"].astext),
    }
    key, name = groups[by]
    is_judged = exists().where(
        Submission.offer_id == Earning.offer_id, Verdict.submission_id == Submission.id
    )
    wanted = (
        select(
            key,
            name,
            Earning.currency,
            func.count(Earning.expert_id.distinct()),
            func.sum(Earning.seconds),
            func.sum(Earning.pay_minor),
            func.coalesce(func.sum(Earning.seconds).filter(is_judged), 0),
        )
        .join(Offer, Offer.id == Earning.offer_id)
        .join(Project, Project.id == Earning.project_id)
        .join(Organisation, Organisation.id == Project.organisation_id)
        .where(Earning.kind == "hours", Earning.state != "withheld")
        .group_by(key, name, Earning.currency)
    )
    if organisation_id is not None:
        wanted = wanted.where(Project.organisation_id == organisation_id)
    if first is not None:
        wanted = wanted.where(Earning.week >= first)
    if last is not None:
        wanted = wanted.where(Earning.week <= last)
    found = [
        PayRate(str(key or ""), name or "", currency, *map(int, sums))
        for key, name, currency, *sums in session.execute(wanted)
    ]
    return sorted(found, key=lambda one: (-one.minor_per_hour, one.name, one.currency))
