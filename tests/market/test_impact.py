"""Reviewers and impact, as verdicts come in."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.impact.actions import place_experts
from market.impact.jobs import measure_impact, rank_experts
from market.impact.models import ExpertImpact, ImpactState, ItemCredit
from market.quality.models import ItemBelief, ReviewerReliability, VoteMerit
from market.verdicts.models import Verdict
from tests.factories import key_for, make_caller, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    REJECT_STUMP,
    RIGHT,
    STUMP,
    cast,
    hand_in,
    minute,
)

React = Callable[[], list[str]]


def test_reviewers_who_agree_on_a_stump_are_believed_more_than_the_one_who_does_not(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=3)
    cast(db, handed, STUMP, STUMP, RIGHT)
    react()
    belief = db.get_one(ItemBelief, handed.id)
    assert (belief.votes, belief.is_open) == (3, False)
    assert belief.belief > 0.5
    found = sorted(row.accuracy for row in db.scalars(select(ReviewerReliability)))
    assert found[0] < found[1] == found[2]
    assert all(row.votes == 1 for row in db.scalars(select(ReviewerReliability)))


def test_nobody_is_measured_by_the_others_on_a_matter_of_judgement(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=3, with_attempt=False)
    cast(db, handed, ACCEPT, ACCEPT, REJECT)
    react()
    assert db.get_one(ItemBelief, handed.id).is_open
    assert {row.merit for row in db.scalars(select(VoteMerit))} == {0.0}
    assert {row.votes for row in db.scalars(select(ReviewerReliability))} == {0}


def test_a_failing_of_the_model_that_does_not_hold_is_worth_nothing(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, REJECT_STUMP)
    assert "measure_impact" in react()
    assert db.get_one(ItemCredit, handed.id).credit == 0.0


def test_the_second_of_two_alike_loses_its_credit_and_the_first_keeps_it(
    db: Session, web: TestClient[Any], react: React
) -> None:
    first = hand_in(db, reviews=1)
    cast(db, first, STUMP)
    react()
    project = db.get_one(ItemCredit, first.id).project_id
    again = hand_in(db, reviews=1)
    cast(db, again, STUMP)
    react()
    # The same words in another project are another lab's to pay for.
    assert db.get_one(ItemCredit, again.id).novelty == 1.0
    db.get_one(ItemCredit, first.id).project_id = db.get_one(ItemCredit, again.id).project_id
    db.flush()
    measure_impact(str(again.id))
    assert db.get_one(ItemCredit, again.id).novelty == 0.0
    assert db.get_one(ItemCredit, first.id).credit > 0.0
    rank_experts(str(project))
    ranked = db.scalars(select(ExpertImpact).order_by(ExpertImpact.rate.desc())).all()
    assert [row.expert_id for row in ranked] == [first.expert_id, again.expert_id]
    assert all(row.top is not None and row.call is not None for row in ranked)
    expert = key_for(db, web, again.expert_id, Part.EXPERT)
    own = expert.get("/v1/impact/me").json()
    assert own["items"][0]["is_like_earlier"]
    assert "nobody made before" in own["impacts"][0]["what_would_change_it"]
    ops = make_caller(db, web, Part.OPS)
    assert len(ops.get("/v1/impact").json()) == 2
    told = ops.get("/v1/impact/concentration", params={"days": 3660}).json()
    assert told["experts"] == 2
    assert told["sentence"].startswith("The top 10 %")
    assert told["tail"]["verdict"] == "too few"
    assert told["tail"]["sentence"].startswith("Too few people (1) made credited items")
    assert ops.get("/v1/reliability").json()[0]["votes"] == 0
    reviewer = key_for(db, web, db.scalars(select(VoteMerit.reviewer_id)).all()[0], Part.REVIEWER)
    assert reviewer.get("/v1/reliability/me").json()[0]["domain"] == "chemistry"


def test_rates_that_go_on_from_verdict_to_verdict_equal_those_of_the_whole_record(
    db: Session, react: React
) -> None:
    project = make_project(db, reviews_per_submission=1, budget_minor=10**9)
    experts = [make_expert(db).id for _ in range(2)]
    for number in range(4):
        offer = make_offer(db, make_task(db, project), experts[number % 2], at=minute(number))
        handed = hand_in(db, offer=offer, at=minute(number))
        later = LATER + timedelta(minutes=number)
        cast(db, handed, STUMP if number % 3 else RIGHT, at=later)
        react()

    def known() -> list[tuple[object, ...]]:
        db.expire_all()
        return [
            (row.expert_id, row.items, row.total, row.rate, row.sd, *row.memory)
            for row in db.scalars(select(ExpertImpact).order_by(ExpertImpact.expert_id))
        ]

    step_by_step = known()
    state = list(db.get_one(ImpactState, "chemistry").state)
    assert place_experts(db, "chemistry", at=LATER) == 2
    whole = known()
    # Whoever had no verdict since the others' is told of the common rate in the night only.
    last = next(n for n, row in enumerate(whole) if row[0] == experts[1])
    assert step_by_step[last] == pytest.approx(whole[last])
    assert [row[5:] for row in step_by_step] == [pytest.approx(row[5:]) for row in whole]
    assert state == pytest.approx(db.get_one(ImpactState, "chemistry").state)
    # The same item told again is not counted again.
    measure_impact(str(handed.id))
    assert known() == whole


def test_an_item_that_is_worth_something_else_now_takes_the_place_of_what_was_counted(
    db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    react()
    before = db.scalars(select(ExpertImpact)).one()
    assert (before.items, before.total > 0) == (1, True)
    verdict = db.get_one(Verdict, handed.id)
    verdict.is_stump, verdict.version = False, verdict.version + 1
    db.flush()
    measure_impact(str(handed.id))
    db.expire_all()
    after = db.scalars(select(ExpertImpact)).one()
    assert (after.items, after.total) == (1, 0.0)
    assert db.get_one(ImpactState, "chemistry").items == 1
