"""What an expert is told of the rates that a lab paid for such work before."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from market.auth import Part
from market.offers.models import Offer
from tests.factories import Caller, make_caller, make_expert, make_offer, make_project, make_task
from tests.market.test_console import visit_as

NOW = datetime.now(UTC)


def offered(db: Session, lab: Any, rate: int | None, *, days: int = 0, to: Any = None) -> Offer:
    """An offer of a project of its own, made some days ago."""
    at = NOW - timedelta(days=days)
    project = make_project(db, lab, rate_minor_per_hour=rate, at=at)
    expert_id = to or make_expert(db, tier="T1", at=at).id
    return make_offer(db, make_task(db, project, at=at), expert_id, accepted=to is None, at=at)


def rates(expert: Caller, offer: Offer) -> Any:
    """What the expert of an offer is told."""
    answer = expert.get(f"/v1/offers/ofr_{offer.id.hex}/rates")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_same_work_at_a_lower_rate_is_told_before_it_is_accepted(db: Session, web: Any) -> None:
    me = make_expert(db, at=NOW).id
    expert = visit_as(web, db, me)
    before = offered(db, None, 2100, days=3)
    offer = offered(db, before.organisation_id, 1600, to=me)
    told = rates(expert, offer)
    day = f"{before.created_at:%Y-%m-%d}"
    assert told["is_less_than_before"] is True
    assert told["text"] == (
        "This lab has paid more for work in this domain: USD 21.00 an hour on another project,"
        f" offered on {day}"
    )
    assert [
        (one["is_this_project"], one["latest"]["price"]["amount_minor"]) for one in told["projects"]
    ] == [(True, 1600), (False, 2100)]
    assert "USD 21.00 an hour on another project" in web.get("/console/expert").text
    other = make_caller(db, web, Part.EXPERT)
    assert other.get(f"/v1/offers/ofr_{offer.id.hex}/rates").status_code == 404


def test_nothing_is_compared_with_other_labs_other_years_or_anybodys_tier(
    db: Session, web: Any
) -> None:
    me = make_expert(db, at=NOW).id
    expert = visit_as(web, db, me)
    offered(db, None, 9900, days=3)
    old = offered(db, None, 9900, days=400)
    offer = offered(db, old.organisation_id, 1600, to=me)
    told = rates(expert, offer)
    assert told["is_less_than_before"] is False
    assert told["text"] == "This lab offered no other work in this domain in the last year"
    offered(db, old.organisation_id, 1500, days=2)
    offered(db, old.organisation_id, None, days=1)
    told = rates(expert, offer)
    assert "on 2 other projects, none of them at a higher rate" in told["text"]
    by_tier = next(one for one in told["projects"] if one["latest"]["rate_from"] == "tier")
    assert by_tier["latest"]["price"] is None
