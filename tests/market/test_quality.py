"""What is learned of verdicts, through the service."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.predictions.actions import request_refit, swap_version, take_refit
from market.predictions.models import (
    Ability,
    Difficulty,
    Observation,
    StumpFit,
    StumpPresent,
    StumpVersion,
)
from market.predictions.queries import in_force, present, recomputed
from market.predictions.rules import FitHeld
from market.quality.jobs import learn_verdict, refit_stump_model
from market.quality.rules import after_next, calibration, what_would_change
from tests.factories import AT, key_for, make_caller
from tests.market.reviewed import REJECT_STUMP, STUMP, cast, hand_in

React = Callable[[], list[str]]


def test_a_verdict_moves_what_is_believed_of_its_expert_and_its_task_once(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    assert "learn_verdict" in react()
    learn_verdict(str(handed.id))  # A queue may deliver twice.
    seen = db.scalars(select(Observation)).one()
    assert (seen.start, seen.fooled) == (1.0, 1.0)
    # One vote of a stranger is some evidence, and no certainty.
    assert seen.valid is not None
    assert 0.5 < seen.valid < 1.0
    ability = db.scalars(select(Ability).where(Ability.expert_id == handed.expert_id)).one()
    assert ability.outcomes == 1
    assert ability.low < ability.chance < ability.high
    assert seen.predicted_stump is not None
    assert ability.chance > seen.predicted_stump
    assert db.get_one(Difficulty, handed.task_id).outcomes == 1


def test_a_claim_that_does_not_hold_fools_the_model_and_is_no_stump(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, REJECT_STUMP)
    react()
    seen = db.scalars(select(Observation)).one()
    assert seen.fooled == 1.0
    assert seen.valid is not None
    assert seen.valid < 0.5


def test_a_prediction_can_be_computed_again_from_its_version_to_the_last_bit(
    db: Session, react: React
) -> None:
    for vote in (STUMP, REJECT_STUMP, STUMP):
        cast(db, hand_in(db, reviews=1), vote)
        react()
    for seq in db.scalars(select(Observation.seq).order_by(Observation.seq)):
        found = recomputed(db, seq)
        assert found.is_equal, (found.kept, found.again)


def test_a_refit_swaps_the_version_and_learns_what_came_while_it_ran(
    db: Session, react: React
) -> None:
    first = hand_in(db, reviews=1)
    cast(db, first, STUMP)
    react()
    opening = in_force(db)
    request_refit(db, at=AT)
    assert request_refit(db, at=AT).subject_id == db.scalars(select(StumpFit.id)).one()
    assert "refit_stump_model" in react()
    version = in_force(db)
    assert version is not None
    assert opening is not None
    assert version.id != opening.id
    assert version.rows == 1
    late = hand_in(db, reviews=1)
    cast(db, late, REJECT_STUMP)
    react()
    assert present(db).through > version.through
    assert db.scalars(select(StumpFit.state)).one() == "succeeded"
    refit_stump_model(str(db.scalars(select(StumpFit.id)).one()))
    assert len(db.scalars(select(StumpVersion)).all()) == 2


def test_a_refit_that_dies_half_way_leaves_the_old_version_in_force(
    db: Session, react: React
) -> None:
    cast(db, hand_in(db, reviews=1), STUMP)
    react()
    before = in_force(db)
    request_refit(db, at=AT)
    fit_id = db.scalars(select(StumpFit.id)).one()
    assert take_refit(db, fit_id, at=AT)
    with pytest.raises(FitHeld):
        take_refit(db, fit_id, at=AT + timedelta(minutes=1))
    assert in_force(db) is before
    # After the lease another worker takes it up, and the one that was slow changes nothing more.
    assert take_refit(db, fit_id, at=AT + timedelta(hours=1))
    model = present(db).model
    swaps = [
        swap_version(db, fit_id, model, rows=1, through=0, seconds=0.1, at=AT) for _ in range(2)
    ]
    assert swaps[0] is not None
    assert swaps[1] is None


def test_a_version_that_cannot_be_read_stops_nobody_until_a_refit_takes_its_place(
    db: Session, web: TestClient[Any], react: React
) -> None:
    cast(db, hand_in(db, reviews=1), STUMP)
    react()
    seq = db.scalars(select(Observation.seq)).one()
    content = b"kept by another release of this software"
    strange = StumpVersion(
        fitted_at=AT,
        rows=1,
        through=0,
        seconds=0.0,
        content=content,
        digest=hashlib.sha256(content).digest(),
    )
    db.add(strange)
    db.flush()
    db.execute(update(StumpPresent).values(version_id=strange.id))
    db.execute(update(Observation).values(version_id=strange.id))
    cast(db, hand_in(db, reviews=1), STUMP)
    react()
    late = db.scalars(select(Observation).order_by(Observation.seq.desc())).first()
    assert late is not None
    assert (late.fooled, late.predicted_stump) == (1.0, None)
    ops = make_caller(db, web, Part.OPS)
    again = ops.get(f"/v1/stump-model/observations/{seq}/recomputed")
    assert (again.status_code, again.json()["code"]) == (409, "version_unreadable")
    request_refit(db, at=AT)
    react()
    assert present(db).model.releases_


def test_an_older_record_is_learned_by_the_next_refit(db: Session, react: React) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    db.execute(text("update market.event set relayed_at = at"))
    request_refit(db, at=AT)
    react()
    version = in_force(db)
    assert version is not None
    assert version.rows == 1


def test_experts_read_their_own_ability_and_ops_read_how_well_it_is_told(
    db: Session, web: TestClient[Any], react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    react()
    expert = key_for(db, web, handed.expert_id, Part.EXPERT)
    own = expert.get("/v1/abilities/me").json()
    assert own["abilities"][0]["outcomes"] == 1
    assert "1 outcome of yours" in own["abilities"][0]["what_would_change_it"]
    assert own["evidence"][0]["came"] > 0.5
    assert expert.get("/v1/stump-model").status_code == 403
    ops = make_caller(db, web, Part.OPS)
    health = ops.get("/v1/stump-model").json()
    stump = next(one for one in health["calibration"] if one["stage"] == "stump")
    assert stump["count"] == 0  # Verdicts of the past are older than ninety days.
    assert ops.get("/v1/stump-model", params={"days": 3660}).json()["calibration"][3]["count"] == 1
    listed = ops.get("/v1/abilities").json()["items"]
    assert [one["expert_id"] for one in listed] == [f"per_{handed.expert_id.hex}"]
    seq = db.scalars(select(Observation.seq)).one()
    again = ops.get(f"/v1/stump-model/observations/{seq}/recomputed").json()
    assert again["is_equal"]
    assert ops.get("/v1/stump-model/observations/0/recomputed").status_code == 404
    asked = ops.post("/v1/stump-model/refits")
    assert asked.status_code == 202
    assert ops.post("/v1/stump-model/refits").json() == asked.json()


def test_a_calibrated_forecast_has_a_small_error_and_a_boastful_one_a_large_one() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(3000)
    outcome = (rng.random(3000) < p).astype(float)
    cluster = (np.arange(3000) % 100).tolist()
    honest = calibration(p, outcome, cluster)
    boastful = calibration(np.clip(p + 0.3, 0, 1), outcome, cluster)
    assert honest.ece is not None
    assert boastful.ece is not None
    assert honest.ece < 0.05 < 0.15 < boastful.ece
    assert calibration(np.zeros(0), np.zeros(0), []).ece is None


def test_what_would_change_an_ability_is_told_in_chances_and_moves_less_the_more_is_known() -> None:
    up, down = after_next(0.4, 1.0)
    assert down < 0.4 < up
    # Twice the expectation of it lies where it stood, and an unlikely outcome moves it further.
    assert up - 0.4 > 0.4 - down
    sure_up, sure_down = after_next(0.4, 0.1)
    assert 0.4 < sure_up < up
    assert down < sure_down < 0.4
    assert after_next(0.4, 0.0) == pytest.approx((0.4, 0.4))
    told = what_would_change(0.4, 1.0, 1)
    assert "1 outcome of yours" in told
    assert f"about {100 * up:.0f} %" in told
    assert f"about {100 * down:.0f} %" in told
