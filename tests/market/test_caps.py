"""How often work reaches the cap of its project, and what a lab is told of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from market.auth import Part
from market.caps.rules import CapUse, cap_told
from market.verdicts.rules import wilson
from tests.factories import make_caller, make_expert, make_project, make_task
from tests.market.earned import end_offer, make_active_offer, work_on

HOUR = 3600


@pytest.mark.parametrize(
    ("part", "whole", "long_s", "proposed_s"),
    [
        (8, 20, 5000, 5400),
        # Too few to say, one in twenty by chance, and a cap that nine of ten fit in.
        (8, 19, 5000, None),
        (1, 20, 5000, None),
        (8, 20, HOUR, None),
    ],
)
def test_a_longer_cap_is_proposed_only_where_the_cap_is_short_for_certain(
    part: int, whole: int, long_s: int, proposed_s: int | None
) -> None:
    use = CapUse(HOUR, wilson(part, whole), experts=5, experts_reached=4, long_s=long_s)
    assert use.proposed_s == proposed_s
    assert ("short for this work" in cap_told(use)) is (proposed_s is not None)


def test_a_lab_is_told_how_much_of_its_work_reaches_the_cap(db: Session, web: Any) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC) - timedelta(days=3)
    project = make_project(
        db, lab.organisation_id, rate_minor_per_hour=3000, cap_s=HOUR, budget_minor=100_000_000
    )
    experts = [make_expert(db).id for _ in range(2)]
    for n in range(20):
        offer = make_active_offer(db, project, make_task(db, project), experts[n % 2])
        # The first expert alone is slow: more than half an hour beyond the cap, each second time.
        seconds = 6000 if n % 4 == 0 else 1800
        work_on(db, offer, at + timedelta(hours=2 * n), seconds, capped_s=max(0, seconds - HOUR))
        if n < 19:
            end_offer(db, offer)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/cap-use"
    assert lab.get(path).json()["works"] is None
    end_offer(db, offer)
    db.commit()
    told = lab.get(path).json()
    assert (told["works"], told["works_at_cap"], told["experts"], told["experts_at_cap"]) == (
        *(20, 5),
        *(2, 1),
    )
    assert told["proposed_cap_s"] == 6300
    assert told["text"].startswith("5 of 20 works reached the cap of 60 minutes, by 1 of 2 experts")
    assert make_caller(db, web, Part.LAB).get(path).status_code == 404
