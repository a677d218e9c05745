"""How many journal entries a second PostgreSQL takes, against pgbench's own test on that server.

Every case runs in rounds that alternate with the baseline, on one durable embedded server with
PostgreSQL's default settings, so that what else the machine does falls on all of them alike. The
figures are medians over the rounds, and only their ratios carry from one machine to another.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Thread
from uuid import uuid4

import psycopg
from sqlalchemy import text

from market.cluster import choose_user
from market.db import database
from market.embedded import EmbeddedPostgres
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import Line, fold_hot_accounts, post_entry
from tests.conftest import migrate

BUDGETS = 2_000
CONTENDED = 10
FLUSH = 10**12
LAB = uuid4()
BANK = chart.account_id(chart.bank())
FEE = chart.account_id(chart.platform_fee())

OPEN_BUDGETS = f"""
insert into payouts.ledger_account (id, code, owner_id, currency, tenant_id, normal_side, has_floor)
select lpad(to_hex(n), 32, '0')::uuid, 'project_escrow', uuidv7(), 'USD', '{LAB}', 'credit', true
from generate_series(1, {BUDGETS}) n;
insert into payouts.ledger_account (id, code, owner_id, currency, tenant_id, normal_side, has_floor)
values ('{BANK}', 'bank', null, 'USD', null, 'debit', false),
       ('{FEE}', 'platform_fee', null, 'USD', null, 'credit', false);
with entry as (
    insert into payouts.journal_entry (id, key, kind, phase, line_count, at)
    select uuidv7(), 'bench:fund', 'fund', 'posted', {BUDGETS}, now() returning id
)
select set_config('bench.entry', id::text, false) from entry;
insert into payouts.posting
    (entry_id, number, debit_account_id, credit_account_id, currency, amount_minor)
select current_setting('bench.entry')::uuid, n, '{BANK}',
       lpad(to_hex(n), 32, '0')::uuid, 'USD', {FLUSH}
from generate_series(1, {BUDGETS}) n;
create sequence public.bench_key;
grant usage on sequence public.bench_key to stumpwork_platform;
"""

CALL = """payouts.post_entry(uuidv7(), 'bench:' || nextval('bench_key'), 'bench', 'posted', now(),
 '', null, null, null, {accounts}, {debits}, {credits}, {currencies}, {amounts})"""


def _account(variable: str) -> str:
    return f"lpad(to_hex({variable}), 32, '0')::uuid"


_PAIR = {
    "accounts": f"array[{_account(':a::int')}, {_account(':b::int')}]",
    "debits": f"array[{_account(':a::int')}]",
    "credits": f"array[{_account(':b::int')}]",
    "currencies": "array['USD']",
    "amounts": "array[:m::bigint]",
}
_WORK = {
    "accounts": f"array[{_account(':a::int')}, {_account(':b::int')}, '{FEE}'::uuid]",
    "debits": f"array[{_account(':a::int')}, {_account(':a::int')}]",
    "credits": f"array[{_account(':b::int')}, '{FEE}'::uuid]",
    "currencies": "array['USD', 'USD']",
    "amounts": "array[:m::bigint, 1]",
}
_HOT = {
    "accounts": f"array[{_account('(:a::int + i) % 2000 + 1')}, '{FEE}'::uuid]",
    "debits": f"array[{_account('(:a::int + i) % 2000 + 1')}]",
    "credits": f"array['{FEE}'::uuid]",
    "currencies": "array['USD']",
    "amounts": "array[:m::bigint]",
}


def _one_line(parts: Mapping[str, str]) -> str:
    return CALL.format(**parts).replace("\n", "")


def _script(accounts: int, body: str) -> str:
    return "\n".join(
        (
            f"\\set a random(1, {accounts})",
            f"\\set d random(1, {accounts} - 1)",
            f"\\set b 1 + ((:a - 1 + :d) % {accounts})",
            "\\set m random(1, 500)",
            body,
            "",
        )
    )


SCRIPTS = {
    "single": (_script(BUDGETS, f"select refusal from {_one_line(_PAIR)};"), 1),
    "contended": (_script(CONTENDED, f"select refusal from {_one_line(_PAIR)};"), 1),
    "work": (_script(BUDGETS, f"select refusal from {_one_line(_WORK)};"), 1),
    "hot": (
        _script(BUDGETS, f"select refusal from generate_series(0, 0) i, {_one_line(_HOT)};"),
        1,
    ),
    "hot_batched": (
        _script(BUDGETS, f"select refusal from generate_series(1, 50) i, {_one_line(_HOT)};"),
        50,
    ),
}
"""Case to its script and the entries that one run of it posts.

`single`: one line between two of 2,000 accounts with floors. `contended`: between two of ten.
`work`: what an hour of work posts, a line to the expert and one to the platform's fee.
`hot`, `hot_batched`: a line to the fee account, one entry for each commit, or fifty.
"""


@dataclass(frozen=True)
class Bench:
    """Where pgbench runs, and for how long each time."""

    program: Path
    environment: Mapping[str, str]
    clients: int
    seconds: int

    def run(self, *arguments: str, role: str | None = None) -> float:
        """Transactions a second of one run."""
        environment = dict(self.environment)
        if role is not None:
            environment["PGOPTIONS"] = f"-c role={role}"
        done = subprocess.run(
            [
                str(self.program),
                *("--client", str(self.clients), "--jobs", "2", "--time", str(self.seconds)),
                *("--no-vacuum", *arguments),
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=self.seconds + 120,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
        for line in done.stdout.splitlines():
            if line.startswith("tps = "):
                return float(line.split()[2])
        raise RuntimeError(f"pgbench said nothing about speed: {done.stdout}")


def through_python(seconds: int, threads: int) -> float:
    """Entries a second that threads of this process post through `payouts.ledger`."""
    lab = uuid4()
    budgets = [chart.project_budget(uuid4(), lab) for _ in range(threads)]
    experts = [chart.owed_to(uuid4()) for _ in range(threads)]
    at = datetime.now(UTC)
    with database.begin() as session:
        post_entry(
            session,
            key=f"bench:{lab}",
            kind="fund",
            lines=[Line(chart.bank(), budget, FLUSH) for budget in budgets],
            at=at,
        )
    done = [0] * threads
    until = time.monotonic() + seconds

    def post(number: int) -> None:
        line = Line(budgets[number], experts[number], 1)
        while time.monotonic() < until:
            with database.begin() as session:
                post_entry(session, key=str(uuid4()), kind="bench", lines=[line], at=at)
            done[number] += 1

    running = [Thread(target=post, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done) / seconds


def main(argv: list[str]) -> int:
    """Print each case and its ratio to TPC-B, and say by the exit code whether targets are met.

    How much a batch gains on a hot account is only told: the less, the less anybody waits for it.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench ledger", description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--scale", type=int, default=20, help="of pgbench's own tables")
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as folder,
        EmbeddedPostgres(Path(folder) / "data") as postgres,
    ):
        figures = measure(postgres.url, Path(folder), options)
    print(json.dumps(figures))
    return 0 if figures["targets_met"] else 1


def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Build the database, run every case in every round, and check the books afterwards."""
    migrate(url)
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(OPEN_BUDGETS)
        admin.execute("vacuum analyze")
        version = admin.execute("show server_version").fetchone()
    parts = psycopg.conninfo.conninfo_to_dict(plain)
    run_as = choose_user(folder / "data")
    bench = Bench(
        program=run_as.binaries / "pgbench",
        environment={
            **os.environ,
            "PGHOST": str(parts["host"]),
            "PGPORT": str(parts["port"]),
            "PGUSER": str(parts["user"]),
            "PGPASSWORD": str(parts["password"]),
            "PGDATABASE": str(parts["dbname"]),
        },
        clients=options.clients,
        seconds=options.seconds,
    )
    subprocess.run(
        [str(bench.program), "--initialize", "--quiet", "--scale", str(options.scale)],
        env=dict(bench.environment),
        capture_output=True,
        timeout=300,
        check=True,
    )
    rates: dict[str, list[float]] = {"pgbench": [], **{name: [] for name in SCRIPTS}}
    rates["python"] = []
    database.open(url, pool_size=8)
    for number in range(options.rounds):
        rates["pgbench"].append(bench.run("--builtin", "tpcb-like"))
        for name, (script, entries) in SCRIPTS.items():
            path = folder / f"{name}.sql"
            path.write_text(script)
            rates[name].append(entries * bench.run("--file", str(path), role="stumpwork_platform"))
        rates["python"].append(through_python(options.seconds, 4))
        for name, found in rates.items():
            print(f"round {number + 1}: {name:12s} {found[-1]:9.0f}/s", file=sys.stderr)
    folded, fold_s = fold()
    with database.begin() as session:
        broken = sorted({violation.invariant for violation in violations(session)})
        entries = session.execute(text("select count(*) from payouts.journal_entry")).scalar_one()
    database.close()
    ratios = {
        name: round(median(a / b for a, b in zip(found, rates["pgbench"], strict=True)), 3)
        for name, found in rates.items()
    }
    return {
        "benchmark": "ledger",
        "postgresql": version[0] if version else "",
        "clients": options.clients,
        "entries": entries,
        "per_second": {name: round(median(found)) for name, found in rates.items()},
        "ratio_to_pgbench": ratios,
        "folded_lines": folded,
        "folded_lines_per_second": round(folded / fold_s),
        "broken_invariants": broken,
        "batch_to_one_by_one": round(
            median(a / b for a, b in zip(rates["hot_batched"], rates["hot"], strict=True)), 2
        ),
        "targets": {"single": 0.60, "contended": 0.18},
        "targets_met": ratios["single"] >= 0.60 and ratios["contended"] >= 0.18 and not broken,
    }


def fold() -> tuple[int, float]:
    """Fold what the runs left loose; how many lines, in how many seconds."""
    started = time.monotonic()
    with database.begin() as session:
        folded = fold_hot_accounts(session)
    return folded, time.monotonic() - started
