"""The pool that shrinks and returns, through the service: its own actions on a scratch database.

A lab's project runs against one model; the lab tells a release; ordinary work calibrates it and the
lab adopts it. Few experts can still stump it at the first complexity: an alarm is raised, the next
complexity proposed, and they work there. The clock is an argument all the way.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.attempts.actions import (
    Answer,
    claim_stump,
    make_attempt,
    record_answer,
    submit_attempt,
)
from market.auth import keyring
from market.db import PLATFORM, database
from market.embedded import EmbeddedPostgres
from market.predictions.actions import request_refit
from market.projects.models import Project
from market.projects.rules import ModelVersion
from market.quality.actions import (
    observe_verdict,
    propose_complexity,
    tell_of_verdict,
    watch_cell,
)
from market.quality.jobs import refit_stump_model
from market.quality.models import FrontierAlarm
from market.quality.queries import Cell
from market.releases.actions import (
    announce_release,
    calibrate_if_possible,
    follow_release,
    move_release,
)
from market.releases.models import CalibrationTask
from market.reviews.actions import claim_review, open_reviews
from market.tasks.models import Task
from market.votes.actions import record_vote
from market.work.actions import start_session
from tests.bench.simulations.story import People, make_people, release_leaving
from tests.conftest import SECRET, migrate
from tests.factories import AT, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import RIGHT, STUMP, make_reviewer, review_ids

ROUNDS = 1
EXPERTS = 20
EACH = 3
"""Attempts of each expert in a round; the first round makes up the level's opening."""

SIZE = 10
DOMAIN = "chemistry"


@dataclass
class Market:
    """One lab, its project, its experts, and a clock that goes on by minutes."""

    session: Session
    commit: Callable[[], None]
    people: People
    experts: list[UUID]
    reviewer: UUID
    project: Project
    rng: np.random.Generator
    at: datetime = AT
    alarms: list[FrontierAlarm] = field(default_factory=list)
    attempts: int = 0

    def attempt(self, expert: int, task: Task, ability: float) -> None:
        """One expert works on a task; a reviewer decides; what follows of it follows."""
        chance = 1 / (1 + np.exp(-self.people.stump_logit(task.complexity - 1, ability)[expert]))
        stumped = bool(self.rng.random() < chance)
        who = self.experts[expert]
        self.at += timedelta(minutes=5)
        self.attempts += 1
        offer = make_offer(self.session, task, who, at=self.at, cap_s=60)
        start_session(self.session, offer.id, expert_id=who, at=self.at)
        asked = make_attempt(
            self.session,
            offer.id,
            expert_id=who,
            prompt=f"question {self.attempts}: 2 + 2?",
            reference="4",
            at=self.at,
        )
        said = "Answer: 5" if stumped else "Answer: 4"
        answer = Answer(said, 200, 12, b"{}", b"{}", 3, 3, "stop", "m-1")
        record_answer(self.session, asked.id, 0, answer, at=self.at)
        claim_stump(self.session, asked.id, expert_id=who, claims_stump=stumped, at=self.at)
        ends = self.at + timedelta(seconds=60)
        handed = submit_attempt(
            self.session, offer.id, asked.id, expert_id=who, payload={"why": "it adds"}, at=ends
        )
        open_reviews(self.session, handed.id, at=ends)
        self.session.flush()
        for review_id in review_ids(self.session, handed):
            claim_review(self.session, review_id, reviewer_id=self.reviewer, at=ends)
            record_vote(
                self.session,
                review_id,
                reviewer_id=self.reviewer,
                vote=STUMP if stumped else RIGHT,
                at=ends,
            )
        submission_id, model_id = handed.id, asked.target_model_id
        self.commit()
        # What the jobs do after a verdict, each in a transaction of its own, at the story's time.
        observe_verdict(self.session, submission_id, at=ends)
        self.commit()
        tell_of_verdict(self.session, submission_id, at=ends)
        self.commit()
        alarm = watch_cell(self.session, Cell(DOMAIN, task.complexity - 1, model_id), at=ends)
        if alarm is not None:
            self.alarms.append(alarm)
        follow_release(self.session, submission_id, at=ends)
        self.commit()

    def round(self, level: int, ability: float, each: int) -> None:
        """Everybody makes some attempts at a level, in a random order."""
        for expert in self.rng.permutation(np.repeat(np.arange(self.people.count), each)).tolist():
            task = make_task(self.session, self.project, complexity=level + 1, at=self.at)
            self.attempt(expert, task, ability)

    def refit(self) -> None:
        """The refit of a night."""
        fit_id = request_refit(self.session, at=self.at).subject_id
        self.commit()
        refit_stump_model(str(fit_id))
        self.session.expire_all()


def tell_story(
    session: Session, commit: Callable[[], None], *, seed: int, experts: int, each: int
) -> dict[str, object]:
    """Open, release, calibrate, adopt, notice, propose, reopen: who could stump at each step."""
    rng = np.random.default_rng(seed)
    people = make_people(rng, experts)
    strong = release_leaving(people, max(experts // 5, 1))
    ids = [make_expert(session, at=AT).id for _ in range(experts)]
    project = make_project(session, reviews_per_submission=1, budget_minor=10**9, at=AT)
    market = Market(session, commit, people, ids, make_reviewer(session), project, rng)
    commit()
    market.round(0, 0.0, each)
    for level in range(1, 5):
        # A record of every level, so that the release's tasks can be told apart.
        market.round(level, 0.0, 1)
    market.refit()
    if project.target_model_id is None:
        raise RuntimeError("the project has no target model")
    levels = [n % 5 for n in range(3 * SIZE)]
    open_tasks = [make_task(session, project, complexity=n + 1, at=market.at) for n in levels]
    market.at += timedelta(days=7)
    version = ModelVersion("target, next", "target-2")
    release = announce_release(session, project.target_model_id, version, size=SIZE, at=market.at)
    commit()
    calibrate_if_possible(session, release.id, at=market.at)
    commit()
    chosen = set(
        session.scalars(
            select(CalibrationTask.task_id).where(CalibrationTask.release_id == release.id)
        )
    )
    session.expire_all()
    calibrating: Sequence[Task] = [task for task in open_tasks if task.id in chosen]
    for task in calibrating:
        market.attempt(int(rng.integers(experts)), task, strong)
    session.expire_all()
    terms = (project.rate_minor_per_hour, project.pay_basis, project.cap_s)
    move_release(session, release.id, "adopt", at=market.at)
    commit()
    session.expire_all()
    reached, back, productive = 0, [int(people.able(0, strong).sum())], list[float]()
    for _ in range(2):
        market.round(reached, strong, each)
        market.refit()
        cell = Cell(DOMAIN, reached, release.target_model_id)
        is_dry = any(one.level == reached for one in market.alarms)
        said = propose_complexity(session, cell, at=market.at, is_dry=is_dry)
        commit()
        productive.append(round(said.productive, 1))
        reached = reached if said.level is None else said.level
        back.append(int(people.able(reached, strong).sum()))
    market.round(reached, strong, 1)
    return {
        "experts": experts,
        "attempts": market.attempts,
        "able_at_first": int(people.able(0, 0.0).sum()),
        "release": {
            "state": release.state,
            "truth": round(strong, 2),
            "before": round(release.prior_mean, 2),
            "after": None if release.mean is None else round(release.mean, 2),
        },
        "is_pay_unchanged": terms
        == (project.rate_minor_per_hour, project.pay_basis, project.cap_s),
        "alarms": [
            {
                "complexity": one.level + 1,
                "opening": round(one.opening, 2),
                "rate": round(one.rate, 2),
            }
            for one in market.alarms
        ],
        "able_after_release_and_each_proposal": back,
        "expected_productive": productive,
        "complexity": reached + 1,
    }


def run(seed: int, rounds: int) -> dict[str, object]:
    """The story on a database of its own; each further round is another seed."""
    keyring.open(SECRET)
    told: list[dict[str, object]] = []
    met = True
    for n in range(rounds):
        with (
            tempfile.TemporaryDirectory(prefix="bench-frontier-") as folder,
            EmbeddedPostgres(Path(folder) / "postgres", durable=False) as server,
        ):
            migrate(server.url)
            database.open(server.url)
            with database.begin(PLATFORM) as session:
                engine = session.get_bind()
            with Session(engine, expire_on_commit=False) as session:
                found = tell_story(
                    session, session.commit, seed=seed + n, experts=EXPERTS, each=EACH
                )
            database.close()
        able = found["able_after_release_and_each_proposal"]
        met = (
            met and isinstance(able, list) and able[-1] >= 0.95 * EXPERTS and bool(found["alarms"])
        )
        told.append(found)
    return {"met": met, "stories": told}
