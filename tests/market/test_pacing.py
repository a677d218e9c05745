"""What follows of an offer that its expert left without an answer: a slower pace, nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.queries import candidates
from market.experts.models import Expert
from market.experts.queries import Pace, paces_of
from market.forecasts.queries import waiting
from market.grammar import parse
from market.http import wire_id
from market.language import ExpressionInvalid
from market.offers.actions import rescind_offer, withdraw_offer
from market.offers.models import Offer
from market.offers.queries import room_of
from market.policies.rules import read_policy
from market.predictions.models import Ability, Observation
from market.predictions.queries import abilities_now, present
from market.quality.queries import evidence_of_ability
from market.quality_rules.rules import SIGNALS
from tests.factories import AT, Caller, key_for, make_expert, make_project, make_task
from tests.market.reviewed import STUMP, cast, hand_in
from tests.market.running import leave_unanswered, make_offers
from tests.market.test_console import visit, visit_as

React = Callable[[], list[str]]
Web = TestClient[Any]

SEEN = {"If-Match": '"1"'}

BELIEVED = (
    *("ability", "difficulty", "observation", "expert_domain", "expert", "expert_impact"),
    *("reviewer_reliability", "measure", "tier_assignment", "task_skip", "rule_firing"),
)
"""All that is believed of experts' work, and what they may do and are paid by it."""


def offered(db: Session, *, most: int = 3, tasks: int = 6) -> tuple[Expert, list[Offer]]:
    """An expert who may hold so many tasks, with as many offers, and work that waits beside."""
    expert, project = make_expert(db, max_concurrent=most), make_project(db)
    for _ in range(tasks):
        make_task(db, project)
    return expert, make_offers(db)


def pace_told(me: Caller) -> tuple[list[str], int, int]:
    """Why no work is offered, by code; the offers missed, and how many tasks come at once."""
    told = me.get("/v1/work-availability").json()
    mine = me.get("/v1/experts/me").json()
    for name in ("missed_offers", "offered_at_once"):
        assert told[name] == mine[name]
    codes = [one["code"] for one in told["reasons"]]
    return codes, told["missed_offers"], told["offered_at_once"]


@pytest.mark.parametrize("answer", ["accept", "decline"])
def test_offers_left_without_an_answer_lower_the_pace_and_any_answer_brings_it_back(
    db: Session, web: Web, answer: str
) -> None:
    expert, [first, second, third] = offered(db)
    me = key_for(db, web, expert.id, Part.EXPERT)
    assert pace_told(me) == (["at_capacity"], 0, 3)
    leave_unanswered(db, first)
    assert pace_told(me) == (["paced"], 1, 2)
    leave_unanswered(db, second)
    assert pace_told(me) == (["paced"], 2, 1)
    assert make_offers(db) == []
    [reason] = me.get("/v1/work-availability").json()["reasons"]
    assert reason["detail"] == (
        "you left 2 offers without an answer, and may hold 1 at once for now; answer your next"
        " offer, yes or no, and you may hold 3 again"
    )
    body = {"reason": "no_time"} if answer == "decline" else None
    said = me.post(f"/v1/offers/{wire_id('ofr', third.id)}/{answer}", json=body, headers=SEEN)
    assert said.status_code == 200, said.text
    assert pace_told(me)[1:] == (0, 3)
    assert len(make_offers(db)) == (3 if answer == "decline" else 2)


def test_nobody_is_offered_less_than_one_task_at_a_time(db: Session) -> None:
    expert, offers = offered(db, most=2)
    leave_unanswered(db, *offers)
    for _ in range(2):
        [again] = make_offers(db)
        leave_unanswered(db, again)
    assert paces_of(db, [expert.id]) == {expert.id: Pace(4, 1)}
    assert len(make_offers(db)) == 1


def test_what_a_run_weighs_and_what_it_may_record_are_both_paced(db: Session) -> None:
    expert, [first, _, third] = offered(db)
    rescind_offer(db, third.id, at=datetime.now(UTC))
    leave_unanswered(db, first)
    at = datetime.now(UTC)
    # Two at once, of which one is held.
    assert room_of(db, [expert.id], at=at)[expert.id][0] == 1
    seen = candidates(db, read_policy({}), project_id=None, at=at)
    assert seen.expert_capacity.tolist() == [1]


def test_what_was_taken_back_or_turned_down_is_not_missed(db: Session) -> None:
    expert, [first, second, third] = offered(db)
    rescind_offer(db, first.id, at=datetime.now(UTC))
    withdraw_offer(db, second.id, reason="task_ended", grace=timedelta(0), at=datetime.now(UTC))
    leave_unanswered(db, third)
    assert paces_of(db, [expert.id]) == {expert.id: Pace(1, 2)}


def test_who_is_paced_is_left_out_of_what_a_task_waits_for(db: Session) -> None:
    _, offers = offered(db)
    leave_unanswered(db, *offers[:2])
    task = make_task(db, make_project(db))
    left = dict(waiting(db, task, at=datetime.now(UTC)).left)
    assert (left["hours"], left["capacity"]) == (1, 0)


def test_missed_offers_move_nothing_but_the_pace(db: Session, react: React) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    make_task(db, make_project(db))
    [offer] = make_offers(db)
    react()

    def believed() -> dict[str, Any]:
        rows = "select jsonb_agg(to_jsonb(r) order by to_jsonb(r)::text) from market.{} r"
        return {table: db.scalar(text(rows.format(table))) for table in BELIEVED}

    before = believed()
    assert before["ability"]
    assert before["observation"]
    leave_unanswered(db, offer)
    assert react() == ["note_offer"]
    assert paces_of(db, [offer.expert_id])[offer.expert_id].missed == 1
    assert believed() == before


def test_a_no_moves_no_ability(db: Session, web: Web, react: React) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    make_task(db, make_project(db))
    [offer] = make_offers(db)
    react()
    who = offer.expert_id

    def known() -> tuple[float, float, int, int]:
        [row] = abilities_now(db, present(db), [who], at=AT)
        seen = evidence_of_ability(db, who)
        logit, sd, outcomes = row["logit"], row["sd"], row["outcomes"]
        assert isinstance(logit, float)
        assert isinstance(sd, float)
        assert isinstance(outcomes, int)
        return round(logit, 9), round(sd, 9), outcomes, len(seen)

    before = known()
    assert before[2:] == (1, 1)
    me = key_for(db, web, who, Part.EXPERT)
    path = f"/v1/offers/{wire_id('ofr', offer.id)}/decline"
    assert me.post(path, json={"reason": "not_interested"}).status_code == 200
    assert "learn_offer" in react()
    # It is learned, as the chance that such work is begun.
    assert db.scalars(select(Observation.start).order_by(Observation.seq)).all() == [1.0, 0.0]
    assert known() == before
    assert db.scalars(select(Ability.outcomes)).all() == [1]


@pytest.mark.parametrize("field", ["timed_out_7d", "timed_out_30d", "missed_offers_30d"])
def test_no_rule_of_quality_asks_about_missed_offers(field: str) -> None:
    with pytest.raises(ExpressionInvalid):
        parse(f"{field} > 3", SIGNALS)


def test_the_experts_pages_tell_the_pace_and_what_undoes_it(db: Session, web: Web) -> None:
    expert, offers = offered(db)
    visit_as(web, db, expert.id)
    assert 'id="pace"' not in web.get("/console/expert").text
    leave_unanswered(db, *offers)
    for path in ("/console/expert", "/console/expert/profile"):
        page = web.get(path).text
        assert "Answer your next" in page
        assert 'id="pace"' in page
    assert "3 offers without an answer" in web.get("/console/expert").text
    visit(web, db, Part.OPS)
    page = web.get(f"/console/ops/people/{wire_id('per', expert.id)}").text
    assert "1 for now: 3 offers had no answer" in page
