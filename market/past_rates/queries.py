"""Reads of what a lab offered for work like some work."""

from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from market.offers.models import Offer
from market.past_rates.rules import LOOK_BACK, PastRates, Priced

# Two rows of each project, each at one end of its index: a lab may have made very many offers.
_RATES = text(
    """
    select p.id = :project_id as is_this, first.at as first_at, first.terms as first_terms,
        latest.at as latest_at, latest.terms as latest_terms
    from market.project p
    join lateral (
        select created_at as at, terms from market.offer
        where project_id = p.id and terms ->> 'domain' = :domain
        order by id limit 1
    ) first on true
    join lateral (
        select created_at as at, terms from market.offer
        where project_id = p.id and terms ->> 'domain' = :domain
        order by id desc limit 1
    ) latest on true
    where p.organisation_id = :organisation_id and p.currency = :currency
        and latest.at > :since
    order by latest.at desc
    """
)


def past_rates(session: Session, offer: Offer, *, at: datetime) -> list[PastRates]:
    """What the lab of an offer has offered for work in its domain and currency, project by project,
    most recent first; its own project too.

    Read as the platform: the other offers are other experts', and none of them is told.
    """
    rows = session.execute(
        _RATES,
        {
            "project_id": offer.project_id,
            "organisation_id": offer.organisation_id,
            "domain": offer.terms["domain"],
            "currency": offer.currency,
            "since": at - LOOK_BACK,
        },
    ).mappings()
    return [
        PastRates(row["is_this"], _priced(row, "first"), _priced(row, "latest")) for row in rows
    ]


def price_of(offer: Offer) -> Priced:
    """What an offer says that its work pays."""
    return _price(offer.created_at, offer.terms)


def _priced(row: RowMapping, which: str) -> Priced:
    return _price(row[f"{which}_at"], row[f"{which}_terms"])


def _price(at: datetime, terms: dict[str, object]) -> Priced:
    is_fixed = terms.get("pay_basis") == "deliverable"
    price = terms["deliverable_minor"] if is_fixed else terms["rate_minor_per_hour"]
    assert isinstance(price, int)
    return Priced(
        at,
        "deliverable" if is_fixed else "hourly",
        "tier" if terms["rate_from"] == "tier" and not is_fixed else "project",
        price,
    )
