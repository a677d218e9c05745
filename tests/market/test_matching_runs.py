"""Matching runs: what they see, what they choose, what they leave, and how they end."""

import csv
import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.queries import candidates
from market.candidates.rules import SMALL_DOMAIN, asked_of, weigh, worst_cost
from market.db import database, new_id
from market.experts.models import Expert
from market.explanations.queries import hindrances, recorded
from market.http import wire_id
from market.offers.actions import expire_offer
from market.offers.models import Offer
from market.operations import Operation, open_operation
from market.people.actions import grant_part
from market.policies.actions import publish_policy
from market.policies.models import PolicyVersion
from market.policies.queries import policy
from market.policies.rules import read_policy
from market.predictions.queries import predictions_for
from market.projects.models import Project
from market.runs.actions import Answer, cancel_run, record_run, request_run, start_run
from market.runs.jobs import run_matching
from market.runs.models import MatchingRun, OpenSeat
from market.runs.rules import RUN
from market.tasks.models import Interest, Task, TaskSlot
from matching.assign import assign
from matching.verify import verify
from payouts.chart import owed_to, project_budget
from payouts.ledger import Line, balance, reserve
from payouts.pay import fee_minor, pay_minor, worst_case_minor
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_project,
    make_task,
    pairs_in_database,
)

BALANCED = read_policy({})
"""The policy to begin with."""


def run_now(db: Session, **wanted: object) -> MatchingRun:
    """Ask for a run and do it; the run as it ended."""
    found, _ = request_run(db, at=datetime.now(UTC), **wanted)  # type: ignore[arg-type]
    db.commit()
    run_matching(str(found.id))
    db.expire_all()
    return db.get_one(MatchingRun, found.id)


def policy_named(db: Session, name: str) -> UUID:
    """The newest version of a policy."""
    newest = select(PolicyVersion.id).where(PolicyVersion.name == name)
    return db.scalars(newest.order_by(PolicyVersion.version_no.desc())).first()  # type: ignore[return-value]


def load_bids(db: Session, folder: Path, *, seats: int, load: int) -> Project:
    """A published conference as a market: papers are tasks, reviewers experts, bids interest."""
    with gzip.open(folder / "bids.csv.gz", "rt") as lines:
        bids = [
            (int(r["paper"]), int(r["reviewer"]), float(r["similarity"]))
            for r in csv.DictReader(lines)
        ]
    papers, reviewers = 613, 201
    project = make_project(
        db,
        budget_minor=10**9,
        domains=("science",),
        rate_minor_per_hour=3000,
        cap_s=3600,
        answers_per_task=seats,
    )
    at = project.created_at
    experts = [
        make_expert(db, domains=("science",), max_concurrent=load, weekly_hours=40).id
        for _ in range(reviewers)
    ]
    tasks = [new_id() for _ in range(papers)]
    db.execute(
        insert(Task),
        [
            {
                "id": task,
                "organisation_id": project.organisation_id,
                "project_id": project.id,
                "external_id": f"paper-{n}",
                "domain": "science",
                "payload": {},
                "expected_s": 1800,
                "created_at": at,
            }
            for n, task in enumerate(tasks)
        ],
    )
    db.execute(
        insert(TaskSlot),
        [
            {
                "id": new_id(),
                "organisation_id": project.organisation_id,
                "task_id": task,
                "number": number,
            }
            for task in tasks
            for number in range(1, seats + 1)
        ],
    )
    db.execute(
        insert(Interest),
        [
            {
                "expert_id": experts[reviewer],
                "task_id": tasks[paper],
                "value": value,
                "organisation_id": project.organisation_id,
                "project_id": project.id,
                "stated_at": at,
            }
            for paper, reviewer, value in bids
        ],
    )
    db.commit()
    return project


@pytest.mark.shared_data
def test_a_conference_is_matched_to_the_best_total_that_there_is(
    db: Session, shared_data: Path
) -> None:
    folder = shared_data / "matching" / "aamas2015"
    if not folder.is_dir():
        pytest.skip(f"no bids at {folder}: this test did not run")
    project = load_bids(db, folder, seats=3, load=12)
    ended = run_now(db, project_id=project.id, policy_id=policy_named(db, "interest-only"), seed=1)
    assert (ended.state, ended.pairs, ended.tasks, ended.experts) == (
        "succeeded",
        123_213,
        613,
        201,
    )
    total = db.scalar(select(func.sum(Offer.value)).where(Offer.run_id == ended.id))
    assert round(float(total or 0), 6) == 1406.25
    assert ended.offers == 613 * 3
    assert ended.gap == 0


def offers_of(db: Session, found: MatchingRun) -> list[Offer]:
    """The offers that a run made, by task and expert."""
    statement = select(Offer).where(Offer.run_id == found.id)
    return list(db.scalars(statement.order_by(Offer.task_id, Offer.expert_id)))


def test_the_database_holds_the_moves_of_a_run(db: Session) -> None:
    assert pairs_in_database(db, RUN) == RUN.pairs()


def test_an_offer_carries_terms_a_reservation_and_a_reason(db: Session) -> None:
    expert = make_expert(db, domains=("chemistry.organic",), tier="T3")
    project = make_project(db, cap_s=7200, offer_ttl_s=3600, work_ttl_s=7200)
    task = make_task(db, project, expected_s=1801, complexity=4)
    ended = run_now(db)
    assert (ended.state, ended.offers, ended.open_seats) == ("succeeded", 1, 0)
    [offer] = offers_of(db, ended)
    assert (offer.expert_id, offer.task_id, offer.state) == (expert.id, task.id, "pending")
    assert offer.expires_at - offer.created_at == timedelta(hours=1)
    terms = offer.terms
    assert terms["rate_minor_per_hour"] == 9500
    assert (terms["rate_from"], terms["tier"]) == ("tier", "T3")
    assert (terms["cap_s"], terms["fee_basis_points"], terms["work_ttl_s"]) == (7200, 2000, 7200)
    # 1801 s at 95.00 an hour: 4752.64 cents.
    assert (terms["expected_s"], terms["expected_pay_minor"]) == (1801, 4753)
    assert (terms["expected_week_s"], terms["expected_week_pay_minor"]) == (1801, 4753)
    assert terms["review_within_s"] == project.review_ttl_s
    assert terms["project_version"] == project.version
    # Two hours at 95.00, a fee of a fifth, and a cent each for a second line of pay.
    assert terms["most_pay_minor"] == 19_001
    assert offer.reserved_minor == 19_001 + 3_802
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).pending_debit_minor == offer.reserved_minor
    assert balance(db, owed_to(expert.id)).pending_credit_minor == 19_001
    assert offer.value == pytest.approx(sum(part["weighed"] for part in offer.parts.values()))
    assert "worth" in offer.explanation
    slot = db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).one()
    assert (slot.state, slot.offer_id) == ("offered", offer.id)
    again = run_now(db)
    assert (again.pairs, again.offers) == (0, 0)


def test_a_second_offer_tells_the_whole_week(db: Session) -> None:
    make_expert(db, tier="T1")
    project = make_project(db)
    for _ in range(2):
        make_task(db, project, expected_s=3600)
    ended = run_now(db)
    told = sorted(offer.terms["expected_week_pay_minor"] for offer in offers_of(db, ended))
    assert told == [2200, 4400]


def shut_out_by_standing(db: Session, expert: Expert, project: Project, task: Task) -> None:
    for state in ("watched", "limited", "suspended"):
        expert.state = state
        db.flush()


def shut_out_by_hours(db: Session, expert: Expert, project: Project, task: Task) -> None:
    expert.weekly_hours = 0


def shut_out_by_capacity(db: Session, expert: Expert, project: Project, task: Task) -> None:
    expert.max_concurrent = 1
    make_task(db, make_project(db, domains=("chemistry",)))
    held = run_now(
        db, project_id=db.scalars(select(Project.id).order_by(Project.id.desc())).first()
    )
    assert held.offers == 1


def shut_out_by_level(db: Session, expert: Expert, project: Project, task: Task) -> None:
    project.minimum_level = "qualified"


def shut_out_by_domain(db: Session, expert: Expert, project: Project, task: Task) -> None:
    task.domain = "chemistry-of-old"


def shut_out_by_interest(db: Session, expert: Expert, project: Project, task: Task) -> None:
    project.require_interest = True


def shut_out_by_membership(db: Session, expert: Expert, project: Project, task: Task) -> None:
    grant_part(db, expert.id, Part.LAB, organisation_id=project.organisation_id, at=AT)


def shut_out_by_project(db: Session, expert: Expert, project: Project, task: Task) -> None:
    project.state = "paused"


def shut_out_by_task(db: Session, expert: Expert, project: Project, task: Task) -> None:
    task.state = "cancelled"


def shut_out_by_slots(db: Session, expert: Expert, project: Project, task: Task) -> None:
    db.execute(text("delete from market.task_slot where task_id = :id"), {"id": task.id})


def shut_out_by_currency(db: Session, expert: Expert, project: Project, task: Task) -> None:
    project.currency = "JPY"


@pytest.mark.parametrize(
    ("shut_out", "said"),
    [
        (shut_out_by_standing, "standing is suspended"),
        (shut_out_by_hours, "no hours left"),
        (shut_out_by_capacity, "holds all the tasks"),
        (shut_out_by_level, "at the level"),
        (shut_out_by_domain, "none of the expert's domains"),
        (shut_out_by_interest, "said that they want"),
        (shut_out_by_membership, "belongs to the lab"),
        (shut_out_by_project, "the project is paused"),
        (shut_out_by_task, "the task is cancelled"),
        (shut_out_by_slots, "no open seat"),
        (shut_out_by_currency, "no rate is in force"),
    ],
)
def test_who_does_not_fit_is_no_candidate_and_is_told_why(
    db: Session, shut_out: Callable[[Session, Expert, Project, Task], None], said: str
) -> None:
    expert, project = make_expert(db, max_concurrent=3), make_project(db)
    task = make_task(db, project)
    at = datetime.now(UTC)
    assert candidates(db, BALANCED, project_id=None, at=at).pairs == 1
    assert hindrances(db, task.id, expert.id, at=at) == []
    shut_out(db, expert, project, task)
    db.flush()
    assert candidates(db, BALANCED, project_id=project.id, at=at).pairs == 0
    told = hindrances(db, task.id, expert.id, at=at)
    assert told is not None
    assert [words for words in told if said in words], told


def test_the_week_that_an_expert_offers_is_a_hard_limit(db: Session) -> None:
    make_expert(db, weekly_hours=2, max_concurrent=9)
    project = make_project(db)
    for _ in range(4):
        make_task(db, project, expected_s=3000)
    ended = run_now(db)
    # Two tasks of 50 minutes fit into two hours, three do not.
    assert (ended.offers, ended.open_seats) == (2, 2)
    assert {row.rule for row in db.scalars(select(OpenSeat))} == {"not enough hours left"}
    # The twenty minutes that are left are not enough for another one.
    assert run_now(db).offers == 0


def test_interest_that_was_said_counts_and_silence_counts_as_the_policy_says(db: Session) -> None:
    keen, silent = make_expert(db), make_expert(db)
    project = make_project(db)
    task = make_task(db, project, slots=2)
    db.add(
        Interest(
            expert_id=keen.id,
            task_id=task.id,
            organisation_id=project.organisation_id,
            project_id=project.id,
            value=0.7,
            stated_at=AT,
        )
    )
    db.flush()
    ended = run_now(db, policy_id=policy_named(db, "interest-only"))
    assert {o.expert_id: o.value for o in offers_of(db, ended)} == {keen.id: 0.7, silent.id: 0.25}
    parts = {o.expert_id: o.parts for o in offers_of(db, ended)}
    assert parts[keen.id]["interest"]["measured"] == 0.7


def test_a_budget_that_does_not_reach_leaves_seats_open_and_says_so(db: Session) -> None:
    project = make_project(db, budget_minor=50_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(3):
        make_expert(db, max_concurrent=9)
    for _ in range(6):
        make_task(db, project)
    ended = run_now(db)
    # At worst an answer costs 10001 + 2002: four of them fit.
    assert (ended.offers, ended.open_seats) == (4, 2)
    rows = list(db.scalars(select(OpenSeat).where(OpenSeat.run_id == ended.id)))
    assert {row.rule for row in rows} == {"project budget spent"}
    assert all("budget" in row.sentence for row in rows)
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).available_minor == 50_000 - 4 * 12_003


def test_money_that_is_gone_by_the_time_of_recording_leaves_seats_open(db: Session) -> None:
    project = make_project(db, budget_minor=50_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(3):
        make_expert(db)
        make_task(db, project)
    found, answer = solved(db, project)
    reserve(
        db,
        key="test:rival",
        kind="J3",
        lines=[
            Line(project_budget(project.id, project.organisation_id), owed_to(new_id()), 30_000)
        ],
        at=AT,
    )
    assert record_run(db, found.id, answer, at=datetime.now(UTC)) == 1
    rows = list(db.scalars(select(OpenSeat).where(OpenSeat.run_id == found.id)))
    assert [(row.rule, row.seats) for row in rows] == [("budget", 1), ("budget", 1)]


def solved(db: Session, project: Project, seed: int = 1) -> tuple[MatchingRun, Answer]:
    """A run that has solved and not recorded yet."""
    found, _ = request_run(db, project_id=project.id, seed=seed, at=datetime.now(UTC))
    start_run(db, found.id, at=datetime.now(UTC))
    settings = read_policy(policy(db, found.policy_id).document)
    seen = candidates(db, settings, project_id=project.id, at=datetime.now(UTC))
    weighed = weigh(seen, predictions_for(db, asked_of(seen)), settings, seed=seed)
    assignment = assign(weighed.problem, seed=seed)
    return found, Answer(seen, weighed.problem, weighed, assignment, "0" * 64, {})


def test_a_seat_taken_while_the_run_solved_stays_with_whoever_has_it(db: Session) -> None:
    project = make_project(db)
    make_expert(db), make_expert(db)
    make_task(db, project, slots=1)
    late, answer = solved(db, project)
    assert run_now(db, project_id=project.id).offers == 1
    assert record_run(db, late.id, answer, at=datetime.now(UTC)) == 0
    assert [row.rule for row in db.scalars(select(OpenSeat))] == ["taken"]


def test_an_experts_last_seat_is_given_once_however_many_runs_want_it(db: Session) -> None:
    make_expert(db, max_concurrent=1)
    one, other = make_project(db), make_project(db)
    make_task(db, one), make_task(db, other)
    late, answer = solved(db, other)
    assert run_now(db, project_id=one.id).offers == 1
    assert record_run(db, late.id, answer, at=datetime.now(UTC)) == 0


def test_the_same_input_policy_and_seed_make_the_same_offers(db: Session) -> None:
    project = make_project(db)
    for _ in range(8):
        make_expert(db, max_concurrent=2)
        make_task(db, project, slots=2)
    first = run_now(db, seed=5)
    chosen = [(o.task_id, o.expert_id, o.value) for o in offers_of(db, first)]
    assert len(chosen) == 16
    for offer in offers_of(db, first):
        assert expire_offer(db, offer.id, at=offer.expires_at)
    db.commit()
    second = run_now(db, seed=5)
    assert second.input_digest == first.input_digest
    assert [(o.task_id, o.expert_id, o.value) for o in offers_of(db, second)] == chosen
    for offer in offers_of(db, second):
        expire_offer(db, offer.id, at=offer.expires_at)
    db.commit()
    third = run_now(db, seed=6)
    assert third.input_digest != first.input_digest
    assert third.objective == first.objective


def test_a_run_that_dies_half_way_leaves_nothing_and_runs_again(db: Session) -> None:
    project = make_project(db)
    make_expert(db)
    make_task(db, project)
    found, answer = solved(db, project)
    db.commit()

    def record_and_die() -> None:
        with database.begin() as session:
            assert record_run(session, found.id, answer, at=datetime.now(UTC)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_and_die()
    db.expire_all()
    assert db.scalar(select(func.count()).select_from(Offer)) == 0
    assert balance(db, project_budget(project.id, project.organisation_id)).pending_debit_minor == 0
    run_matching(str(found.id))
    run_matching(str(found.id))  # A queue may deliver twice.
    db.expire_all()
    assert db.get_one(MatchingRun, found.id).state == "succeeded"
    assert len(offers_of(db, found)) == 1


def test_a_cancelled_run_makes_no_offers(db: Session) -> None:
    project = make_project(db)
    make_expert(db)
    make_task(db, project)
    found, answer = solved(db, project)
    cancel_run(db, found.id, at=datetime.now(UTC))
    cancel_run(db, found.id, at=datetime.now(UTC))
    assert record_run(db, found.id, answer, at=datetime.now(UTC)) == 0
    db.commit()
    run_matching(str(found.id))
    assert db.scalar(select(func.count()).select_from(Offer)) == 0
    assert db.scalars(select(Operation)).one().state == "cancelled"


def test_a_market_without_anyone_or_anything_is_matched_to_nothing(db: Session) -> None:
    empty = run_now(db)
    assert (empty.state, empty.pairs, empty.offers, empty.open_seats) == ("succeeded", 0, 0, 0)
    make_task(db, make_project(db))
    alone = run_now(db)
    assert (alone.state, alone.tasks, alone.offers, alone.open_seats) == ("succeeded", 1, 0, 1)
    seat = db.scalars(select(OpenSeat)).one()
    assert seat.rule == "no eligible expert"
    assert seat.sentence.startswith("1 seat stays open of 1: no expert in good standing")


def test_what_is_reserved_covers_every_way_in_which_the_time_can_be_paid() -> None:
    for cap, rate, fee in (
        (3600, 2200, 2000),
        (3599, 9501, 1),
        (7, 333, 9999),
        (14_400, 15_000, 0),
    ):
        whole = np.array([cap]), np.array([rate]), np.array([fee])
        assert tuple(int(x[0]) for x in worst_cost(*whole, np.array([1]))) == worst_case_minor(
            cap, rate, fee
        )
        pay, fees = (int(x[0]) for x in worst_cost(*whole, np.array([2])))
        for cut in range(0, cap + 1, max(1, cap // 997)):
            lines = [pay_minor(part, rate) for part in (cut, cap - cut)]
            assert sum(lines) <= pay
            assert sum(fee_minor(line, fee) for line in lines) <= fees


def test_a_run_is_asked_for_followed_and_read_over_http(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    expert = make_expert(db, domains=("chemistry",))
    make_expert(db, domains=("law",))
    taken, left = make_task(db, project), make_task(db, project, domain="physics")
    db.commit()
    asked = ops.post(
        "/v1/matching-runs", json={"project_id": wire_id("prj", project.id), "seed": 7}
    )
    assert asked.status_code == 202, asked.text
    address = asked.headers["location"]
    assert address == f"/v1/operations/{asked.json()['operation_id']}"
    assert ops.get(address).json()["state"] == "pending"
    assert "run_matching" in react()
    operation = ops.get(address).json()
    assert (operation["state"], operation["kind"]) == ("succeeded", "matching_run")
    assert operation["result"]["offers"] == 1
    run_id = asked.json()["id"]
    assert operation["subject_id"] == run_id
    told = ops.get(f"/v1/matching-runs/{run_id}").json()
    assert (told["state"], told["seed"], told["gap"], told["open_seats"]) == (
        "succeeded",
        "7",
        0,
        1,
    )
    assert set(told["seconds"]) == {"read", "weigh", "solve", "verify", "record"}
    [offer] = ops.get(f"/v1/matching-runs/{run_id}/offers").json()["items"]
    assert offer["expert_id"] == wire_id("per", expert.id)
    [seat] = ops.get(f"/v1/matching-runs/{run_id}/open-seats").json()["items"]
    assert (seat["task_id"], seat["rule"]) == (wire_id("tsk", left.id), "no eligible expert")
    listed = ops.get(f"/v1/matching-runs?project={wire_id('prj', project.id)}&state=succeeded")
    assert [row["id"] for row in listed.json()["items"]] == [run_id]
    cancelled = ops.post(f"{address}/cancel")
    assert (cancelled.status_code, cancelled.json()["code"]) == (409, "state_conflict")
    why = explanation(ops, run_id, taken.id, expert.id)
    assert (why["chosen"], why["rule"], why["conditions"]) == (True, "chosen", [])
    assert why["value"] == pytest.approx(sum(part["weighed"] for part in why["parts"]))
    why = explanation(ops, run_id, left.id, expert.id)
    assert (why["chosen"], why["rule"], why["value"]) == (False, "not eligible", None)
    assert "none of the expert's domains meets the task's" in why["conditions"]


def explanation(ops: Caller, run_id: str, task_id: UUID, expert_id: UUID) -> dict[str, Any]:
    """Why a run put an expert on a task, or did not, as ops reads it."""
    answer = ops.get(
        f"/v1/matching-runs/{run_id}/explanations"
        f"?task={wire_id('tsk', task_id)}&expert={wire_id('per', expert_id)}"
    )
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_who_was_outbid_learns_by_how_much(db: Session, web: TestClient[Any]) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    keen, cool = make_expert(db), make_expert(db)
    task = make_task(db, project)
    for expert, value in ((keen, 0.9), (cool, 0.2)):
        db.add(
            Interest(
                expert_id=expert.id,
                task_id=task.id,
                organisation_id=project.organisation_id,
                project_id=project.id,
                value=value,
                stated_at=AT,
            )
        )
    db.flush()
    ended = run_now(db, policy_id=policy_named(db, "interest-only"))
    run_id = wire_id("mrn", ended.id)
    won, lost = (explanation(ops, run_id, task.id, who.id) for who in (keen, cool))
    assert (won["chosen"], won["value"]) == (True, 0.9)
    assert won["margin"] >= 0
    assert (lost["chosen"], lost["value"]) == (False, 0.2)
    assert lost["margin"] <= 0
    assert lost["sentence"].startswith("Not chosen")
    assert str(task.id) not in lost["sentence"]
    assert [part["name"] for part in lost["parts"]] == ["interest"]


def test_a_run_is_repeated_bit_by_bit_from_what_it_kept(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    for _ in range(4):
        make_expert(db, max_concurrent=2)
        make_task(db, project, slots=2)
    made = publish_policy(
        db, name="drawn", document={"randomness": 0.7}, reason="A test.", author_id=None, at=AT
    )
    ended = run_now(db, policy_id=made.id, seed=4)
    address = f"/v1/matching-runs/{wire_id('mrn', ended.id)}"
    asked = ops.post(f"{address}/checks")
    assert asked.status_code == 202, asked.text
    assert "check_run" in react()
    operation = ops.get(asked.headers["location"]).json()
    assert (operation["state"], operation["kind"]) == ("succeeded", "run_check")
    result = operation["result"]
    assert (result["identical"], result["faults"]) == (True, [])
    assert result["answer_digest"] == ops.get(address).json()["answer_digest"]
    # A later run begins with its prices, and is repeated from them.
    assert ended.warm_run_id is None
    for _ in range(2):
        make_task(db, project, slots=2)
    later = run_now(db, policy_id=made.id, project_id=project.id, seed=5)
    kept = recorded(db, later.id)
    assert kept.start is not None
    assert kept.start.budget.tolist() == recorded(db, ended.id).assignment.prices.budget.tolist()
    told = f"/v1/matching-runs/{wire_id('mrn', later.id)}"
    assert ops.get(told).json()["warm_run_id"] == wire_id("mrn", ended.id)
    asked = ops.post(f"{told}/checks")
    react()
    assert ops.get(asked.headers["location"]).json()["result"]["identical"] is True
    # What was kept and is not what was answered shows.
    ended.answer_digest = "0" * 64
    db.commit()
    asked = ops.post(f"{address}/checks")
    react()
    assert ops.get(asked.headers["location"]).json()["result"]["identical"] is False
    pending, _ = request_run(db, at=datetime.now(UTC))
    db.commit()
    refused = ops.post(f"/v1/matching-runs/{wire_id('mrn', pending.id)}/checks")
    assert refused.json()["code"] == "run_not_over"


def test_open_seats_and_idle_experts_are_explained(db: Session, web: TestClient[Any]) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db, budget_minor=13_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(2):
        make_expert(db, max_concurrent=1)
    first, second = make_task(db, project, value_weight=2.0), make_task(db, project)
    ended = run_now(db)
    address = f"/v1/matching-runs/{wire_id('mrn', ended.id)}/explanations"
    [offer] = offers_of(db, ended)
    assert offer.task_id == first.id
    told = ops.get(f"{address}/open-seat?task={wire_id('tsk', second.id)}").json()
    assert (told["seats"], told["seats_in_all"], told["candidates"]) == (1, 1, 2)
    assert told["sentence"].startswith("1 seat stays open of 1: ")
    filled = ops.get(f"{address}/open-seat?task={wire_id('tsk', first.id)}").json()
    assert (filled["seats"], filled["sentence"]) == (0, "No seat of 1 stays open.")
    idle = next(one for one in db.scalars(select(Expert.id)).all() if one != offer.expert_id)
    told = ops.get(f"{address}/expert?expert={wire_id('per', idle)}").json()
    assert (told["seats"], told["seats_in_all"]) == (1, 1)
    assert told["sentence"].startswith("1 of 1 seats stay free")
    busy = ops.get(f"{address}/expert?expert={wire_id('per', offer.expert_id)}").json()
    assert busy["sentence"] == "All 1 seats are used."
    for missing in (
        f"open-seat?task={wire_id('tsk', new_id())}",
        f"expert?expert={wire_id('per', new_id())}",
    ):
        assert ops.get(f"{address}/{missing}").status_code == 404
    left_out = ops.get(f"{address}/open-seat")
    assert (left_out.status_code, left_out.json()["code"]) == (400, "invalid_parameter")
    assert left_out.json()["errors"] == [{"parameter": "task", "detail": "it has to be given"}]


def test_a_task_of_a_large_domain_has_its_best_its_nearest_and_some_in_turn(db: Session) -> None:
    project = make_project(db)
    near = make_expert(db, headline="Zeolite catalysis", bio="Ammonia over ruthenium clusters.")
    able = make_expert(db)
    db.execute(
        text("update market.expert_domain set ability = 4 where expert_id = :id"), {"id": able.id}
    )
    for n in range(SMALL_DOMAIN + 20):
        make_expert(db, headline="Chemist", bio=f"Synthesis, year {n}.")
    wanted = make_task(
        db, project, payload={"instructions": "Which ruthenium clusters bind ammonia, and why?"}
    )
    tasks = [make_task(db, project) for _ in range(12)]
    seen = candidates(db, BALANCED, project_id=project.id, at=AT)
    assert seen.met == 13 * (SMALL_DOMAIN + 22)
    assert seen.pairs < seen.met * 0.6
    ids = {row.tobytes(): n for n, row in enumerate(seen.expert_ids)}
    task = {row.tobytes(): n for n, row in enumerate(seen.task_ids)}
    mine = seen.pair_task == task[wanted.id.bytes]
    assert {ids[near.id.bytes], ids[able.id.bytes]} <= set(seen.pair_expert[mine].tolist())
    likeness = dict(zip(seen.pair_expert[mine].tolist(), seen.pair_likeness[mine], strict=True))
    # Ruthenium, cluster and ammonia, of the four words that tell: bind is the fourth.
    assert likeness[ids[near.id.bytes]] == pytest.approx(3 / 4)
    assert likeness[ids[able.id.bytes]] == 0
    # Everybody is a candidate of some task, so that no seat stays open for want of looking.
    assert set(seen.pair_expert.tolist()) == set(range(len(seen.expert_ids)))
    assert len(tasks) == 12


def test_bad_questions_about_runs_are_refused(db: Session, web: TestClient[Any]) -> None:
    ops, lab = make_caller(db, web, Part.OPS), make_caller(db, web, Part.LAB)
    paused = make_project(db, state="paused")
    nobody = new_id()
    db.commit()

    def asked(**body: Any) -> tuple[int, str]:
        answer = ops.post("/v1/matching-runs", json=body)
        return answer.status_code, answer.json()["code"]

    assert asked(project_id=wire_id("prj", nobody)) == (404, "not_found")
    assert asked(project_id="prj_1") == (404, "not_found")
    assert asked(project_id=wire_id("prj", paused.id)) == (409, "project_not_live")
    assert asked(policy_id=wire_id("plc", nobody)) == (404, "not_found")
    assert asked(seed=-1) == (422, "seed_out_of_range")
    assert asked(seed=2**63) == (422, "seed_out_of_range")
    assert asked(seed="x") == (422, "invalid_body")
    assert asked(speed=1) == (422, "invalid_body")
    made = ops.post("/v1/matching-runs", json={}).json()
    run = f"/v1/matching-runs/{made['id']}"
    pair = f"task={wire_id('tsk', nobody)}&expert={wire_id('per', nobody)}"
    for address, code in (
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}", "not_found"),
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}/offers", "not_found"),
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}/open-seats", "not_found"),
        (f"/v1/matching-runs/{made['policy_id']}", "not_found"),
        (f"{run}/explanations?{pair}", "run_not_over"),
        (f"{run}/explanations?task=tsk_1&expert={wire_id('per', nobody)}", "not_found"),
        (f"/v1/operations/{wire_id('opn', nobody)}", "not_found"),
        (f"{run}?sort=up", "unknown_parameter"),
        (f"{run}/offers?cursor=zzz", "bad_cursor"),
    ):
        answer = ops.get(address)
        assert (answer.json()["code"], answer.status_code // 100) == (code, 4), answer.text
    assert lab.get(run).json()["code"] == "scope_missing"
    assert lab.post("/v1/matching-runs", json={}).json()["code"] == "scope_missing"
    # A run over all projects is no lab's, and so its operation is not there for a lab.
    assert lab.get(f"/v1/operations/{made['operation_id']}").json()["code"] == "not_found"
    stopped = ops.post(f"/v1/operations/{made['operation_id']}/cancel")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "cancelled")
    assert ops.get(run).json()["state"] == "cancelled"
    other = open_operation(db, "payout_run", nobody, at=AT, organisation_id=None)
    db.commit()
    answer = ops.post(f"/v1/operations/{wire_id('opn', other.id)}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "operation_not_cancellable")


@pytest.mark.parametrize(
    "document",
    [
        {"newcomer_share": 0.5, "share_cap": 0.3, "open_seat_price": 0.1},
        {"randomness": 0.6, "weights": {"interest": 1.0}},
        {"floor": True},
    ],
)
def test_what_a_run_kept_is_enough_to_check_it_and_to_run_it_again(
    db: Session, document: dict[str, Any]
) -> None:
    made = publish_policy(
        db, name="trial", document=document, reason="A test.", author_id=None, at=AT
    )
    project = make_project(db, budget_minor=70_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(6):
        make_expert(db, max_concurrent=2)
    for _ in range(4):
        make_task(db, project, slots=2, complexity=3)
    ended = run_now(db, policy_id=made.id, seed=11)
    assert ended.state == "succeeded", ended.failure
    kept = recorded(db, ended.id)
    assert verify(kept.problem, kept.assignment) == []
    again = assign(kept.problem, read_policy(made.document).matcher, seed=11)
    assert again.chosen.tolist() == kept.assignment.chosen.tolist()
    assert again.prices.task.tolist() == kept.assignment.prices.task.tolist()
    chances = sorted(offer.probability for offer in offers_of(db, ended))
    assert chances == pytest.approx(sorted(kept.assignment.probability.tolist()))
