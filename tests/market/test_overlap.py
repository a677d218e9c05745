"""How many answers a task gets when its project changes its mind while people work."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import database
from market.moves import unfolded
from market.offers.actions import accept_offer, decline_offer
from market.offers.models import Offer
from market.offers.rules import LIVE
from market.tasks.actions import reseat_task
from market.tasks.models import Task, TaskSlot
from market.tasks.queries import unresolved_tasks
from tests.factories import AT, make_caller, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import ACCEPT, cast, hand_in
from tests.races import at_once


def seats(db: Session, task: Task) -> Counter[str]:
    """The states of a task's seats."""
    db.expire_all()
    return Counter(db.scalars(select(TaskSlot.state).where(TaskSlot.task_id == task.id)))


def test_more_and_fewer_answers_move_only_the_open_seats(db: Session) -> None:
    task = make_task(db, make_project(db), slots=2)
    make_offer(db, task, make_expert(db).id)
    assert reseat_task(db, task.id, 4, at=AT) == 4
    assert reseat_task(db, task.id, 4, at=AT) == 4
    assert seats(db, task) == {"claimed": 1, "open": 3}
    assert reseat_task(db, task.id, 1, at=AT) == 1
    assert seats(db, task) == {"claimed": 1, "released": 3}
    assert reseat_task(db, task.id, 2, at=AT) == 2
    assert seats(db, task) == {"claimed": 1, "open": 1, "released": 2}
    make_offer(db, task, make_expert(db).id)
    # Two are at work: neither promise is broken.
    assert reseat_task(db, task.id, 1, at=AT) == 2
    assert unfolded(db) == []


def test_a_task_with_enough_answers_is_reviewed_and_resolved_when_fewer_are_wanted(
    db: Session,
) -> None:
    project = make_project(db, reviews_per_submission=1)
    task = make_task(db, project, slots=3)
    first = hand_in(db, offer=make_offer(db, task, make_expert(db).id), with_attempt=False)
    reseat_task(db, task.id, 1, at=AT)
    assert task.state == "in_review"
    # Asked for again before the verdict, another answer is waited for.
    reseat_task(db, task.id, 2, at=AT)
    assert task.state == "active"
    cast(db, first, ACCEPT)
    assert task.state == "active"
    reseat_task(db, task.id, 1, at=AT)
    db.expire_all()
    assert (task.state, seats(db, task)) == ("accepted", {"counted": 1, "released": 2})
    assert task.id not in unresolved_tasks(db, project.id)
    assert reseat_task(db, task.id, 3, at=AT) == 1
    assert unfolded(db) == []


def test_a_lab_changes_the_answers_of_a_live_project_and_its_tasks_follow(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id)
    task = make_task(db, project)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}"
    etag = lab.get(path).headers["ETag"]
    changed = lab.patch(path, json={"answers_per_task": 3}, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert "reseat_tasks" in react()
    assert seats(db, task) == {"open": 3}


@pytest.mark.usefixtures("committed")
def test_seats_agree_while_experts_answer_and_the_lab_changes_its_mind() -> None:
    with database.begin() as session:
        project = make_project(session, budget_minor=10**9)
        task_id = make_task(session, project, slots=6).id
        task = session.get_one(Task, task_id)
        made = [
            make_offer(session, task, make_expert(session).id, accepted=False) for _ in range(6)
        ]
        pairs = [(one.id, one.expert_id) for one in made]

    def answer(offer_id: UUID, expert_id: UUID, takes: bool) -> str:
        at = AT if takes else datetime.now(UTC)
        with database.begin() as session:
            if takes:
                return accept_offer(session, offer_id, expert_id=expert_id, at=at).state
            return decline_offer(
                session, offer_id, expert_id=expert_id, reason="no_time", at=AT
            ).state

    def reseat(answers: int) -> str:
        with database.begin() as session:
            return str(reseat_task(session, task_id, answers, at=AT))

    acts: list[Callable[[], str]] = [
        *(partial(answer, *pair, nth % 2 == 0) for nth, pair in enumerate(pairs)),
        *(partial(reseat, answers) for answers in (2, 8, 3, 5)),
    ]
    at_once(acts)
    reseat(4)
    with database.begin() as session:
        slots = session.scalars(select(TaskSlot)).all()
        live = session.scalars(select(Offer).where(Offer.state.in_(LIVE))).all()
        held = {slot.id: slot.offer_id for slot in slots if slot.offer_id is not None}
        assert held == {offer.slot_id: offer.id for offer in live}
        assert sum(slot.state != "released" for slot in slots) == 4
        assert unfolded(session) == []
