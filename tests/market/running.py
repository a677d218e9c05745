"""A matching run asked for and done here and now, for tests of what it sees and chooses."""

import csv
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from market.candidates.queries import candidates
from market.candidates.rules import asked_of, weigh
from market.db import new_id
from market.offers.actions import expire_offer
from market.offers.models import Offer
from market.policies.models import PolicyVersion
from market.policies.queries import policy
from market.policies.rules import read_policy
from market.predictions.queries import predictions_for
from market.projects.models import Project
from market.runs.actions import Answer, request_run, start_run
from market.runs.jobs import run_matching
from market.runs.models import MatchingRun
from market.tasks.models import Interest, Task, TaskSlot
from matching.assign import assign
from tests.factories import (
    make_expert,
    make_project,
)


def run_now(db: Session, **wanted: object) -> MatchingRun:
    """Ask for a run and do it; the run as it ended."""
    found, _ = request_run(db, at=datetime.now(UTC), **wanted)  # type: ignore[arg-type]
    db.commit()
    run_matching(str(found.id))
    db.expire_all()
    return db.get_one(MatchingRun, found.id)


def make_offers(db: Session) -> list[Offer]:
    """Run the matcher over whatever there is; the offers that wait for an answer."""
    found = run_now(db)
    return list(db.scalars(select(Offer).where(Offer.run_id == found.id).order_by(Offer.id)))


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


def offers_of(db: Session, found: MatchingRun) -> list[Offer]:
    """The offers that a run made, by task and expert."""
    statement = select(Offer).where(Offer.run_id == found.id)
    return list(db.scalars(statement.order_by(Offer.task_id, Offer.expert_id)))


def solved(db: Session, project: Project, seed: int = 1) -> tuple[MatchingRun, Answer]:
    """A run that has solved and not recorded yet."""
    found, _ = request_run(db, project_id=project.id, seed=seed, at=datetime.now(UTC))
    start_run(db, found.id, at=datetime.now(UTC))
    settings = read_policy(policy(db, found.policy_id).document)
    seen = candidates(db, settings, project_id=project.id, at=datetime.now(UTC))
    weighed = weigh(seen, predictions_for(db, asked_of(seen)), settings, seed=seed)
    assignment = assign(weighed.problem, seed=seed)
    return found, Answer(seen, weighed.problem, weighed, assignment, "0" * 64, {})


def leave_unanswered(db: Session, *offers: Offer) -> None:
    """Let offers that wait run out, as if their deadline had passed just after they were made."""
    for offer in offers:
        offer.expires_at = offer.created_at + timedelta(microseconds=1)
        db.flush()
        assert expire_offer(db, offer.id, at=datetime.now(UTC))
    db.commit()
