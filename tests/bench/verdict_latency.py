"""From a vote that is committed to the ability row that it moves, beside one bare row changed.

`python -m tests.bench verdict-latency [--record N] [--verdicts N]`

What is timed is the job `learn_verdict`, as a worker runs it, on a database whose log holds a
record of so many outcomes. The way through the outbox and the queue is not in it.
"""

import argparse
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from sqlalchemy import select, text

from market.auth import keyring
from market.db import PLATFORM, database, new_id
from market.embedded import EmbeddedPostgres
from market.predictions.actions import learn_outcomes, request_refit
from market.predictions.models import Ability
from market.predictions.rules import Outcome
from market.projects.models import Project
from market.quality.jobs import learn_verdict, refit_stump_model
from tests.conftest import SECRET, migrate
from tests.factories import AT, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import STUMP, cast, hand_in

LIMIT_MS = 1_000.0
"""A verdict is to move what is believed within a second."""


def main(argv: list[str]) -> int:
    """Fill a database, then decide work one by one; the last line printed is JSON."""
    parser = argparse.ArgumentParser(prog="verdict-latency")
    parser.add_argument("--record", type=int, default=5_000, help="outcomes learned before")
    parser.add_argument("--verdicts", type=int, default=60)
    asked = parser.parse_args(argv)
    keyring.open(SECRET)
    with (
        tempfile.TemporaryDirectory(prefix="bench-verdict-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=True) as server,
    ):
        migrate(server.url)
        database.open(server.url)
        found = measured(asked.record, asked.verdicts)
        database.close()
    found |= {"record": asked.record, "verdicts": asked.verdicts, "limit_ms": LIMIT_MS}
    print(json.dumps(found))
    return 0 if float(str(found["learn_p95_ms"])) <= LIMIT_MS else 1


def measured(record: int, verdicts: int) -> dict[str, object]:
    """The times of each verdict's job and of a bare change, in quantiles, milliseconds."""
    with database.begin(PLATFORM) as session:
        project = make_project(session, reviews_per_submission=1, budget_minor=10**9)
        experts = [make_expert(session).id for _ in range(20)]
        target = project.target_model_id
        project_id = project.id
    with database.begin(PLATFORM) as session:
        learn_outcomes(session, made_up(target, experts, record), at=AT)
    with database.begin(PLATFORM) as session:
        fit_id = request_refit(session, at=AT).subject_id
    refit_stump_model(str(fit_id))
    learned, bare = list[float](), list[float]()
    for n in range(verdicts):
        at = AT + timedelta(hours=n)
        who = experts[n % len(experts)]
        with database.begin(PLATFORM) as session:
            task = make_task(session, session.get_one(Project, project_id), at=at)
            handed = hand_in(session, offer=make_offer(session, task, who, at=at, cap_s=60), at=at)
            cast(session, handed, STUMP, at=at + timedelta(minutes=30))
            submission_id = handed.id
        before = _through(who)
        begun = time.perf_counter()
        learn_verdict(str(submission_id))
        learned.append(time.perf_counter() - begun)
        if _through(who) <= before:
            raise RuntimeError("a verdict moved nothing")
        begun = time.perf_counter()
        with database.begin(PLATFORM) as session:
            session.execute(
                text("update market.ability set at = at where expert_id = :who"), {"who": who}
            )
        bare.append(time.perf_counter() - begun)
    return {
        f"{name}_p{share}_ms": round(1000 * float(np.percentile(times, share)), 1)
        for name, times in (("learn", learned), ("bare", bare))
        for share in (50, 95)
    }


def made_up(target_model_id: UUID | None, experts: list[UUID], count: int) -> list[Outcome]:
    """A made-up record: experts who differ, at five levels."""
    rng = np.random.default_rng(7)
    skill = rng.normal(0.0, 1.0, len(experts))
    found = []
    for n in range(count):
        one = int(rng.integers(len(experts)))
        level = int(rng.integers(5))
        stumped = float(rng.random() < 1 / (1 + np.exp(-(skill[one] + 0.5 * level - 1))))
        found.append(
            Outcome(
                kind="verdict",
                subject_id=new_id(),
                version=1,
                project_id=new_id(),
                task_id=new_id(),
                expert_id=experts[one],
                domain="chemistry",
                target_model_id=target_model_id,
                level=level,
                at=AT - timedelta(minutes=count - n),
                start=1.0,
                fooled=stumped,
                valid=1.0 if stumped else None,
            )
        )
    return found


def _through(expert_id: UUID) -> int:
    with database.begin(PLATFORM) as session:
        found = session.scalars(select(Ability.through).where(Ability.expert_id == expert_id))
        return max(found, default=-1)
