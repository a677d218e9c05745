"""Profiles of people, agreement of people and of the judge with them, and time in stage."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.agreements.queries import agreement_by_field, disagreements, judge_standings
from market.agreements.rules import Pattern, agreement_on
from market.auth import Part
from market.http import wire_id
from market.profiles.queries import expert_profiles, reviewer_profiles, stages, task_paths
from market.profiles.rules import Period
from market.quality.actions import observe_verdict
from market.reviews.actions import claim_review
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from tests.factories import AT, key_for, make_caller, make_expert, make_project
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    RIGHT,
    STUMP,
    cast,
    hand_in,
    hand_in_to,
    make_decided,
    make_reviewer,
    review_ids,
)
from tests.market.test_console import come_in

Web = TestClient[Any]
DAY = timedelta(days=1)
SPAN = Period(AT - DAY, AT + 30 * DAY)


def test_a_profile_tells_quality_speed_and_what_passed_at_first_with_intervals(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    expert = make_expert(db)
    handed = make_decided(db, project, expert.id, True, True, True, False)
    handed[0].round = 2
    db.flush()
    make_decided(db, project, make_expert(db).id, True)
    (found,) = expert_profiles(db, SPAN, person_id=expert.id)
    assert (found.accepted.part, found.accepted.whole) == (3, 4)
    assert found.accepted.low < 0.75 < found.accepted.high
    assert (found.first_pass.part, found.first_pass.whole) == (2, 4)
    assert found.rounds == 1.25
    assert found.median_verdict_s == 3600
    assert found.stumps.whole == 0
    # What nobody looked at says nothing of its author.
    assert len(expert_profiles(db, SPAN)) == 2
    assert expert_profiles(db, SPAN, domain="law") == []


def test_worked_time_is_held_against_what_was_expected(db: Session) -> None:
    handed = hand_in(db, reviews=1, with_attempt=False)
    cast(db, handed, ACCEPT)
    (found,) = expert_profiles(db, SPAN, person_id=handed.expert_id)
    assert found.median_work_s == 60
    assert found.pace == pytest.approx(60 / 1800)


def test_a_reviewer_is_measured_by_verdicts_and_by_its_fellows_on_the_same_work(
    db: Session,
) -> None:
    strict, fellows = make_reviewer(db), [make_reviewer(db), make_reviewer(db)]
    for _ in range(3):
        handed = hand_in(db, with_attempt=False)
        for review_id, who in zip(review_ids(db, handed), [strict, *fellows], strict=True):
            claim_review(db, review_id, reviewer_id=who, at=LATER)
            vote = REJECT if who == strict else ACCEPT
            record_vote(db, review_id, reviewer_id=who, vote=vote, at=LATER)
    (found,) = reviewer_profiles(db, SPAN, person_id=strict)
    assert (found.votes, found.agreed.part) == (3, 0)
    assert found.severity == pytest.approx(1.0)
    (other,) = reviewer_profiles(db, SPAN, person_id=fellows[0])
    assert other.agreed.part == 3
    assert other.severity == pytest.approx(-0.5)


def test_agreement_is_told_for_each_closed_question_and_off_for_open_ones(db: Session) -> None:
    for _ in range(3):
        cast(db, hand_in(db), STUMP, STUMP, STUMP)
    for _ in range(2):
        cast(db, hand_in(db), RIGHT, RIGHT, STUMP)
    cast(db, hand_in(db, with_attempt=False), ACCEPT, ACCEPT, REJECT)
    found = {one.field: one for one in agreement_by_field(db, since=AT, until=LATER) if not one.off}
    assert set(found) == {"model_failed", "attempt_fair", "accepted"}
    failed = found["model_failed"].found
    assert failed is not None
    # 11 of 15 votes say yes; pairs agree on 3 + 2 / 3 of 5 items.
    assert failed.observed.value == pytest.approx((3 + 2 / 3) / 5)
    assert failed.alpha.value == pytest.approx(1 - (4 / 15) / (2 * 11 * 4 / (15 * 14)))
    assert (failed.alpha.low or 0.0) < (failed.alpha.value or 0.0)
    # All said that it was fair: chance agrees as well, so that alpha is not defined.
    fair = found["attempt_fair"].found
    assert fair is not None
    assert fair.alpha.value is None
    (off,) = [one for one in agreement_by_field(db, since=AT, until=LATER) if one.off]
    assert (off.field, off.votes, off.found) == ("accepted", 3, None)


def test_kappa_of_the_textbook_comes_out_of_votes() -> None:
    # Twenty both yes, fifteen both no, five and ten apart: 0.7 agree.
    said = [Pattern(2, 0, 20), Pattern(0, 2, 15), Pattern(1, 1, 15)]
    told = agreement_on("chemistry", "model_failed", said)
    assert told.votes == 100
    found = told.found
    assert found is not None
    assert found.observed.value == pytest.approx(0.7)
    assert found.fleiss.value == pytest.approx(0.4, abs=0.01)


def test_the_judge_stands_beside_people_and_where_they_differ_somebody_looks(db: Session) -> None:
    agreed = hand_in(db)
    cast(db, agreed, STUMP, STUMP, STUMP)
    differs = hand_in(db)
    cast(db, differs, RIGHT, RIGHT, RIGHT)
    observe_verdict(db, differs.id, at=LATER)
    (found,) = disagreements(db, since=AT)
    assert found.submission_id == differs.id
    # Two figures, each as it is.
    assert found.judge == 1.0
    assert not found.is_validated
    assert found.belief is not None
    assert found.belief < 0.5
    standings = judge_standings(db, since=AT)
    assert sum(one.agreed.whole for one in standings) == 2
    assert sum(one.agreed.part for one in standings) == 1
    assert not any(one.could_stand_alone for one in standings)


def test_the_judge_alone_finalises_no_stump(db: Session) -> None:
    handed = hand_in(db)
    decided = approve_by_silence(db, handed.id, at=LATER + 30 * DAY)
    assert decided is not None
    verdict = db.get_one(Verdict, handed.id)
    assert verdict.is_accepted
    # The judge read every sample as a failure; without votes that makes neither of these.
    assert not verdict.is_validated
    assert not verdict.is_stump


def test_time_in_stage_rejections_and_rounds_are_told_task_by_task(db: Session) -> None:
    project = make_project(db, budget_minor=10**9, reviews_per_submission=1)
    handed = hand_in_to(db, project.id, with_attempt=False)
    cast(db, handed, REJECT)
    over = Period(AT, LATER + DAY)
    (path,) = task_paths(db, project.id, over=over)
    assert (path.submissions, path.rounds, path.rejections, path.state) == (1, 1, 1, "queued")
    # In review from a minute after it began until the vote an hour later; open again since.
    assert path.stages["in_review"] == pytest.approx(3600 - 60)
    found = {(one.machine, one.state): one for one in stages(db, project.id, over=over)}
    assert found["task", "queued"].stays == 2
    assert found["task", "queued"].still_there == 1
    assert found["submission", "rejected"].still_there == 1
    assert found["submission", "awaiting_review"].half_s == pytest.approx(3600 - 60)


def test_profiles_agreement_and_stages_are_read_over_the_wire(db: Session, web: Web) -> None:
    ops, lab = make_caller(db, web, Part.OPS), make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, budget_minor=10**9, reviews_per_submission=1)
    lately = datetime.now(UTC) - timedelta(hours=3)
    handed = hand_in_to(db, project.id, at=lately)
    cast(db, handed, RIGHT, at=lately + timedelta(hours=1))
    days = "?days=3660"
    (profile,) = ops.get(f"/v1/profiles/experts{days}").json()
    assert profile["expert_id"] == wire_id("per", handed.expert_id)
    rows = list(csv.DictReader(io.StringIO(ops.get(f"/v1/profiles/experts.csv{days}").text)))
    assert rows[0]["accepted"] == "1"
    (reviewer,) = ops.get(f"/v1/profiles/reviewers{days}").json()
    only = ops.get(f"/v1/profiles/reviewers{days}&reviewer_id={reviewer['reviewer_id']}")
    assert only.json() == [reviewer]
    assert "severity" in ops.get(f"/v1/profiles/reviewers.csv{days}").text
    expert = key_for(db, web, handed.expert_id, Part.EXPERT)
    assert expert.get(f"/v1/profiles/me{days}").json() == [profile]
    assert expert.get("/v1/profiles/experts").status_code == 403
    path = f"/v1/projects/{wire_id('prj', project.id)}"
    told = lab.get(f"{path}/stages").json()
    assert (told["tasks"], told["submissions"], told["rejections"]) == (1, 1, 0)
    assert "external_id" in lab.get(f"{path}/stages.csv").text
    fields = [one["field"] for one in lab.get(f"{path}/agreement{days}").json()]
    assert fields == ["accepted", "attempt_fair", "model_failed"]
    assert len(ops.get(f"/v1/agreement{days}").json()) == 3
    (judge,) = ops.get(f"/v1/judge/calibration{days}").json()
    assert (judge["agreed"]["part"], judge["agreed"]["whole"]) == (0, 1)
    (differs,) = ops.get(f"/v1/judge/disagreements{days}").json()
    assert differs["submission_id"] == wire_id("sub", handed.id)
    come_in(web, ops)
    shown = web.get("/console/ops/signals/agreement").text
    assert "the model was right" in shown
    assert "Was the question fair?" in shown
    stranger = make_caller(db, web, Part.LAB)
    for name in ("stages", "stages.csv", "agreement"):
        assert stranger.get(f"{path}/{name}").status_code == 404
