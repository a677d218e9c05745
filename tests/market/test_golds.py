"""Gold as hidden checks: taken in row by row, put more where less is known, graded, retired."""

import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.events import Event, EventRow
from market.golds.actions import (
    add_golds,
    drop_stale_checks,
    grade_check,
    put_check,
    retire_gold,
)
from market.golds.jobs import follow_checks
from market.golds.models import Gold, GoldCheck
from market.golds.queries import people_checked
from market.golds.rules import (
    LEAST_SHARE,
    MOST_EXPOSURES,
    MOST_SHARE,
    GoldRow,
    is_due,
    is_leaked,
    is_right,
    named_like,
    share_for,
)
from market.http import wire_id
from market.offers.models import Offer
from market.projects.models import Project
from market.quality.actions import observe_verdict
from market.quality.models import ReviewerReliability
from market.quality.queries import ballots_of, outcome_of_verdict
from market.snapshots.actions import take_snapshot
from market.snapshots.rules import NothingToDeliver
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.tasks.queries import tasks_open_to
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    cast,
    hand_in,
    hand_in_to,
    make_senior,
    settled,
)
from tests.market.running import offers_of, run_now

Web = TestClient[Any]


def gold_in(db: Session, project: Project, *names: str) -> list[Gold]:
    """Gold of a project, the answer to all of it 42."""
    rows = [
        GoldRow(
            external_id=name,
            domain=project.domains[0],
            payload={"instructions": f"What is asked by {name}?"},
            answers=("42", "forty-two"),
        )
        for name in names
    ]
    assert {one.verdict for one in add_golds(db, project.id, rows, at=AT)} == {"created"}
    return list(db.scalars(select(Gold).where(Gold.project_id == project.id).order_by(Gold.id)))


def work_of(
    db: Session, project: Project, expert_id: UUID, *, due: bool = True, task: Task | None = None
) -> Submission:
    """Work that was handed in, on which a check is due, or is not, while nothing is known."""
    offer = make_offer(db, task or make_task(db, project), expert_id)
    drawn = (new_id() for _ in itertools.count())
    handed = Submission(
        id=next(one for one in drawn if is_due(one, LEAST_SHARE if due else MOST_SHARE) == due),
        organisation_id=offer.organisation_id,
        project_id=offer.project_id,
        task_id=offer.task_id,
        slot_id=offer.slot_id,
        offer_id=offer.id,
        expert_id=expert_id,
        payload={"answer": "done"},
        created_at=AT,
        submitted_at=AT,
    )
    db.add(handed)
    db.flush()
    return handed


def put(db: Session, project: Project, expert_id: UUID) -> Task:
    """A check put to an expert after work of its."""
    made = put_check(db, work_of(db, project, expert_id).id, at=AT)
    assert made is not None
    return made


def answered(db: Session, check: Task, expert_id: UUID, answer: str, **given: Any) -> Submission:
    """The check worked on and handed in as any other task."""
    offer = make_offer(db, check, expert_id)
    handed = hand_in(db, offer=offer, with_attempt=False, payload={"answer": answer}, **given)
    grade_check(db, handed.id, at=AT)
    return handed


# Taking in ----------------------------------------------------------------------------------------


def test_each_row_of_gold_has_its_verdict_and_is_taken_or_told_what_to_change(
    db: Session, web: Web
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id)
    db.commit()
    where = f"/v1/projects/{wire_id('prj', project.id)}/golds"
    good = {
        "external_id": "g-1",
        "domain": "chemistry.organic",
        "payload": {"instructions": "6 x 7?"},
        "answers": ["42"],
    }
    rows = [
        good,
        good | {"external_id": "g-2", "domain": "law"},
        good | {"external_id": "g-3", "domain": "Not A Domain"},
        good | {"external_id": "g-4", "answers": [" "]},
        good | {"external_id": "g-5", "payload": {}},
        good | {"external_id": "", "complexity": 3},
        good | {"external_id": "g-6", "complexity": 11},
        good | {"external_id": "g-7", "expected_s": 0},
        good | {"external_id": "g-8", "field": ""},
    ]
    told = lab.post(where, json={"items": rows}).json()
    assert (told["created"], told["rejected"]) == (1, 8)
    assert [one["code"] for one in told["rows"]] == [
        None,
        "domain_of_another_project",
        "domain_unknown",
        "answers_unfit",
        "payload_empty",
        "external_id_unfit",
        "complexity_unfit",
        "expected_s_unfit",
        "field_unfit",
    ]
    again = lab.post(where, json={"items": [good, good | {"answers": ["43"]}]}).json()
    assert [one["verdict"] for one in again["rows"]] == ["unchanged", "rejected"]
    assert again["rows"][1]["code"] == "content_differs"
    (kept,) = lab.get(where).json()["items"]
    assert (kept["state"], kept["exposures"], kept["right"]["whole"]) == ("active", 0, 0)
    stranger = make_caller(db, web, Part.LAB)
    assert stranger.get(where).status_code == 404
    assert stranger.get(f"/v1/golds/{kept['id']}").status_code == 404
    retired = lab.post(f"/v1/golds/{kept['id']}/retire").json()
    assert (retired["state"], retired["retired_for"]) == ("retired", "withdrawn")
    nothing = lab.post(where, json={"items": []})
    assert nothing.status_code == 422


# How often ----------------------------------------------------------------------------------------


def test_the_less_is_known_of_somebody_the_larger_the_share_of_checks() -> None:
    shares = [share_for(4 * n, n) for n in (0, 1, 3, 10, 100)]
    assert shares[0] == MOST_SHARE
    assert shares == sorted(shares, reverse=True)
    assert LEAST_SHARE < shares[-1] < 0.05
    # As much is known of both; of the one who is wrong half of the time it is less certain.
    assert share_for(10, 10) > share_for(20, 0)
    drawn = sum(is_due(UUID(int=n), MOST_SHARE) for n in range(5000))
    assert 900 < drawn < 1100


def test_a_check_comes_when_it_is_due_and_never_while_another_waits(db: Session) -> None:
    project = make_project(db)
    gold_in(db, project, "g-1", "g-2")
    expert = make_expert(db)
    assert put_check(db, work_of(db, project, expert.id, due=False).id, at=AT) is None
    assert put(db, project, expert.id).state == "queued"
    assert put_check(db, work_of(db, project, expert.id).id, at=AT) is None


# Hidden -------------------------------------------------------------------------------------------


def test_a_check_is_put_once_for_each_work_however_often_its_job_runs(db: Session) -> None:
    project, expert = make_project(db, state="live"), make_expert(db)
    gold_in(db, project, "g-1", "g-2")
    handed = work_of(db, project, expert.id)
    first = put_check(db, handed.id, at=AT)
    assert first is not None
    # Nothing waits any more that would keep a second one away.
    answered(db, first, expert.id, "42")
    assert put_check(db, handed.id, at=LATER) is None


def test_no_check_follows_on_a_check_however_often_its_job_runs(db: Session) -> None:
    project, expert = make_project(db, state="live"), make_expert(db)
    gold_in(db, project, "g-1", "g-2")
    handed = work_of(db, project, expert.id, task=put(db, project, expert.id))
    assert grade_check(db, handed.id, at=AT) is False
    follow_checks(str(handed.id))
    assert len(db.scalars(select(GoldCheck)).all()) == 1


def test_a_check_is_offered_to_its_expert_alone_on_the_terms_of_all_other_work(
    db: Session,
) -> None:
    project = make_project(db, budget_minor=10**9, rate_minor_per_hour=9000)
    gold_in(db, project, "secret-gold")
    expert, others = make_expert(db), [make_expert(db) for _ in range(3)]
    check = put(db, project, expert.id)
    other = make_task(db, project)
    assert check.id in db.scalars(tasks_open_to(expert.id).with_only_columns(Task.id)).all()
    for one in others:
        open_to = db.scalars(tasks_open_to(one.id).with_only_columns(Task.id)).all()
        assert (check.id in open_to, other.id in open_to) == (False, True)
    db.execute(update(Offer).values(state="released", ended_at=AT).where(Offer.state == "accepted"))
    offers = {one.task_id: one for one in offers_of(db, run_now(db, project_id=project.id))}
    assert offers[check.id].expert_id == expert.id
    terms, usual = offers[check.id].terms, offers[other.id].terms
    same = ("rate_minor_per_hour", "cap_s", "reviews_per_submission", "review_within_s")
    assert [terms[name] for name in same] == [usual[name] for name in same]
    assert set(terms) == set(usual)


def test_a_check_looks_as_its_neighbours_do(db: Session) -> None:
    project = make_project(db)
    gold_in(db, project, "secret-gold")
    check = put(db, project, make_expert(db).id)
    assert check.external_id.startswith("task-")
    # The payload is what the lab wrote, and nothing besides.
    assert check.payload == {"instructions": "What is asked by secret-gold?"}
    assert named_like("chem-0042", 77) == "chem-0077"
    assert named_like("lot 3 of 12b", 14) == "lot 3 of 14b"
    assert named_like("water", 5) == "water-5"


def test_what_was_put_as_a_check_is_delivered_to_no_lab(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    gold_in(db, project, "g-1")
    expert = make_expert(db)
    handed = answered(db, put(db, project, expert.id), expert.id, "42")
    verdict = cast(db, handed, ACCEPT, ACCEPT, ACCEPT)
    assert verdict is not None
    assert verdict.is_accepted
    with pytest.raises(NothingToDeliver):
        take_snapshot(db, project.id, at=LATER)


# Rotating -----------------------------------------------------------------------------------------


def test_items_rotate_and_nobody_is_put_one_twice(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    first, second = gold_in(db, project, "g-1", "g-2")
    people = [make_expert(db) for _ in range(4)]
    for one in people:
        put(db, project, one.id)
    assert [one.exposures for one in (first, second)] == [2, 2]
    again = people[0]
    for _ in range(2):
        for check in db.scalars(select(GoldCheck).where(GoldCheck.expert_id == again.id)):
            db.get_one(Task, check.task_id).state = "cancelled"
        db.flush()
        put_check(db, work_of(db, project, again.id).id, at=AT)
    given = db.scalars(select(GoldCheck.gold_id).where(GoldCheck.expert_id == again.id)).all()
    assert sorted(given) == sorted([first.id, second.id])


def test_a_check_that_nobody_takes_is_cancelled_after_a_week(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    gold_in(db, project, "g-1", "g-2")
    waits, taken = make_expert(db), make_expert(db)
    left = put(db, project, waits.id)
    answered(db, put(db, project, taken.id), taken.id, "42")
    assert drop_stale_checks(db, at=AT + timedelta(days=6), limit=10) == 0
    assert drop_stale_checks(db, at=AT + timedelta(days=8), limit=10) == 1
    assert left.state == "cancelled"
    # The next one is another item.
    again = put(db, project, waits.id)
    assert again.payload != left.payload


def test_an_item_that_many_have_seen_is_retired(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    (item,) = gold_in(db, project, "g-1")
    item.exposures = MOST_EXPOSURES - 1
    put(db, project, make_expert(db).id)
    assert (item.state, item.retired_for) == ("retired", "exposed")
    assert put_check(db, work_of(db, project, make_expert(db).id).id, at=AT) is None


def test_an_item_that_later_people_know_too_well_is_retired_and_told(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    (item,) = gold_in(db, project, "g-1")
    for n in range(16):
        expert = make_expert(db)
        handed = work_of(db, project, expert.id)
        handed.payload = {"answer": "42" if n >= 8 else "13"}
        db.add(
            GoldCheck(
                task_id=handed.task_id,
                gold_id=item.id,
                organisation_id=project.organisation_id,
                project_id=project.id,
                expert_id=expert.id,
                put_at=AT,
            )
        )
        db.flush()
        assert item.state == "active"
        assert grade_check(db, handed.id, at=AT + timedelta(minutes=n)) is (n >= 8)
        assert grade_check(db, handed.id, at=AT) is None
    assert (item.state, item.retired_for) == ("retired", "leak_suspected")
    told = db.scalars(select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value)).all()
    assert [one.subject_id for one in told] == [item.id]


def test_a_steady_item_is_not_taken_for_known() -> None:
    assert not is_leaked([True] * 40)
    assert not is_leaked([True, False] * 20)
    assert not is_leaked([False] * 7 + [True] * 7)
    assert is_leaked([False] * 8 + [True] * 8)


# What a senior settled ----------------------------------------------------------------------------


def test_what_a_senior_settled_is_proposed_and_is_gold_only_once_its_lab_says_so(
    db: Session, web: Web
) -> None:
    lab, rival = make_caller(db, web, Part.LAB), make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, reviews_per_submission=2, budget_minor=10**9)
    work = {"answer": "42", "parts": [1]}
    plain = hand_in_to(db, project.id, with_attempt=False, payload=work)
    assert cast(db, plain, ACCEPT, ACCEPT) is not None
    senior = make_senior(db, person=make_expert(db).id)
    split = settled(db, project.id, senior, payload=work)
    db.commit()
    proposed = f"/v1/projects/{wire_id('prj', project.id)}/gold-candidates"
    assert rival.get(proposed).status_code == 404
    (seen,) = lab.get(proposed).json()["items"]
    assert seen["submission_id"] == wire_id("sub", split.id)
    assert seen["payload"] == work
    assert db.scalars(select(Gold)).all() == []

    def accept(handed: Submission, caller: Caller = lab, **given: Any) -> tuple[int, str]:
        answer = caller.post(f"/v1/submissions/{wire_id('sub', handed.id)}/gold", json=given)
        return answer.status_code, answer.json().get("code", "")

    assert accept(plain) == (409, "gold_unproven")
    assert accept(split, rival) == (404, "not_found")
    assert accept(split, field="parts") == (422, "gold_unfit")
    assert accept(split, also=[" "]) == (422, "gold_unfit")
    assert accept(split, also=["forty-two"]) == (201, "")
    assert accept(split) == (409, "gold_unproven")
    assert lab.get(proposed).json()["items"] == []
    item = db.scalars(select(Gold)).one()
    assert (item.answers, item.field) == (["42", "forty-two"], "answer")
    # Whoever worked on it or judged it knows it; somebody else is put it.
    for knows in (split.expert_id, senior):
        assert put_check(db, work_of(db, project, knows).id, at=AT) is None
    assert put(db, project, make_expert(db).id).payload == item.payload


# What a check tells -------------------------------------------------------------------------------


def test_an_answer_is_read_as_the_automatic_judge_reads_it() -> None:
    answers = ("42", "forty-two")
    for right in ("42", " Forty-Two. ", "It adds.\nAnswer: 42", 42):
        assert is_right({"answer": right}, "answer", answers)
    for wrong in ("43", "", None, True, ["42"]):
        assert not is_right({"answer": wrong}, "answer", answers)
    assert not is_right({"other": "42"}, "answer", answers)


def test_a_check_teaches_what_is_known_and_measures_its_author_and_its_reviewers(
    db: Session,
) -> None:
    project = make_project(db, budget_minor=10**9)
    gold_in(db, project, "g-1")
    expert = make_expert(db)
    # Two of three reviewers take a wrong answer for right.
    handed = answered(db, put(db, project, expert.id), expert.id, "13")
    verdict = cast(db, handed, ACCEPT, ACCEPT, REJECT)
    assert verdict is not None
    assert verdict.is_accepted
    outcome = outcome_of_verdict(db, handed.id)
    assert outcome is not None
    assert outcome.valid == 0.0
    assert {one.gold for one in ballots_of(db, handed.id)} == {False}
    assert observe_verdict(db, handed.id, at=LATER)
    measured = db.scalars(select(ReviewerReliability).order_by(ReviewerReliability.accuracy)).all()
    assert [one.votes for one in measured] == [1, 1, 1]
    assert measured[0].accuracy < measured[2].accuracy
    (told,) = people_checked(db, project.id)
    assert (told.expert_id, told.right.part, told.right.whole) == (expert.id, 0, 1)


def test_ops_read_how_people_did_on_checks_and_labs_do_not(db: Session, web: Web) -> None:
    ops, lab = make_caller(db, web, Part.OPS), make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, budget_minor=10**9)
    (item,) = gold_in(db, project, "g-1")
    expert = make_expert(db)
    answered(db, put(db, project, expert.id), expert.id, "42")
    retire_gold(db, item.id, why="withdrawn", at=AT)
    db.commit()
    where = f"/v1/projects/{wire_id('prj', project.id)}"
    (told,) = ops.get(f"{where}/checks").json()
    assert (told["put"], told["right"]["part"], told["share"]) == (1, 1, share_for(1, 0))
    assert lab.get(f"{where}/checks").status_code == 403
    (kept,) = lab.get(f"{where}/golds").json()["items"]
    assert (kept["exposures"], kept["right"]["part"], kept["state"]) == (1, 1, "retired")
    mine = key_for(db, web, expert.id, Part.EXPERT)
    assert mine.get(f"{where}/golds").status_code == 403
    seats = db.scalars(select(TaskSlot).where(TaskSlot.task_id.in_(select(GoldCheck.task_id))))
    assert len(seats.all()) == 1
