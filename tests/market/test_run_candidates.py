"""Whom a matching run sees: who fits a task, who does not, and why."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.queries import candidates
from market.experts.models import Expert
from market.explanations.queries import hindrances
from market.offers.models import Offer
from market.people.actions import grant_part
from market.policies.rules import read_policy
from market.projects.models import Project
from market.runs.models import OpenSeat
from market.shortlists.rules import SMALL_DOMAIN
from market.tasks.models import Interest, Task
from tests.factories import (
    AT,
    make_expert,
    make_project,
    make_task,
)
from tests.market.running import leave_unanswered, offers_of, policy_named, run_now

BALANCED = read_policy({})
"""The policy to begin with."""


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


def shut_out_by_pace(db: Session, expert: Expert, project: Project, task: Task) -> None:
    other = make_project(db, domains=("chemistry",))
    for _ in range(3):
        make_task(db, other)
    assert run_now(db, project_id=other.id).offers == 3
    leave_unanswered(db, *db.scalars(select(Offer)).all()[:2])


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
        (shut_out_by_pace, "left 2 offers without an answer, and may hold 1"),
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
