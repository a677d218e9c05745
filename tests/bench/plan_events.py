"""From an event to the offer that answers it: `python -m tests.bench plan-events`.

A seeded market in an embedded PostgreSQL; relay, worker and keeper are processes of their own, as
they are in service. After a run experts decline and tasks are published, one after another; each
time is from the commit that made it true until the answering offer can be read.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import func, select, text

from market.auth import keyring
from market.db import PLATFORM, database, new_id
from market.embedded import EmbeddedPostgres
from market.offers.actions import decline_offer
from market.offers.models import Offer
from market.projects.models import Project
from market.runs.actions import request_run
from market.tasks.actions import move_task
from market.upgrade import upgrade_database
from tests.bench.candidates import Floats, domain, fill, make
from tests.conftest import SECRET
from tests.factories import make_task

P95_S = 1.0
PATIENCE_S = 60.0


def until(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Wait until something is so; seconds that it took."""
    began = time.perf_counter()
    while not is_so():
        if time.perf_counter() - began > patience_s:
            raise RuntimeError(f"waited {patience_s:.0f} s in vain")
        time.sleep(0.005)
    return time.perf_counter() - began


def offers_made() -> int:
    """How many offers there are, whatever became of them."""
    with database.begin(PLATFORM) as session:
        return int(session.scalar(select(func.count()).select_from(Offer)) or 0)


def declined() -> None:
    """An expert says no to an offer."""
    with database.begin(PLATFORM) as session:
        offer = session.scalars(
            select(Offer).where(Offer.state == "pending").order_by(func.random()).limit(1)
        ).one()
        decline_offer(
            session, offer.id, expert_id=offer.expert_id, reason="no_time", at=datetime.now(UTC)
        )


def published() -> None:
    """A lab publishes a task."""
    with database.begin(PLATFORM) as session:
        project = session.scalars(select(Project)).one()
        task = make_task(
            session,
            project,
            external_id=f"published {new_id()}",
            domain=domain(0),
            state="draft",
            value_weight=5.0,
        )
        move_task(session, task.id, "publish", at=datetime.now(UTC))


def main(argv: list[str]) -> int:
    """Measure and print; nought when nineteen of twenty answers come within a second."""
    parser = argparse.ArgumentParser(prog="plan-events", description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--experts", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args(argv)
    made = make(asked.tasks, asked.experts, asked.seed)
    keyring.open(SECRET)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-plan-events"))
        server = stack.enter_context(EmbeddedPostgres(Path(folder) / "postgres"))
        upgrade_database(server.url)
        database.open(server.url)
        fill(server.url, made, asked.seed)
        for module, *words in (
            ("market.relay",),
            ("market.worker", "--queues", "default"),
            ("market.worker", "--queues", "solver", "--threads", "1"),
            ("market.keeper",),
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env={
                    **os.environ,
                    "STUMPWORK_DATABASE_URL": server.url,
                    "STUMPWORK_SECRET_KEY": SECRET,
                    "STUMPWORK_LOG_LEVEL": "ERROR",
                    # Nobody listens there: whatever a job of the clock asks, it stays in here.
                    "STUMPWORK_STRIPE_BASE_URL": "http://127.0.0.1:9",
                },
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        until(lambda: _count("market.lease where held_until > clock_timestamp()") == 1)
        with database.begin(PLATFORM) as session:
            request_run(session, seed=asked.seed, at=datetime.now(UTC))
        until(lambda: _count("market.kept_plan") == 1, 300)
        until(lambda: _count("market.plan_change") == 0)
        took = {
            "an expert declines": _times(declined, asked.events),
            "a task is published": _times(published, asked.events),
        }
        plan_steps = _count("market.plan_step")
        database.close()
    every = np.concatenate([np.array(times) for times in took.values()])
    for kind, times in took.items():
        print(json.dumps({"event": kind, "number": len(times), **_figures(np.array(times))}))
    told = {
        "bench": "plan-events",
        "tasks": asked.tasks,
        "experts": asked.experts,
        "events": len(every),
        "steps": plan_steps,
        **_figures(every),
    }
    print(json.dumps(told))
    return 0 if float(np.percentile(every, 95)) <= P95_S else 1


def _times(event: Callable[[], None], number: int) -> list[float]:
    times = []
    for _ in range(number):
        before = offers_made()
        event()
        times.append(_until_more_than(before))
        until(lambda: _count("market.plan_change") == 0)
    return times


def _until_more_than(before: int) -> float:
    return until(lambda: offers_made() > before)


def _figures(times: Floats) -> dict[str, float]:
    names = ("p50_s", "p95_s", "max_s")
    at = np.percentile(times, [50, 95, 100]).tolist()
    return {name: round(one, 3) for name, one in zip(names, at, strict=True)}


def _count(of: str) -> int:
    with database.begin(PLATFORM) as session:
        return int(session.scalar(text(f"select count(*) from {of}")) or 0)
