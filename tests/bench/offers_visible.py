"""From a matching run that is asked for to the offers that its experts see, beside bare inserts.

`python -m tests.bench offers-visible [--experts N] [--tasks N] [--runs N]`

Timed is the job `run_matching`, as a worker runs it, from the commit that asked for it until every
expert's own list shows what it was offered; the way through the outbox and the queue is measured by
`handover`. Bare: the same rows of offers, copied by one statement without rules or history.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from uuid import UUID

from sqlalchemy import select, text

from market.db import PLATFORM, database, now
from market.embedded import EmbeddedPostgres
from market.offers.models import Offer
from market.offers.queries import open_offers
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from market.settings import in_force, read_settings
from tests.bench.orchestrate import milliseconds
from tests.conftest import SECRET, migrate
from tests.factories import make_expert, make_project, make_task

BARE = """
create temporary table bare on commit drop as select * from market.offer where run_id = :run
"""


def offered(experts: list[UUID], tasks: int) -> tuple[float, float, int]:
    """Seconds until all offers of one run are seen, seconds for bare rows, and how many."""
    with database.begin(PLATFORM) as session:
        project = make_project(session, budget_minor=10**9)
        for _ in range(tasks):
            make_task(session, project, slots=1)
    with database.begin(PLATFORM) as session:
        run_id = request_run(session, project_id=project.id, at=now())[0].id
    began = time.perf_counter()
    run_matching(str(run_id))
    with database.begin(PLATFORM) as session:
        seen = [
            one.id
            for expert_id in experts
            for one in open_offers(session, expert_id, at=now())
            if one.run_id == run_id
        ]
    taken = time.perf_counter() - began
    with database.begin(PLATFORM) as session:
        made = set(session.scalars(select(Offer.id).where(Offer.run_id == run_id)))
    if not made or made != set(seen):
        raise RuntimeError(f"{len(made)} offers were made and {len(seen)} are seen")
    began = time.perf_counter()
    with database.engine.begin() as bare:
        bare.execute(text(BARE), {"run": run_id})
    return taken, time.perf_counter() - began, len(made)


def main(argv: list[str]) -> int:
    """Print one object: how long runs took until their offers were seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench offers-visible")
    parser.add_argument("--experts", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=100, help="of each run")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="bench-offers-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as server,
    ):
        migrate(server.url)
        os.environ["STUMPWORK_DATABASE_URL"] = server.url
        os.environ["STUMPWORK_SECRET_KEY"] = SECRET
        in_force.open(read_settings())
        database.open(server.url)
        with database.begin(PLATFORM) as session:
            experts = [make_expert(session).id for _ in range(asked.experts)]
        # The first run loads the solver.
        offered(experts, 1)
        found = [offered(experts, asked.tasks) for _ in range(asked.runs)]
        database.close()
    print(
        json.dumps(
            {
                "benchmark": "offers-visible",
                "experts": asked.experts,
                "tasks": asked.tasks,
                "offers": [offers for _, _, offers in found],
                "seen_ms": milliseconds([taken for taken, _, _ in found]),
                "bare_ms": milliseconds([bare for _, bare, _ in found]),
            }
        )
    )
    return 0
