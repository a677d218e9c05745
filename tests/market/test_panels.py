"""Panels: one question to several models, what a stump must defeat, and what came of each model."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from market.attempts import jobs
from market.attempts.actions import (
    Answer,
    claim_stump,
    fail_attempt,
    make_attempt,
    record_answer,
    submit_attempt,
)
from market.attempts.jobs import ask_model
from market.attempts.models import Attempt, AttemptResponse
from market.attempts.queries import beside
from market.auth import Part, keyring
from market.events import Changes
from market.http import wire_id
from market.panels.actions import set_panel
from market.panels.rules import MAX_PANEL, PanelUnfit, check_panel, is_met
from market.profiles.queries import model_profiles
from market.projects.models import Project, TargetModel
from market.quality.queries import outcome_of_verdict
from market.reviews.actions import claim_review, open_reviews
from market.settings import Settings, in_force
from market.submissions.models import Submission
from market.target_models.actions import ModelTerms, create_target_model
from market.tasks.models import Task
from market.verdicts.actions import correct_verdict
from market.verdicts.models import Verdict
from market.verdicts.rules import Correction
from market.votes.actions import approve_by_silence, record_vote
from market.votes.rules import Vote, VoteUnfit
from market.work.actions import start_session
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.fakemodel import FakeModel
from tests.market.reviewed import LATER, RIGHT, STUMP, make_reviewer, review_ids
from tests.market.test_console import come_in, token, visit

Web = TestClient[Any]


@pytest.fixture(autouse=True)
def _settings(settings: Settings) -> None:
    assert in_force.settings is settings


def make_panel(db: Session, *names: str, rule: str = "target", **given: Any) -> Project:
    """A live project whose questions go to some models beside its target model."""
    project = make_project(db, reviews_per_submission=3, budget_minor=10**9, **given)
    models = [
        create_target_model(
            db,
            project.organisation_id,
            ModelTerms(
                name=name,
                base_url="http://127.0.0.1:9/v1",
                model=name,
                price_in_minor=Decimal(1_000_000),
                cost_cap_minor=10**6,
            ),
            at=AT,
        ).id
        for name in names
    ]
    set_panel(db, project.id, models, rule=rule, at=AT)
    return project


def put_question(db: Session, project: Project) -> Attempt:
    """A question of an expert at work, put to every model of a project's panel."""
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    return make_attempt(
        db, offer.id, expert_id=offer.expert_id, prompt="2 + 2?", reference="4", at=AT
    )


def answer(db: Session, *asked: Attempt, says: str = "Answer: 5") -> None:
    """Let some models answer, as their jobs record it."""
    for one in asked:
        record_answer(db, one.id, 0, Answer(says, 200, 12, b"{}", b"{}", 3, 3, "stop", "m"), at=AT)


def handed_in(db: Session, project: Project, *, right: tuple[str, ...] = ()) -> Submission:
    """A claimed stump before its reviewers; the models that are named gave the right answer."""
    head = put_question(db, project)
    for one in (head, *beside(db, head)):
        is_right = one.parameters["model"] in right
        answer(db, one, says="Answer: 4" if is_right else "Answer: 5")
    claim_stump(db, head.id, expert_id=head.expert_id, claims_stump=True, at=AT)
    ends = AT + timedelta(seconds=60)
    handed = submit_attempt(
        db, head.offer_id, head.id, expert_id=head.expert_id, payload={"why": "it adds"}, at=ends
    )
    open_reviews(db, handed.id, at=ends)
    db.flush()
    return handed


def vote_of(db: Session, handed: Submission, said: Mapping[str, bool]) -> Vote:
    """A vote to accept that says of each model, by its name, whether it failed."""
    head = db.get_one(Attempt, handed.attempt_id)
    panel = {one.id: said[str(one.parameters["model"])] for one in beside(db, head)}
    return Vote("accept", model_failed=said["target-1"], attempt_fair=True, panel=panel)


def decided(db: Session, handed: Submission, *said: Mapping[str, bool]) -> Verdict:
    """The verdict after three reviewers voted; the last of what they say is said by the rest."""
    for n, review_id in enumerate(review_ids(db, handed)):
        reviewer = make_reviewer(db)
        claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
        vote = vote_of(db, handed, said[min(n, len(said) - 1)])
        record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)
    db.expire_all()
    return db.get_one(Verdict, handed.id)


def states(db: Session, handed: Submission) -> dict[str, str]:
    """The state of each model's attempt, by the model's name."""
    head = db.get_one(Attempt, handed.attempt_id, populate_existing=True)
    return {str(one.parameters["model"]): one.state for one in (head, *beside(db, head))}


# Asking -------------------------------------------------------------------------------------------


def test_one_question_is_an_attempt_at_each_model_with_its_own_evidence_and_cost(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WAITS_S", (0.01, 0.02))
    project = make_panel(db, "second", "third")
    with FakeModel(key="sk-1") as fake:
        db.execute(
            update(TargetModel)
            .where(TargetModel.organisation_id == project.organisation_id)
            .values(base_url=fake.base_url, sealed_key=keyring.seal(b"sk-1"), samples=2)
        )
        head = put_question(db, project)
        db.commit()
        asked = [head, *beside(db, head)]
        for one in asked:
            ask_model(str(one.id))
    db.expire_all()
    assert [one.state for one in asked] == ["responded"] * 3
    assert [one.parameters["model"] for one in asked] == ["target-1", "second", "third"]
    for one in asked:
        kept = db.scalars(select(AttemptResponse).where(AttemptResponse.attempt_id == one.id)).all()
        assert len(kept) == 2
        model = db.get_one(TargetModel, one.target_model_id)
        assert model.spent_minor == sum(answer.cost_minor for answer in kept)
        assert (model.spent_minor > 0) == (one is not head)


def test_another_model_takes_the_place_of_the_stub_and_the_project_stays_as_it_is(
    db: Session, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WAITS_S", (0.01, 0.02))
    lab = make_caller(db, web, Part.LAB)
    project = make_panel(db, "second", organisation_id=lab.organisation_id)
    before, version = put_question(db, project), project.version
    (second,) = beside(db, before)
    db.commit()
    with FakeModel() as fake:
        path = f"/v1/target-models/{wire_id('mdl', second.target_model_id)}"
        tag = lab.get(path).headers["ETag"]
        changed = {"base_url": fake.base_url, "model": "better-2"}
        assert lab.patch(path, json=changed, headers={"If-Match": tag}).status_code == 200
        db.expire_all()
        after = put_question(db, db.get_one(Project, project.id))
        db.commit()
        (second,) = beside(db, after)
        ask_model(str(second.id))
        assert [one["model"] for one in fake.world.seen] == ["better-2"]
    db.expire_all()
    assert (second.state, second.parameters["model"]) == ("responded", "better-2")
    assert db.get_one(Project, project.id).version == version


def test_a_claim_waits_until_every_model_has_answered(db: Session, web: Web) -> None:
    head = put_question(db, make_panel(db, "second"))
    answer(db, head)
    expert = key_for(db, web, head.expert_id, Part.EXPERT)
    path = f"/v1/attempts/{wire_id('att', head.id)}"
    refused = expert.post(f"{path}/claim", json={"claims_stump": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "panel_unanswered")
    (second,) = beside(db, head)
    # What goes beside is claimed with the question, and not by itself.
    alone = expert.post(
        f"/v1/attempts/{wire_id('att', second.id)}/claim", json={"claims_stump": True}
    )
    assert alone.status_code == 404
    answer(db, second, says="Answer: 4")
    db.commit()
    told = expert.post(f"{path}/claim", json={"claims_stump": True}).json()
    assert (told["state"], told["judge_missed"]) == ("auto_judged", 1)
    assert [(one["model"], one["state"], one["judge_missed"]) for one in told["panel"]] == [
        ("second", "auto_judged", 0)
    ]


@pytest.mark.parametrize(("rule", "can_claim"), [("target", True), ("any", True), ("all", False)])
def test_a_model_that_gave_no_answer_stands_in_the_way_only_where_all_must_fail(
    db: Session, web: Web, rule: str, can_claim: bool
) -> None:
    head = put_question(db, make_panel(db, "second", rule=rule))
    (second,) = beside(db, head)
    answer(db, head)
    fail_attempt(db, second.id, code="model_timeout", reason="too slow", at=AT)
    expert = key_for(db, web, head.expert_id, Part.EXPERT)
    said = expert.post(f"/v1/attempts/{wire_id('att', head.id)}/claim", json={"claims_stump": True})
    assert said.status_code == (200 if can_claim else 409)
    conceded = put_question(db, db.get_one(Project, head.project_id))
    answer(db, conceded, *beside(db, conceded))
    claim_stump(db, conceded.id, expert_id=conceded.expert_id, claims_stump=False, at=AT)
    assert {one.state for one in (conceded, *beside(db, conceded))} == {"not_stumped"}


def test_a_panel_holds_from_the_next_question_on(db: Session) -> None:
    project = make_panel(db, "second", rule="all")
    before = put_question(db, project)
    set_panel(db, project.id, [], rule="target", at=AT)
    after = put_question(db, project)
    assert (before.stump_rule, len(beside(db, before))) == ("all", 1)
    assert (after.stump_rule, beside(db, after)) == (None, [])


def test_a_task_of_a_calibration_asks_its_model_alone(db: Session) -> None:
    project = make_panel(db, "second")
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    db.execute(
        update(Task).where(Task.id == offer.task_id).values(target_model_id=project.target_model_id)
    )
    start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    head = make_attempt(
        db, offer.id, expert_id=offer.expert_id, prompt="2 + 2?", reference="4", at=AT
    )
    assert head.stump_rule is None


# Voting -------------------------------------------------------------------------------------------

BOTH = {"target-1": True, "second": True}
FIRST = {"target-1": True, "second": False}
OTHER = {"target-1": False, "second": True}
NONE = {"target-1": False, "second": False}


@pytest.mark.parametrize(
    ("rule", "said", "is_stump", "first", "second"),
    [
        ("target", BOTH, True, "verified", "verified"),
        ("target", FIRST, True, "verified", "not_stumped"),
        ("target", OTHER, False, "not_stumped", "verified"),
        ("any", OTHER, True, "not_stumped", "verified"),
        ("any", NONE, False, "not_stumped", "not_stumped"),
        ("all", FIRST, False, "verified", "not_stumped"),
        ("all", BOTH, True, "verified", "verified"),
    ],
)
def test_the_rule_says_what_is_a_stump_and_each_model_is_judged_by_itself(
    db: Session, rule: str, said: dict[str, bool], is_stump: bool, first: str, second: str
) -> None:
    handed = handed_in(db, make_panel(db, "second", rule=rule))
    verdict = decided(db, handed, said)
    assert (verdict.is_stump, verdict.is_validated) == (is_stump, is_stump)
    assert states(db, handed) == {"target-1": first, "second": second}
    # What the stump model learns is of the target, whatever its project calls a stump.
    outcome = outcome_of_verdict(db, handed.id)
    assert outcome is not None
    assert outcome.valid == float(first == "verified")


def test_each_model_needs_a_majority_of_its_own(db: Session) -> None:
    handed = handed_in(db, make_panel(db, "second", rule="any"))
    # Each reviewer sees some model fail, but no model is seen to fail by more than half.
    verdict = decided(db, handed, FIRST, OTHER, NONE)
    assert verdict.is_validated
    assert states(db, handed) == {"target-1": "not_stumped", "second": "not_stumped"}


def test_silence_leaves_no_model_before_reviewers_who_do_not_come(db: Session) -> None:
    handed = handed_in(db, make_panel(db, "second"))
    assert set(states(db, handed).values()) == {"validating"}
    decided = approve_by_silence(db, handed.id, at=LATER)
    assert decided is not None
    assert (decided.is_accepted, decided.is_stump) == (True, False)
    db.expire_all()
    assert set(states(db, handed).values()) == {"not_stumped"}


def test_a_vote_says_something_of_each_model(db: Session) -> None:
    handed = handed_in(db, make_panel(db, "second"))
    reviewer, review_id = make_reviewer(db), review_ids(db, handed)[0]
    claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
    for vote in (STUMP, RIGHT):
        with pytest.raises(VoteUnfit, match="each of the 1 models"):
            record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)


def test_a_verdict_that_is_corrected_moves_every_model_that_it_is_about(db: Session) -> None:
    handed = handed_in(db, make_panel(db, "second", rule="any"))
    decided(db, handed, OTHER)
    for action, share, wanted in (
        ("void", 0, {"target-1": "not_stumped", "second": "refuted"}),
        ("reinstate", 100, {"target-1": "not_stumped", "second": "verified"}),
    ):
        changes = Changes(LATER)
        correction = Correction(
            action=action, share=share, basis="case", reason_code="case", is_fair=True
        )
        correct_verdict(db, db.get_one(Submission, handed.id), correction, changes)
        changes.write(db)
        db.expire_all()
        assert states(db, handed) == wanted


# What came of it ----------------------------------------------------------------------------------


def test_the_report_tells_of_each_model_with_its_interval_over_http_and_on_the_page(
    db: Session, web: Web
) -> None:
    lab = make_caller(db, web, Part.LAB, "Lab")
    project = make_panel(db, "second", "third", organisation_id=lab.organisation_id)
    said = {"target-1": True, "second": True, "third": False}
    decided(db, handed_in(db, project, right=("third",)), said)
    decided(db, handed_in(db, project, right=("third",)), said | {"second": False})
    put_question(db, project)
    db.commit()
    first, second, third = model_profiles(db, project.id)
    assert [(one.name, one.is_target, one.asked) for one in (first, second, third)] == [
        ("target", True, 3),
        ("second", False, 3),
        ("third", False, 3),
    ]
    # What was asked and not decided is in no rate.
    assert [(one.stumps.part, one.stumps.whole) for one in (first, second, third)] == [
        (2, 2),
        (1, 2),
        (0, 2),
    ]
    assert second.stumps.low < 0.5 < second.stumps.high
    assert [(one.shared.part, one.shared.whole) for one in (second, third)] == [(1, 2), (0, 2)]
    assert (third.judge_missed.part, third.judge_missed.whole) == (0, 2)
    assert (first.judge_missed.part, first.judge_missed.whole) == (2, 2)

    where = f"/v1/projects/{wire_id('prj', project.id)}"
    told = lab.get(f"{where}/panel/results").json()
    assert [one["stumps"]["part"] for one in told["models"]] == [2, 1, 0]
    rows = lab.get(f"{where}/panel/results.csv").text.splitlines()
    assert len(rows) == 4
    assert rows[2].split(",")[1] == "second"
    stranger = make_caller(db, web, Part.LAB)
    assert stranger.get(f"{where}/panel/results").status_code == 404


def test_a_lab_sets_its_panel_and_is_told_what_does_not_do(db: Session, web: Web) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_panel(db, "second", organisation_id=lab.organisation_id)
    (second,) = db.scalars(select(TargetModel.id).where(TargetModel.name == "second")).all()
    db.commit()
    where = f"/v1/projects/{wire_id('prj', project.id)}/panel"
    wanted = {"model_ids": [wire_id("mdl", second)], "stump_rule": "any"}
    assert lab.put(where, json=wanted).json()["stump_rule"] == "any"
    assert [one["name"] for one in lab.get(where).json()["models"]] == ["second"]
    own = wire_id(
        "mdl", UUID(int=0) if project.target_model_id is None else project.target_model_id
    )
    for unfit in ({"model_ids": [own]}, {"model_ids": [], "stump_rule": "all"}):
        refused = lab.put(where, json=unfit)
        assert (refused.status_code, refused.json()["code"]) == (422, "panel_unfit")
    strange = make_project(db).target_model_id
    assert strange is not None
    db.commit()
    foreign = lab.put(where, json={"model_ids": [wire_id("mdl", strange)]})
    assert foreign.status_code == 404


def test_a_panel_names_each_model_once_and_not_too_many() -> None:
    one = UUID(int=1)
    for models in ([one, one], [UUID(int=n) for n in range(2, MAX_PANEL + 3)]):
        with pytest.raises(PanelUnfit):
            check_panel(None, models)


def test_any_and_all_count_the_target_too() -> None:
    assert is_met("any", True, [False])
    assert is_met("any", False, [False, True])
    assert not is_met("all", False, [True])
    assert is_met("all", True, [])
    assert not is_met("target", False, [True])


def test_reviewers_of_a_panel_see_every_model_and_say_of_each(db: Session, web: Web) -> None:
    handed = handed_in(db, make_panel(db, "second", rule="any"), right=("second",))
    reviewer = make_reviewer(db)
    claim_review(db, review_ids(db, handed)[0], reviewer_id=reviewer, at=LATER)
    db.execute(text("update market.review set expires_at = now() + interval '1 hour'"))
    db.execute(text("update market.review set expires_at = null where reviewer_id is null"))
    db.commit()
    caller = key_for(db, web, reviewer, Part.REVIEWER)
    review = wire_id("rev", review_ids(db, handed)[0])
    seen = caller.get(f"/v1/reviews/{review}").json()["attempt"]
    assert seen["stump_rule"] == "any"
    (other,) = seen["panel"]
    assert other["responses"][0]["output"] == "Answer: 4"
    vote = {
        "verdict": "accept",
        "model_failed": True,
        "attempt_fair": True,
        "panel": {other["id"]: False},
    }
    assert caller.post(f"/v1/reviews/{review}/vote", json=vote).status_code == 200
    kept = db.execute(text("select attempt_id, model_failed from market.panel_vote")).all()
    assert sorted(row.model_failed for row in kept) == [False, True]


def test_pages_of_lab_expert_and_reviewer_show_the_panel(db: Session, web: Web) -> None:
    project = make_panel(db, "second", rule="all")
    head = put_question(db, project)
    answer(db, head, *beside(db, head))
    handed = handed_in(db, project)
    reviewer = make_reviewer(db)
    review_id = review_ids(db, handed)[0]
    claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
    db.commit()
    visits = (
        (head.expert_id, Part.EXPERT, f"expert/offers/{wire_id('ofr', head.offer_id)}"),
        (reviewer, Part.REVIEWER, f"reviewer/reviews/{wire_id('rev', review_id)}"),
    )
    for person, part, where in visits:
        come_in(web, key_for(db, web, person, part))
        shown = web.get(f"/console/{where}")
        assert shown.status_code == 200
        assert "Model 2 of 2" in shown.text


def test_a_lab_chooses_its_panel_on_its_page_and_reads_what_came_of_each_model(
    db: Session, web: Web
) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_panel(db, "second", rule="any", organisation_id=lab.organisation_id)
    decided(db, handed_in(db, project), OTHER)
    db.commit()
    base = f"/console/lab/projects/{wire_id('prj', project.id)}"
    assert "Every question also goes to 1 other model" in web.get(f"{base}/setup").text
    shown = web.get(f"{base}/models")
    assert "any one of them" in shown.text
    assert "1 of 1" in shown.text
    assert web.get(f"{base}/models.csv").text.splitlines()[2].split(",")[1] == "second"
    form = {"csrf": token(web, f"{base}/setup"), "once": "1", "stump_rule": "target"}
    assert web.post(f"{base}/panel", data=form, follow_redirects=False).status_code == 303
    db.expire_all()
    assert db.get_one(Project, project.id).stump_rule == "target"
    assert db.scalar(text("select count(*) from market.panel_model")) == 0
