"""A lab leaves in the middle of a run: everybody is paid, all is delivered, nothing is left."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.moves import unfolded
from market.offers.models import Offer
from market.reviews.actions import open_reviews
from market.reviews.models import Review
from market.submissions.actions import leave_offer, submit_work
from market.submissions.models import Submission
from market.tasks.jobs import settle_projects
from market.tasks.models import TaskSlot
from market.work.actions import end_session, start_session
from market.work.models import WorkSession
from market.work.rules import OPEN_SESSIONS
from payouts.chart import lab_funding, owed_to, project_budget
from payouts.invariants import violations
from payouts.ledger import balance
from payouts.pay import fee_minor, pay_minor
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

WORKED_S = 60
RATE = 360_000
BUDGET = 100_000_000


def move(lab: Caller, path: str, **given: str) -> None:
    """A move of a project that its lab asks for."""
    seen = lab.get(path).headers["etag"]
    answer = lab.post(f"{path}/transitions", json=given, headers={"If-Match": seen})
    assert answer.status_code == 200, answer.text


def review_all(db: Session, reviewer: Caller) -> None:
    """Every review that waits is taken and says yes, over HTTP."""
    for one in reviewer.get("/v1/reviews?state=queued").json()["items"]:
        path = f"/v1/reviews/{one['id']}"
        assert reviewer.post(f"{path}/claim").status_code == 200
        voted = reviewer.post(f"{path}/vote", json={"verdict": "accept", "seconds": 30})
        assert voted.status_code == 200, voted.text
    db.expire_all()


def test_a_project_closed_in_the_middle_of_a_run_owes_nobody_and_leaves_nothing_behind(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    lab, reviewer = (
        make_caller(db, web, Part.LAB),
        key_for(db, web, make_reviewer(db), Part.REVIEWER),
    )
    at = datetime.now(UTC) - timedelta(seconds=WORKED_S + 5)
    project = make_project(
        db,
        lab.organisation_id,
        at=at,
        reviews_per_submission=1,
        rate_minor_per_hour=RATE,
        budget_minor=BUDGET,
    )

    def offered(*, accepted: bool = True, is_worked: bool = True) -> Offer:
        task = make_task(db, project, at=at)
        made = make_offer(db, task, make_expert(db, at=at).id, accepted=accepted, at=at)
        if accepted and is_worked:
            row = start_session(db, made.id, expert_id=made.expert_id, at=at)
            end_session(db, row.id, expert_id=made.expert_id, at=at + timedelta(seconds=WORKED_S))
        return made

    make_task(db, project, at=at)
    unanswered, untouched = offered(accepted=False), offered(is_worked=False)
    decided, waiting, busy, left = worked = [offered() for _ in range(4)]
    for offer in (decided, waiting):
        handed = submit_work(
            db,
            offer.id,
            expert_id=offer.expert_id,
            payload={"answer": "42"},
            at=at + timedelta(seconds=WORKED_S + 1),
        )
        open_reviews(db, handed.id, at=at + timedelta(seconds=WORKED_S + 1))
        db.commit()
        if offer is decided:
            review_all(db, reviewer)
    path = f"/v1/projects/prj_{project.id.hex}"
    move(lab, path, action="terminate", reason_code="customer_leaves")
    react()
    assert [one.state for one in (unanswered, untouched)] == ["canceled", "released"]
    assert [one.state for one in worked] == ["completed", "completed", "grace", "grace"]

    # One hands in what there is, the other never comes back.
    expert = key_for(db, web, busy.expert_id, Part.EXPERT)
    handed_in = expert.post(
        f"/v1/offers/ofr_{busy.id.hex}/submission", json={"payload": {"answer": "41"}}
    )
    assert handed_in.status_code == 201, handed_in.text
    db.expire_all()
    assert left.lease_until is not None
    assert leave_offer(db, left.id, at=left.lease_until + timedelta(seconds=1))
    db.commit()
    react()
    review_all(db, reviewer)
    react()
    for _ in range(2):
        settle_projects("now")
    assert lab.get(path).json()["state"] == "closed"

    # Hours paid: each second of all four, whatever became of their work.
    lines = [one["id"] for one in lab.get("/v1/hours").json()["items"]]
    approved = lab.post("/v1/hours/approve", json={"line_ids": lines})
    assert approved.status_code == 200, approved.text
    pay = pay_minor(WORKED_S, RATE)
    assert [balance(db, owed_to(one.expert_id)).posted_minor for one in worked] == [pay] * 4
    assert set(db.scalars(select(Earning.offer_id))) == {one.id for one in worked}

    # Export complete: all that was accepted, none of it twice.
    taken = lab.post(f"{path}/snapshots", json={}).json()
    answers = lab.get(f"/v1/snapshots/{taken['id']}/answers").json()["items"]
    accepted = db.scalars(select(Submission.id).where(Submission.state == "accepted")).all()
    assert {one["submission_id"] for one in answers} == {f"sub_{one.hex}" for one in accepted}
    assert sorted(one["payload"]["answer"] for one in answers) == ["41", "42", "42"]

    # Nothing is left: no seat held, no session, no review, no promise of money; the rest is back.
    assert set(db.scalars(select(TaskSlot.state))) <= {"open", "counted"}
    assert db.scalars(select(WorkSession).where(WorkSession.state.in_(OPEN_SESSIONS))).all() == []
    assert set(db.scalars(select(Review.state))) == {"final"}
    assert set(db.scalars(select(Submission.state))) == {"accepted"}
    escrow = balance(db, project_budget(project.id, project.organisation_id))
    assert (escrow.posted_minor, escrow.pending_debit_minor) == (0, 0)
    spent = 4 * (pay + fee_minor(pay, project.fee_basis_points))
    back = balance(db, lab_funding(project.organisation_id)).available_minor
    assert back == BUDGET - spent
    assert (violations(db), unbacked_lines(db), unfolded(db)) == ([], [], [])
