"""How long one balance takes to read when the ledger holds many lines.

The lines are built by the database itself, past the function that writes entries, on accounts with
a floor (an expert's) and on hot ones (the platform's fee), and folded. Then single balances are
read through `payouts.ledger.balance`, a transaction each, of accounts drawn by a seed; and beside
each a transaction that reads nothing.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import psycopg

from market.db import database
from market.embedded import EmbeddedPostgres
from payouts import chart
from payouts.chart import AccountRef
from payouts.ledger import balance
from tests.conftest import migrate

LONGEST_MS = 5.0
PER_ENTRY = 50

BUILD = f"""
-- Neither triggers nor foreign keys are asked for each of so many rows.
alter table payouts.posting disable trigger user;
alter table payouts.journal_entry disable trigger user;
alter table payouts.ledger_account disable trigger user;
do $$ declare one record; begin
    for one in select conname from pg_constraint
        where conrelid = 'payouts.posting'::regclass and contype = 'f'
    loop execute format('alter table payouts.posting drop constraint %%I', one.conname); end loop;
end $$;
insert into payouts.ledger_account (id, code, owner_id, currency, tenant_id, normal_side, has_floor)
select account, 'expert_payable', owner, 'USD', owner, 'credit', true
from unnest(%(accounts)s::uuid[], %(owners)s::uuid[]) as made (account, owner);
insert into payouts.ledger_account (id, code, owner_id, currency, tenant_id, normal_side, has_floor)
values (%(fee)s, 'platform_fee', null, 'USD', null, 'credit', false);
insert into payouts.journal_entry (id, key, kind, phase, line_count, at)
select lpad(to_hex(n), 32, '0')::uuid, 'bench:' || n, 'bench', 'posted', {PER_ENTRY}, now()
from generate_series(1, %(lines)s / {PER_ENTRY}) n;
insert into payouts.posting (entry_id, number, debit_account_id, credit_account_id, currency,
    amount_minor, credit_version, credit_balance_after_minor)
select lpad(to_hex((i - 1) / {PER_ENTRY} + 1), 32, '0')::uuid,
    ((i - 1) %% {PER_ENTRY} + 1)::smallint,
    %(fee)s, (%(accounts)s::uuid[])[(i - 1) %% %(people)s + 1], 'USD', 100,
    (i - 1) / %(people)s + 1, ((i - 1) / %(people)s + 1) * 100
from generate_series(1, %(lines)s) i;
insert into payouts.ledger_balance
    (account_id, normal_side, has_floor, posted_minor, version)
select a.id, a.normal_side, a.has_floor,
    case when a.has_floor then %(lines)s / %(people)s * 100 else -%(lines)s::bigint * 100 end,
    case when a.has_floor then %(lines)s / %(people)s else %(lines)s end
from payouts.ledger_account a;
"""


def _read(accounts: list[AccountRef], reads: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each read, sorted; and of as many transactions beside them that read nothing,
    which is what this machine takes for any read whatever.
    """
    draw = random.Random(7)
    spent, empty = [], []
    for _ in range(reads):
        account = draw.choice(accounts)
        began = time.perf_counter()
        with database.begin() as session:
            balance(session, account)
        ended = time.perf_counter()
        with database.begin():
            pass
        spent.append(1000 * (ended - began))
        empty.append(1000 * (time.perf_counter() - ended))
    return sorted(spent), sorted(empty)


def main(argv: list[str]) -> int:
    """Build, read, print one JSON document, and say by the exit code whether the bound was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench balance-read", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--reads", type=int, default=5_000)
    asked = parser.parse_args(argv)
    people = [chart.owed_to(UUID(int=n)) for n in range(1, asked.people + 1)]
    fee = chart.platform_fee()
    with (
        tempfile.TemporaryDirectory(prefix="stumpwork-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "data") as server,
    ):
        migrate(server.url)
        began = time.perf_counter()
        values = {
            "accounts": [chart.account_id(one) for one in people],
            "owners": [one.owner_id for one in people],
            "fee": chart.account_id(fee),
            "lines": asked.lines,
            "people": asked.people,
        }
        with psycopg.connect(
            server.url.replace("+psycopg", ""), cursor_factory=psycopg.ClientCursor
        ) as owner:
            owner.execute(BUILD, values)
        with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute("vacuum analyze payouts.ledger_balance")
        built = time.perf_counter() - began
        database.open(server.url, pool_size=2)
        _read(people, 200)
        floor, empty = _read(people, asked.reads)
        hot, _ = _read([fee], asked.reads)
        database.close()
    report = {
        "lines": asked.lines,
        "people": asked.people,
        "built_s": round(built, 1),
        "longest_ms": LONGEST_MS,
        "reads": asked.reads,
    }
    for name, spent in (("expert", floor), ("platform_fee", hot), ("nothing", empty)):
        report[f"{name}_p50_ms"] = round(spent[len(spent) // 2], 3)
        report[f"{name}_p95_ms"] = round(spent[len(spent) * 95 // 100], 3)
        report[f"{name}_p99_ms"] = round(spent[len(spent) * 99 // 100], 3)
    print(json.dumps(report, indent=2))
    return 0 if max(report["expert_p95_ms"], report["platform_fee_p95_ms"]) <= LONGEST_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
