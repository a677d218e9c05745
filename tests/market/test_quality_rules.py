"""Quality rules: tried on history first, they act through standing, with words and an appeal."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.appeals.actions import assign_appeal, decide_appeal, file_appeal
from market.auth import Part
from market.events import Event, EventRow
from market.experts.models import Expert, Measure
from market.http import wire_id
from market.moves import unfolded
from market.quality_rules.actions import (
    apply_rule,
    end_rule,
    expire_rule,
    make_rule,
    simulate_rule,
    start_rule,
)
from market.quality_rules.jobs import apply_quality_rules
from market.quality_rules.models import QualityRule, RuleFiring
from market.quality_rules.queries import rules_over
from market.quality_rules.rules import (
    QualityRuleUnfit,
    RuleNotSimulated,
    RuleTerms,
    StretchRefused,
    looks_at,
)
from market.review_plans.models import ReviewDraw
from market.review_plans.rules import SampleRule
from market.standings.actions import change_standing
from market.standings.queries import is_reviewed_whole
from tests.factories import AT, Caller, make_caller, make_expert, make_project
from tests.market.reviewed import hand_in_to, make_decided, make_reviewer, plan_for
from tests.market.test_console import send, token, visit

Web = TestClient[Any]
DAY = timedelta(days=1)
WORDS = "Too much of your reviewed work of the last month was not accepted; we look closer now."
POOR = "decided_30d >= 4 and accepted_share_30d < 0.5"


@pytest.fixture
def owner(db: Session) -> UUID:
    """Whoever answers for a rule."""
    return make_reviewer(db)


@pytest.fixture
def decided(db: Session) -> Callable[..., Expert]:
    """An expert with reviewed verdicts, a day apart: True where the work was accepted."""
    project = make_project(db, budget_minor=10**9)

    def decide(*accepted: bool, since: datetime = AT) -> Expert:
        expert = make_expert(db)
        make_decided(db, project, expert.id, *accepted, at=since)
        return expert

    return decide


def terms(action: str = "watch", when: str = POOR, **given: Any) -> RuleTerms:
    return RuleTerms(
        when=when,
        action=action,  # type: ignore[arg-type]
        lasts_days=given.pop("lasts_days", 14),
        reason_code="low_acceptance",
        text=WORDS,
        **given,
    )


def in_force(db: Session, owner: UUID, said: RuleTerms, at: datetime, name: str = "poor") -> UUID:
    """A rule that was simulated and started."""
    rule = make_rule(db, name, said, expires_at=at + 90 * DAY, owner_id=owner, at=at)
    simulate_rule(db, rule.id, since=at - 30 * DAY, until=at, at=at)
    start_rule(db, rule.id, at=at, actor_id=owner)
    return rule.id


def standing(db: Session, expert: Expert) -> str:
    return db.scalars(select(Expert.state).where(Expert.id == expert.id)).one()


def test_a_simulation_says_whom_a_rule_would_have_hit_and_how_often_wrongly(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    # Both look poor after four days; one goes on as it was, the other recovers at once.
    stays = decided(False, False, False, True, False, False, True, False)
    recovers = decided(False, False, False, True, True, True, True, True)
    decided(True, True, True, True, True, True)
    decided(False, False)
    until = AT + 20 * DAY
    rule = make_rule(db, "poor", terms(), expires_at=until + DAY, owner_id=owner, at=until)
    said = simulate_rule(db, rule.id, since=AT, until=AT + 10 * DAY, at=until)
    assert said.people == 2
    assert (said.judged, said.wrong) == (2, 1)
    assert said.low < 0.5 < said.high
    by_person = {one["expert_id"]: one for one in said.hits["people"]}
    assert by_person[wire_id("per", recovers.id)]["was_wrong"] is True
    hit = by_person[wire_id("per", stays.id)]
    assert hit["was_wrong"] is False
    assert hit["known"]["decided_30d"] == "4"
    assert hit["known"]["accepted_share_30d"] == "0.250"
    # Trying it touched nobody.
    assert standing(db, stays) == "good"
    assert not db.scalars(select(RuleFiring)).all()


def test_a_rule_acts_only_once_it_was_simulated_and_on_nobody_twice(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = AT + 10 * DAY
    poor, fine = decided(False, False, False, False), decided(True, True, True, True)
    rule = make_rule(db, "poor", terms(), expires_at=at + DAY, owner_id=owner, at=at)
    with pytest.raises(RuleNotSimulated):
        start_rule(db, rule.id, at=at, actor_id=owner)
    assert apply_rule(db, rule.id, at=at) == []
    simulate_rule(db, rule.id, since=AT, until=at, at=at)
    start_rule(db, rule.id, at=at, actor_id=owner)
    (fired,) = apply_rule(db, rule.id, at=at)
    assert fired.expert_id == poor.id
    assert (standing(db, poor), standing(db, fine)) == ("watched", "good")
    measure = db.scalars(select(Measure).where(Measure.expert_id == poor.id)).one()
    assert measure.id == fired.measure_id
    assert measure.until == at + 14 * DAY
    assert WORDS in measure.note
    assert "accepted_share_30d is 0" in measure.note
    assert "/v1/appeals" in measure.note
    assert sum(one.startswith("sub_") for one in measure.evidence) == 4
    assert apply_rule(db, rule.id, at=at + timedelta(hours=1)) == []
    told = db.scalars(select(EventRow).where(EventRow.type == Event.QUALITY_RULE_FIRED.value))
    assert [row.data["rule"] for row in told] == ["poor"]
    assert unfolded(db) == []


def test_a_limit_takes_the_steps_before_it_and_reaches_only_its_domains(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = AT + 10 * DAY
    poor = decided(False, False, False, False)
    rule_id = in_force(db, owner, terms("limit", domains=("chemistry",)), at)
    (fired,) = apply_rule(db, rule_id, at=at)
    assert standing(db, poor) == "limited"
    steps = db.scalars(
        select(Measure).where(Measure.expert_id == poor.id).order_by(Measure.id)
    ).all()
    assert [(one.step, one.domains) for one in steps] == [
        ("watch", []),
        ("limit", ["chemistry"]),
    ]
    assert fired.measure_id == steps[1].id


def test_an_appeal_that_is_won_frees_of_that_version_of_the_rule(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = AT + 10 * DAY
    poor = decided(False, False, False, False)
    rule_id = in_force(db, owner, terms("watch", lasts_days=1), at)
    (fired,) = apply_rule(db, rule_id, at=at)
    assert fired.measure_id is not None
    note = "My verdicts of that week were decided under rules that had changed meanwhile."
    appeal = file_appeal(db, "measure", fired.measure_id, person_id=poor.id, note=note, at=at)
    decider = make_reviewer(db)
    assign_appeal(db, appeal.id, decider_id=decider, at=at)
    decide_appeal(db, appeal.id, decider_id=decider, outcome="overturn", decision=note, at=at)
    assert standing(db, poor) == "good"
    assert apply_rule(db, rule_id, at=at + 3 * DAY) == []
    # Another version may see it otherwise.
    again = in_force(db, owner, terms("watch", lasts_days=1), at + 3 * DAY)
    assert len(apply_rule(db, again, at=at + 3 * DAY)) == 1


def test_required_review_reaches_work_that_a_plan_would_have_spared(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = AT + 10 * DAY
    poor = decided(False, False, False, False)
    project_id = plan_for(db, votes=1, control_rate=0.0, rules=(SampleRule(rate=0.0),))
    spared = hand_in_to(db, project_id, expert=poor.id, with_attempt=False, at=at)
    rule_id = in_force(db, owner, terms("review"), at)
    change_standing(db, poor.id, "watch", at=at, reason_code="x", note="For another reason.")
    assert len(apply_rule(db, rule_id, at=at)) == 1
    assert standing(db, poor) == "watched"
    assert is_reviewed_whole(db, poor.id, at=at)
    kept = hand_in_to(db, project_id, expert=poor.id, with_attempt=False, at=at + DAY)
    votes = dict(db.execute(select(ReviewDraw.submission_id, ReviewDraw.votes)).all())
    assert (votes[spared.id], votes[kept.id]) == (0, 1)
    # Its time over, the plan decides again.
    assert not is_reviewed_whole(db, poor.id, at=at + 15 * DAY)


def test_a_rule_that_only_tells_changes_no_standing(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = AT + 10 * DAY
    poor = decided(False, False, False, False)
    change_standing(db, poor.id, "watch", at=at, reason_code="x", note="For another reason.")
    rule_id = in_force(db, owner, terms("notify"), at)
    (fired,) = apply_rule(db, rule_id, at=at)
    assert fired.measure_id is None
    assert standing(db, poor) == "watched"


def test_the_next_version_takes_the_place_of_the_one_before_and_time_ends_it(
    db: Session, owner: UUID
) -> None:
    at = AT + 10 * DAY
    first = in_force(db, owner, terms(), at)
    second = in_force(db, owner, terms("notify"), at)
    rules = {one.id: one for one in db.scalars(select(QualityRule))}
    assert (rules[first].state, rules[second].state) == ("retired", "in_force")
    assert (rules[first].number, rules[second].number) == (1, 2)
    assert rules_over(db, at=at + 90 * DAY) == [second]
    assert not expire_rule(db, second, at=at)
    assert expire_rule(db, second, at=at + 90 * DAY)
    told = db.scalars(
        select(EventRow).where(
            EventRow.type == Event.QUALITY_RULE_CHANGED.value, EventRow.subject_id == second
        )
    ).all()
    # Its owner hears of the end, and of nothing else.
    assert [row.person_id for row in told if row.data["action"] == "expire"] == [owner]
    assert apply_rule(db, second, at=at + 91 * DAY) == []
    draft = make_rule(db, "other", terms(), expires_at=at + DAY, owner_id=owner, at=at)
    assert end_rule(db, draft.id, at=at, actor_id=owner).state == "dropped"


def test_the_sweep_lets_due_rules_act(
    db: Session, owner: UUID, decided: Callable[..., Expert]
) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    poor = decided(False, False, False, False, since=at - 5 * DAY)
    in_force(db, owner, terms(), at)
    apply_quality_rules("now")
    apply_quality_rules("again")
    assert [one.expert_id for one in db.scalars(select(RuleFiring))] == [poor.id]


@pytest.mark.parametrize(
    ("name", "given", "lasts"),
    [("Poor", {}, DAY), ("poor", {}, 400 * DAY), ("poor", {"domains": ("chemistry",)}, DAY)],
)
def test_a_rule_that_could_mean_nothing_is_refused(
    db: Session, owner: UUID, name: str, given: Any, lasts: timedelta
) -> None:
    with pytest.raises(QualityRuleUnfit):
        make_rule(db, name, terms(**given), expires_at=AT + lasts, owner_id=owner, at=AT)


def test_a_stretch_lies_in_the_past_and_is_looked_at_evenly(db: Session, owner: UUID) -> None:
    rule = make_rule(db, "poor", terms(), expires_at=AT + DAY, owner_id=owner, at=AT)
    for since, until in ((AT, AT), (AT, AT + DAY), (AT - 400 * DAY, AT)):
        with pytest.raises(StretchRefused):
            simulate_rule(db, rule.id, since=since, until=until, at=AT)
    assert looks_at(AT, AT + 3 * DAY) == [AT + DAY, AT + 2 * DAY, AT + 3 * DAY]
    assert len(looks_at(AT, AT + 300 * DAY)) == 30


def test_ops_write_try_start_and_read_rules_over_the_wire(
    db: Session, web: Web, decided: Callable[..., Expert]
) -> None:
    now = datetime.now(UTC)
    poor = decided(False, False, False, False, since=now - 6 * DAY)
    ops = make_caller(db, web, Part.OPS)
    names = [one["name"] for one in ops.get("/v1/quality-rules/signals").json()]
    assert {"accepted_share_30d", "abandoned_7d", "tier"} <= set(names)
    assert "country" not in names
    rule = _posted(ops, now)
    assert rule["state"] == "drafted"
    path = f"/v1/quality-rules/{rule['id']}"
    refused = ops.post(f"{path}/transitions", json={"action": "start"})
    assert (refused.status_code, refused.json()["code"]) == (409, "rule_not_simulated")
    stretch = {"since": (now - 20 * DAY).isoformat(), "until": (now - DAY / 24).isoformat()}
    tried = ops.post(f"{path}/simulations", json=stretch)
    assert tried.status_code == 201, tried.text
    assert tried.json()["people"] == 1
    assert ops.get(f"{path}/simulations").json() == [tried.json()]
    wrong = ops.post(f"{path}/simulations", json={**stretch, "until": stretch["since"]})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "stretch_refused")
    assert ops.post(f"{path}/transitions", json={"action": "start"}).json()["state"] == "in_force"
    apply_quality_rules("now")
    (fired,) = ops.get(f"{path}/firings").json()["items"]
    assert fired["expert_id"] == wire_id("per", poor.id)
    assert ops.get(path).json()["fired"] == 1
    (listed,) = ops.get("/v1/quality-rules?state=in_force").json()["items"]
    assert listed["id"] == rule["id"]
    unfit = ops.post("/v1/quality-rules", json={**_rule(now), "name": "NO"})
    assert (unfit.status_code, unfit.json()["code"]) == (422, "quality_rule_unfit")
    missing = ops.get(f"/v1/quality-rules/qrl_{'0' * 32}")
    assert missing.status_code == 404
    expert = make_caller(db, web, Part.EXPERT)
    assert expert.get("/v1/quality-rules").status_code == 403


def test_ops_write_a_rule_on_its_page_and_see_whom_it_would_have_hit(
    db: Session, web: Web, decided: Callable[..., Expert]
) -> None:
    now = datetime.now(UTC)
    decided(False, False, False, False, since=now - 6 * DAY)
    visit(web, db, Part.OPS)
    home = "/console/ops/rules"
    csrf = token(web, home)
    typed = {name: str(value) for name, value in _rule(now).items() if name != "expires_at"}
    refused = send(web, home, csrf, **{**typed, "when": "income < 3"})
    assert refused.status_code == 422
    assert WORDS in refused.text
    assert send(web, home, csrf, **{**typed, "text": "Too short."}).status_code == 422
    written = send(web, home, csrf, **typed)
    path = written.headers["location"].partition("?")[0]
    assert "Not tried yet" in web.get(path).text
    assert send(web, f"{path}/start", csrf).status_code == 409
    assert send(web, f"{path}/simulate", csrf, days="30").status_code == 303
    assert "too early" in web.get(path).text
    assert send(web, f"{path}/start", csrf).status_code == 303
    apply_quality_rules("now")
    assert "1 in all" in web.get(path).text
    assert send(web, f"{path}/end", csrf).status_code == 303
    assert "retired" in web.get(home).text
    assert send(web, f"{path}/burn", csrf).status_code == 422


def _rule(now: datetime) -> dict[str, Any]:
    return {
        "name": "poor",
        "when": POOR,
        "action": "watch",
        "lasts_days": 14,
        "reason_code": "low_acceptance",
        "text": WORDS,
        "expires_at": (now + 30 * DAY).isoformat(),
    }


def _posted(ops: Caller, now: datetime) -> dict[str, Any]:
    answer = ops.post("/v1/quality-rules", json=_rule(now))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found
