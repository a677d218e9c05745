"""A release shrinks the pool and the next complexity brings it back, through the service."""

import pytest
from sqlalchemy.orm import Session

from tests.bench.simulations.frontier_service import tell_story


@pytest.mark.slow
def test_a_release_shrinks_the_pool_and_the_proposed_complexity_brings_it_back(
    db: Session,
) -> None:
    told = tell_story(db, db.commit, seed=7, experts=10, each=3)
    assert told["is_pay_unchanged"]
    release = told["release"]
    assert isinstance(release, dict)
    assert release["state"] == "adopted"
    # Ten runs move what is believed towards what is true.
    assert release["before"] < release["after"] <= release["truth"] + 1
    alarms = told["alarms"]
    assert isinstance(alarms, list)
    assert [one["complexity"] for one in alarms][:1] == [1]
    able = told["able_after_release_and_each_proposal"]
    assert isinstance(able, list)
    assert able[0] <= 2 < 8 <= able[-1]
