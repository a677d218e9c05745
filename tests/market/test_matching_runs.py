"""Matching runs: what they see, what they choose, what they leave, and how they end."""

import csv
import gzip
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from market.db import new_id
from market.experts.models import Expert
from market.offers.models import Offer
from market.policies.models import PolicyVersion
from market.projects.models import Project
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from market.runs.models import MatchingRun
from market.tasks.models import Interest, Task, TaskSlot
from tests.factories import make_expert, make_project, make_task


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
    began = time.perf_counter()
    project = load_bids(db, folder, seats=3, load=12)
    loaded = time.perf_counter()
    ended = run_now(db, project_id=project.id, policy_id=policy_named(db, "interest-only"), seed=1)
    print("load", loaded - began, "run", time.perf_counter() - loaded, ended.seconds, ended.failure)
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
    assert ended.seconds["read"] < 2
