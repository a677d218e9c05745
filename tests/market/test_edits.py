"""Drafts that experts begin from: what they made of them, and what a trial of drafts tells."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.console.experiment_told import together_told
from market.edits.queries import edit_rounds
from market.edits.rules import MOST_CELLS, DraftUnedited, compare, written_alike
from market.experiments.actions import design_experiment
from market.experiments.rules import (
    GUARDRAILS,
    METRICS,
    Design,
    Exposed,
    Tried,
    effect_told,
    guidance_of,
    look,
    shown_payload,
)
from market.offers.actions import accept_offer
from market.offers.models import Offer
from market.reviews.actions import claim_next_review, open_reviews
from market.runs.actions import request_run
from market.submissions.actions import submit_work
from market.submissions.models import Submission
from market.work.actions import start_session
from tests.factories import (
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import make_reviewer
from tests.market.test_console import come_in

DRAFT = "Water boils at 90 °C.  Ice\r\nmelts at 0 °C."
BETTER = "Pure water boils at 100 °C. Ice\nmelts at 0 °C."


def fewest(before: list[str], after: list[str]) -> int:
    """The textbook's distance: a table of all beginnings."""
    row = list(range(len(after) + 1))
    for n, left in enumerate(before, 1):
        line = [n]
        for at, right in enumerate(after, 1):
            line.append(min(line[-1] + 1, row[at] + 1, row[at - 1] + (left != right)))
        row = line
    return row[-1]


def test_the_distance_is_the_least_and_the_regions_make_the_text_of_the_draft() -> None:
    drawn = random.Random(7)
    for _ in range(400):
        before, after = ([drawn.choice("abcd") for _ in range(drawn.randint(0, 9))] for _ in "12")
        draft, text = " ".join(before), " ".join(after)
        found = compare(draft, text)
        assert found.distance == fewest(before, after), (draft, text)
        made, at, kept = "", 0, 0
        for one in found.regions:
            made += f"{draft[at : one.draft_from]} {text[one.text_from : one.text_to]} "
            kept += len(draft[at : one.draft_from].split())
            at = one.draft_to
        assert f"{made}{draft[at:]}".split() == after
        kept += len(draft[at:].split())
        assert found.untouched_share == pytest.approx(kept / len(before) if before else 0.0)


def test_what_nobody_would_call_an_edit_is_none() -> None:
    assert compare(DRAFT, "  Water boils at 90 °C. Ice  \nmelts at 0 °C.\n").is_unedited
    assert compare("cafe\u0301", "café").is_unedited
    assert not compare(DRAFT, DRAFT.replace("90", "100")).is_unedited
    assert written_alike(" a \t b \r c ") == "a b\nc"


def test_a_text_too_long_to_search_counts_as_replaced_where_it_differs() -> None:
    most = int(MOST_CELLS**0.5) + 1
    before, after = (" ".join(f"{name}{n}" for n in range(most)) for name in "pq")
    found = compare(f"begin {before} end", f"begin {after} end")
    assert (found.is_exact, found.distance, len(found.regions)) == (False, most, 1)


def begun(
    db: Session, web: TestClient[Any], *, arm: str = "treated", **terms: Any
) -> tuple[Caller, Offer]:
    """A lab, and work under way in the treated arm of a trial of drafts."""
    at = datetime.now(UTC) - timedelta(seconds=60)
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, at=at, **terms)
    task = make_task(db, project, payload={"instructions": "Mend it.", "draft": DRAFT}, at=at)
    trial = design_experiment(
        db,
        Design(
            name="a trial of drafts",
            kind="draft",
            unit="expert",
            share=0.5,
            reason="To see.",
            treatment={"field": "draft"},
        ),
        author_id=None,
        at=at,
    )
    told = {"experiment_id": str(trial.id), "kind": "draft", "arm": arm}
    offer = make_offer(db, task, make_expert(db).id, at=at, trials=[told])
    start_session(db, offer.id, expert_id=offer.expert_id, at=at)
    db.commit()
    return lab, offer


def hand_in(db: Session, offer: Offer, answer: object) -> Submission:
    at = offer.created_at + timedelta(seconds=60)
    payload = {"answer": answer}
    return submit_work(db, offer.id, expert_id=offer.expert_id, payload=payload, at=at)


def test_what_became_of_a_draft_is_kept_and_its_lab_and_expert_read_it(
    db: Session, web: TestClient[Any]
) -> None:
    lab, offer = begun(db, web)
    row = hand_in(db, offer, BETTER)
    db.commit()
    path = f"/v1/submissions/sub_{row.id.hex}/edit"
    found = lab.get(path).json()
    assert (found["draft_words"], found["text_words"], found["distance"]) == (14, 15, 3)
    assert (found["untouched_share"], found["is_flagged"]) == (pytest.approx(12 / 14), False)
    draft, text = written_alike(DRAFT), written_alike(BETTER)
    spans = [
        (draft[one["draft_from"] : one["draft_to"]], text[one["text_from"] : one["text_to"]])
        for one in found["regions"]
    ]
    assert spans == [("Water", "Pure water"), ("90", "100")]
    assert key_for(db, web, offer.expert_id, Part.EXPERT).get(path).json() == found
    assert make_caller(db, web, Part.LAB).get(path).json()["code"] == "edit_not_found"
    base = f"/v1/projects/prj_{row.project_id.hex}/edits"
    summary = lab.get(f"{base}/summary").json()
    assert (summary["submissions"], summary["unedited"]) == (1, 0)
    assert [one["distance"] for one in lab.get(base).json()["items"]] == [found["distance"]]
    assert lab.get(base, params={"flagged": True}).json()["items"] == []
    lines = lab.get(f"{base}.csv").text.splitlines()
    assert lines[1].startswith(f"sub_{row.id.hex},1,")
    come_in(web, lab)
    page = web.get(f"/console/lab/submissions/sub_{row.id.hex}").text
    assert "<del>90</del><ins>100</ins>" in page
    listed = web.get(f"/console/lab/projects/prj_{row.project_id.hex}/edits").text
    assert "85.7" in listed
    assert web.get(f"/console/lab/projects/prj_{row.project_id.hex}/edits.csv").text == (
        lab.get(f"{base}.csv").text
    )


def test_work_that_began_from_nothing_has_no_edit(db: Session, web: TestClient[Any]) -> None:
    _, offer = begun(db, web, arm="control")
    assert edit_rounds(db, hand_in(db, offer, DRAFT).id) == []


def test_a_lab_gives_its_own_drafts_without_any_trial_and_ops_read_of_all_projects(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC) - timedelta(seconds=60)
    project = make_project(db, lab.organisation_id, at=at)
    with_draft = make_task(db, project, payload={"instructions": "Mend.", "model": DRAFT}, at=at)
    path = f"/v1/projects/prj_{project.id.hex}"
    wrong = lab.patch(path, json={"draft_field": ""}, headers={"If-Match": '"1"'})
    assert wrong.status_code == 422
    changed = lab.patch(path, json={"draft_field": "model"}, headers={"If-Match": '"1"'})
    assert changed.json()["draft_field"] == "model"
    expert_id = make_expert(db).id
    request_run(db, seed=1, at=datetime.now(UTC))
    db.commit()
    react()
    db.expire_all()
    offer = db.scalars(select(Offer).where(Offer.task_id == with_draft.id)).one()
    assert (offer.expert_id, offer.terms["draft_field"]) == (expert_id, "model")
    expert = key_for(db, web, expert_id, Part.EXPERT)
    seen = expert.get(f"/v1/offers/ofr_{offer.id.hex}").json()
    assert seen["draft"] == DRAFT
    assert "model" not in seen["task"]
    assert seen["terms"]["draft_field"] == "model"
    now = datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=expert_id, at=now)
    start_session(db, offer.id, expert_id=expert_id, at=now)
    later = now + timedelta(seconds=60)
    row = submit_work(db, offer.id, expert_id=expert_id, payload={"answer": BETTER}, at=later)
    db.commit()
    (told,) = lab.get(f"{path}/edits").json()["items"]
    assert (told["distance"], told["project_id"]) == (3, f"prj_{project.id.hex}")
    # One more project of another lab; each lab reads of its own alone, and ops of both.
    _, other = begun(db, web)
    hand_in(db, other, DRAFT)
    db.commit()
    ops = make_caller(db, web, Part.OPS)
    projects = [one["project_id"] for one in ops.get("/v1/edits").json()["items"]]
    assert sorted(projects) == sorted(f"prj_{one.hex}" for one in (project.id, other.project_id))
    assert [one["submission_id"] for one in lab.get("/v1/edits").json()["items"]] == [
        f"sub_{row.id.hex}"
    ]
    assert lab.get("/v1/edits", params={"flagged": True}).json()["items"] == []
    come_in(web, ops)
    page = web.get("/console/ops/edits").text
    assert page.count("<tr>") == 3
    assert "85.7" in page
    assert "No draft came back" in web.get("/console/ops/edits?of=flagged").text


def test_where_drafts_are_tried_the_arm_says_who_gets_one() -> None:
    payload = {"question": "Why?", "model": "Because.", "empty": ""}
    control, treated = (
        Tried(uuid4(), "draft", arm, {"text": "A start."}) for arm in ("control", "treated")
    )
    for arms, field, draft in (
        ((), "model", "Because."),
        ((control,), "model", None),
        ((treated,), "model", "A start."),
        ((), "empty", None),
        ((), "absent", None),
    ):
        given = guidance_of(arms, payload, draft_field=field)
        assert given.draft == draft
        assert field not in shown_payload(payload, given)


def test_an_unedited_draft_is_refused_where_the_project_takes_none(
    db: Session, web: TestClient[Any]
) -> None:
    lab, offer = begun(db, web, unedited_drafts="refused")
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    path = f"/v1/offers/ofr_{offer.id.hex}/submission"
    refused = expert.post(path, json={"payload": {"answer": f" {DRAFT}\n"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "draft_unedited")
    with pytest.raises(DraftUnedited):
        hand_in(db, offer, DRAFT)
    db.rollback()
    come_in(web, expert)
    assert "cannot be handed in" in web.get(f"/console/expert/offers/ofr_{offer.id.hex}").text
    web.cookies.clear()
    assert expert.post(path, json={"payload": {"answer": BETTER}}).status_code == 201
    wrong = lab.patch(
        f"/v1/projects/prj_{offer.project_id.hex}",
        json={"unedited_drafts": "burnt"},
        headers={"If-Match": '"1"'},
    )
    assert wrong.status_code == 422


def test_an_unedited_draft_is_marked_for_reviewers_where_the_project_says_so(
    db: Session, web: TestClient[Any]
) -> None:
    lab, offer = begun(db, web, unedited_drafts="flagged")
    row = hand_in(db, offer, DRAFT)
    db.commit()
    found = lab.get(f"/v1/submissions/sub_{row.id.hex}/edit").json()
    assert (found["is_flagged"], found["distance"], found["regions"]) == (True, 0, [])
    summary = lab.get(f"/v1/projects/prj_{row.project_id.hex}/edits/summary").json()
    assert (summary["unedited"], summary["flagged"]) == (1, 1)
    open_reviews(db, row.id, at=datetime.now(UTC))
    reviewer = key_for(db, web, make_reviewer(db), Part.REVIEWER)
    taken = claim_next_review(db, reviewer_id=reviewer.person_id, at=datetime.now(UTC))
    db.commit()
    come_in(web, reviewer)
    assert "word for word" in web.get(f"/console/reviewer/reviews/rev_{taken.id.hex}").text


def test_a_trial_of_drafts_tells_time_and_quality_together() -> None:
    # Drafts save three tenths of the time, and let one error in ten more through.
    rng = np.random.default_rng(3)
    experts = [uuid4() for _ in range(120)]
    unit = tuple(one for one in experts for _ in range(20))
    treated = np.repeat(np.arange(120) % 2 == 0, 20)
    outcome = {name: np.zeros(len(unit)) for name in METRICS}
    outcome["work_h"] = rng.gamma(4, 0.25, len(unit)) * np.where(treated, 0.7, 1.0)
    outcome["rejected"] = (rng.random(len(unit)) < np.where(treated, 0.25, 0.1)).astype(float)
    outcome["stump"] = (rng.random(len(unit)) < 0.3).astype(float)
    known = {name: np.ones(len(unit), np.bool_) for name in METRICS}
    seen = look(Exposed(unit, treated, outcome, known), "stump", GUARDRAILS)
    time, errors, stumps = (seen.together[name] for name in ("work_h", "rejected", "stump"))
    assert time.low < -0.3 < time.high < 0
    assert 0 < errors.low < 0.15 < errors.high
    assert stumps.low < 0 < stumps.high
    told = together_told({f"together.{k}": effect_told(v) for k, v in seen.together.items()})
    assert [(one.name, one.verdict) for one in told] == [
        ("Hours of work", "better for sure"),
        ("Work rejected", "worse for sure"),
        ("Stumps an assignment", "no difference for sure yet"),
    ]
    assert all(" to " in one.difference for one in told)
