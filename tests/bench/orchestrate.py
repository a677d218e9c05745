"""How many offers a second are claimed and handed in, against the same statements by pgbench.

A cycle is what an expert's three calls do below the web: accept an offer, begin a session, hand in;
each is a transaction. The statements of one cycle are recorded as they are sent, and pgbench runs
the same ones, prepared, on the same server, with as many clients, on other offers. pgbench's own
TPC-B gives the yardstick. Figures are medians over rounds that alternate with the baselines.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import event

from market.cluster import choose_user
from market.db import database, new_id
from market.embedded import EmbeddedPostgres
from market.experts.models import Expert
from market.offers.actions import accept_offer
from market.projects.models import Project
from market.submissions.actions import submit_work
from market.work.actions import start_session
from tests.bench.ledger import Bench as Pgbench
from tests.conftest import migrate
from tests.factories import make_expert, make_offer, make_project, make_task

AT = datetime(2026, 1, 5, tzinfo=UTC)
STEP_S = 120
WORK_S = 60
EXPERTS = 64
MOST_A_SECOND = 1_500
"""Cycles that a run may come to; offers are set aside for as many."""
KINDS = {"task": "a", "task_slot": "b", "offer": "c", "expert": "e"}
"""The first digit of the ids of rows made in bulk; the last twelve are their number."""

PEOPLE = """
insert into market.person select (jsonb_populate_record(p, jsonb_build_object(
    'id', {expert}, 'email', 'bench.' || n || '@people.example'))).*
from market.person p, generate_series(0, {experts} - 1) n where p.id = '{model_expert}';
insert into market.expert ({columns}) select {columns} from (
    select (jsonb_populate_record(e, jsonb_build_object('id', {expert}))).*
    from market.expert e, generate_series(0, {experts} - 1) n where e.id = '{model_expert}'
) copied;
"""
COPIES = """insert into market.task select (jsonb_populate_record(t, jsonb_build_object(
    'id', {task}, 'external_id', 'bench-' || n))).*
from market.task t, generate_series({first}, {last}) n where t.id = '{model_task}';
insert into market.task_slot select (jsonb_populate_record(s, jsonb_build_object(
    'id', {task_slot}, 'task_id', {task}, 'state', 'open', 'offer_id', null))).*
from market.task_slot s, generate_series({first}, {last}) n where s.id = '{model_slot}';
insert into market.offer select (jsonb_populate_record(o, jsonb_build_object(
    'id', {offer}, 'task_id', {task}, 'slot_id', {task_slot},
    'expert_id', {expert_of},
    'expires_at', now() + interval '90 days'))).*
from market.offer o, generate_series({first}, {last}) n where o.id = '{model_offer}';
update market.task_slot s set state = 'offered', offer_id = {offer}
from generate_series({first}, {last}) n where s.id = {task_slot};
"""


def row_id(kind: str, number: int) -> UUID:
    """The id of a row made in bulk."""
    return UUID(f"{KINDS[kind]}0000000-0000-7000-8000-{number:012x}")


def id_of(kind: str, number: str) -> str:
    """The same in SQL."""
    return f"('{KINDS[kind]}0000000-0000-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"


@dataclass(slots=True)
class Bench:
    """A database full of offers, and how far they are used up."""

    url: str
    experts: int = EXPERTS
    project_id: UUID | None = None
    expert_id: UUID = field(default_factory=new_id)
    made: int = 0
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fill(self, tasks: int) -> None:
        """Offers for as many tasks, each with one seat, put to the experts in turn."""
        with database.begin() as session:
            is_first = self.project_id is None
            if is_first:
                self.expert_id = make_expert(session).id
                self.project_id = make_project(session).id
            task = make_task(session, session.get_one(Project, self.project_id), slots=1)
            offer = make_offer(session, task, self.expert_id, accepted=False, at=AT)
            words = {
                "first": self.made + 1,
                "last": self.made + tasks,
                "model_task": task.id,
                "model_slot": offer.slot_id,
                "model_offer": offer.id,
                "experts": self.experts,
                "columns": ", ".join(
                    one.name for one in Expert.__table__.columns if one.computed is None
                ),
                "model_expert": self.expert_id,
                "expert_of": id_of("expert", f"n % {self.experts}"),
                **{kind: id_of(kind, "n") for kind in KINDS},
            }
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as admin:
            for statement in ((PEOPLE if is_first else "") + COPIES).format(**words).split(";\n"):
                if statement.strip():
                    admin.execute(statement.encode())
            admin.execute("vacuum analyze")
        self.made += tasks

    def take(self, count: int) -> range:
        """Numbers of offers that nobody used yet."""
        with self.lock:
            taken = range(self.used + 1, self.used + count + 1)
            self.used += count
        if self.used > self.made:
            raise RuntimeError(f"all {self.made} offers are used up; make more tasks")
        return taken

    def claim(self, number: int) -> None:
        """Accept, as the expert whom the offer was put to."""
        expert = row_id("expert", number % self.experts)
        at = AT + timedelta(seconds=STEP_S * number)
        with database.begin() as session:
            accept_offer(session, row_id("offer", number), expert_id=expert, at=at)

    def cycle(self, number: int) -> list[float]:
        """Accept, begin, hand in; how long each took, in seconds."""
        expert = row_id("expert", number % self.experts)
        offer, at = row_id("offer", number), AT + timedelta(seconds=STEP_S * number)
        began = time.perf_counter()
        self.claim(number)
        claimed = time.perf_counter()
        with database.begin() as session:
            start_session(session, offer, expert_id=expert, at=at)
        started = time.perf_counter()
        with database.begin() as session:
            submit_work(
                session,
                offer,
                expert_id=expert,
                payload={"why": "the answer kept shows it"},
                at=at + timedelta(seconds=WORK_S),
            )
        return [claimed - began, started - claimed, time.perf_counter() - started]

    def run(
        self, clients: int, seconds: float, helpers: Sequence[Executor] = ()
    ) -> tuple[float, list[list[float]]]:
        """Cycles a second by as many threads, here or spread over processes, and what each step of
        each took.
        """
        numbers = self.take(int(MOST_A_SECOND * seconds))
        # Each expert is one thread's alone: two of one expert's sessions would refuse each other.
        mine: list[list[int]] = [[] for _ in range(clients)]
        for number in numbers:
            mine[number % self.experts % clients].append(number)
        began = time.monotonic()
        if helpers:
            parts = [
                helper.submit(drive, self.experts, mine[first :: len(helpers)], seconds)
                for first, helper in enumerate(helpers)
            ]
            taken = [one for part in parts for one in part.result()]
        else:
            taken = drive(self.experts, mine, seconds)
        return len(taken) / (time.monotonic() - began), taken

    def script(self, act: Callable[[int], object]) -> tuple[str, int]:
        """What is done with one offer as pgbench does it with others, and its statements."""
        sent: list[str] = []
        number = self.take(1)[0]
        plain = self.url.replace("+psycopg", "")
        with psycopg.connect(plain) as writer:
            pen = psycopg.ClientCursor(writer)

            def note(
                _c: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool
            ) -> None:
                sent.extend(pen.mogrify(statement, one) for one in (values if many else [values]))

            event.listen(database.engine, "before_cursor_execute", note)
            event.listen(database.engine, "commit", lambda _c: sent.append("commit"))
            act(number)
            event.remove(database.engine, "before_cursor_execute", note)
        body = self._general(";\n".join(" ".join(one.split()) for one in sent), number)
        head = "select nextval('public.bench_offer') as n \\gset\n"
        return f"{head}{body};\n", len(sent) - sent.count("commit")

    def _general(self, script: str, number: int) -> str:
        n = ":n::bigint"
        known = {row_id(kind, number): id_of(kind, n) for kind in KINDS}
        known[row_id("expert", number % self.experts)] = id_of("expert", f"{n} % {self.experts}")
        at = AT + timedelta(seconds=STEP_S * number)
        end = at + timedelta(seconds=WORK_S)
        begins = f"(timestamptz '{AT}' + {n} * interval '{STEP_S} s')"
        ends = f"({begins} + interval '{WORK_S} s')"
        script = script.replace(f"""'["{at}","{end}")'""", f"tstzrange({begins}, {ends})")
        script = script.replace(f"'{at}'", begins).replace(f"'{end}'", ends)
        with psycopg.connect(self.url.replace("+psycopg", "")) as reader:
            fixed = {
                one.hex
                for (one,) in reader.execute(
                    "select project_id from market.task union select organisation_id"
                    " from market.task union select run_id from market.offer"
                ).fetchall()
            }
        ids = {one.hex: words for one, words in known.items()}
        # Whatever else has an id was made by the cycle, and is made anew by every other.
        for found in dict.fromkeys(re.findall(r"'([0-9a-f]{32})'", script)):
            if found not in ids and found not in fixed:
                prefix = f"{len(ids):08x}-0000-7000-9000-"
                ids[found] = f"('{prefix}' || lpad(to_hex({n}), 12, '0'))::uuid"
        for one, words in ids.items():
            script = script.replace(f"'{one}'", words)
        return script


def drive(experts: int, parts: list[list[int]], seconds: float) -> list[list[float]]:
    """A thread for each part of the offers, in this process; what the steps of each cycle took."""
    bench = Bench("", experts)
    taken: list[list[float]] = []
    end = time.monotonic() + seconds

    def work(todo: list[int]) -> None:
        done = []
        for number in todo:
            if time.monotonic() > end:
                break
            done.append(bench.cycle(number))
        with bench.lock:
            taken.extend(done)

    threads = [threading.Thread(target=work, args=(todo,)) for todo in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def open_database(url: str, connections: int) -> None:
    """What a process does first."""
    database.open(url, pool_size=connections)


def pgbench_of(url: str, folder: Path, *, clients: int, seconds: int) -> Pgbench:
    """pgbench on this server."""
    parts = psycopg.conninfo.conninfo_to_dict(url.replace("+psycopg", ""))
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
    return Pgbench(
        program=choose_user(folder / "data").binaries / "pgbench",
        environment={
            **os.environ,
            **{name: str(parts[part]) for name, part in names.items()},
            "PGDATABASE": str(parts["dbname"]),
        },
        clients=clients,
        seconds=seconds,
    )


def milliseconds(taken: Sequence[float]) -> dict[str, float]:
    """The middle and the tail of some times."""
    if len(taken) < 2:
        return {}
    cuts = quantiles(taken, n=100, method="inclusive")
    return {f"p{cut}": round(cuts[cut - 1] * 1000, 1) for cut in (50, 95, 99)}


def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Every number of experts in every round, beside both baselines."""
    migrate(url)
    connections = options.pool or max(options.experts)
    open_database(url, connections)
    bench = Bench(url)
    helpers = [
        ProcessPoolExecutor(
            1, get_context("spawn"), initializer=open_database, initargs=(url, connections)
        )
        for _ in range(options.processes if options.processes > 1 else 0)
    ]
    rows = []
    first = pgbench_of(url, folder, clients=1, seconds=options.seconds)
    subprocess.run(
        [str(first.program), "--initialize", "--quiet", "--scale", "10"],
        env=dict(first.environment),
        capture_output=True,
        timeout=300,
        check=True,
    )
    # A run of ours and one of pgbench's, each on offers of its own.
    each = 2 * MOST_A_SECOND * options.seconds * options.rounds * len(options.experts) + 100
    for tasks in options.tasks:
        bench.fill(max(tasks - bench.made, bench.used + each - bench.made))
        bench.cycle(bench.take(1)[0])
        for helper in helpers:
            # Warm as well, before its time counts.
            helper.submit(drive, bench.experts, [list(bench.take(1))], 60).result()
        script, statements = bench.script(bench.cycle)
        path = folder / "cycle.sql"
        path.write_text(script)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute("drop sequence if exists public.bench_offer")
            admin.execute("create sequence public.bench_offer")
            admin.execute("grant usage on sequence public.bench_offer to public")
        for clients in options.experts:
            runner = pgbench_of(url, folder, clients=clients, seconds=options.seconds)
            rates: dict[str, list[float]] = {"cycles": [], "same_sql": [], "tpcb": []}
            steps: list[list[float]] = []
            for _ in range(options.rounds):
                rates["tpcb"].append(runner.run("--builtin", "tpcb-like"))
                with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
                    start = bench.take(MOST_A_SECOND * options.seconds)[0]
                    admin.execute(f"alter sequence public.bench_offer restart {start}".encode())
                rates["same_sql"].append(runner.run("--protocol", "prepared", "--file", str(path)))
                rate, taken = bench.run(clients, options.seconds, helpers)
                rates["cycles"].append(rate)
                steps += taken
            found = {name: round(median(values), 1) for name, values in rates.items()}
            row: dict[str, object] = {
                "tasks": bench.made,
                "experts": clients,
                "processes": options.processes,
                "statements": statements,
                "per_second": found,
                "ratio_to_same_sql": round(found["cycles"] / found["same_sql"], 3),
                "tpcb_per_cycle": round(found["tpcb"] / found["cycles"], 1),
                "claim_ms": milliseconds([one[0] for one in steps]),
                "begin_ms": milliseconds([one[1] for one in steps]),
                "hand_in_ms": milliseconds([one[2] for one in steps]),
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    for helper in helpers:
        helper.shutdown()
    database.close()
    return {"benchmark": "orchestrate", "rows": rows}


def main(argv: list[str]) -> int:
    """Print a row for each size and each number of experts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench orchestrate", description=__doc__)
    parser.add_argument("--experts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000])
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="that the experts spread over")
    parser.add_argument("--pool", type=int, help="connections of a process; for each expert one")
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    parser.add_argument("--script", action="store_true", help="print the script, and end")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as folder,
        EmbeddedPostgres(Path(folder) / "data", max_connections=200) as postgres,
    ):
        if options.script:
            migrate(postgres.url)
            database.open(postgres.url, pool_size=2)
            bench = Bench(postgres.url)
            bench.fill(10)
            bench.cycle(bench.take(1)[0])
            print(bench.script(bench.cycle)[0])
            database.close()
            return 0
        print(json.dumps(measure(postgres.url, Path(folder), options)))
    return 0
