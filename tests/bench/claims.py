"""Claims that come at a rate, each sent twice at once: `python -m tests.bench claims`.

Of `--experts` experts, `--rate` accept an offer each second, whether or not the ones before were
answered; every claim is sent a second time at the same moment, as a click and its repetition are.
Times are from the moment at which a claim was due. Afterwards the rows are counted: seats held
twice, and offers or seats claimed more often than once. Bare: as many claims a second as pgbench
takes of the same statements, prepared, with as many clients.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from sqlalchemy import text

from market.db import database
from market.embedded import EmbeddedPostgres
from tests.bench.orchestrate import Bench, milliseconds, pgbench_of
from tests.conftest import migrate

RIVALS = 2

DOUBLES = text(
    """
    select
        (select count(*) from market.offer where state = 'accepted') as accepted,
        (select count(*) from market.task_slot where state = 'claimed') as claimed,
        (select count(*) from (select from market.offer
            where state in ('accepted', 'active', 'grace', 'completed')
            group by slot_id having count(*) > 1) twice)
        + (select count(*) from (select from market.state_change
            where action in ('accept', 'claim')
            group by subject_id, action having count(*) > 1) twice)
        + (select count(*) from (select from market.event where type = 'offer.accepted'
            group by subject_id having count(*) > 1) twice) as doubled
    """
)


def storm(
    claim: Callable[[int], None], numbers: range, *, rate: float, threads: int
) -> tuple[float, list[float]]:
    """Claims answered a second, and how long after it was due each was answered, in seconds."""
    taken: list[float] = []
    lock = threading.Lock()
    began = time.perf_counter()

    def answer(number: int, due: float) -> None:
        claim(number)
        with lock:
            taken.append(time.perf_counter() - due)

    with ThreadPoolExecutor(threads) as pool:
        sent = []
        for nth, number in enumerate(numbers):
            due = began + nth / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            sent += [pool.submit(answer, number, due) for _ in range(RIVALS)]
        for one in sent:
            one.result()
    return len(numbers) / (time.perf_counter() - began), taken


def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """The storm, what it left, and the bare baseline."""
    migrate(url)
    database.open(url, pool_size=options.clients)
    bench = Bench(url, experts=options.experts)
    claims = int(options.rate * options.seconds)
    # pgbench takes as many as it can, and must not run out.
    bench.fill(claims + 8_000 * options.bare_seconds + 1_000)
    for number in bench.take(100):
        bench.claim(number)
    rate, taken = storm(bench.claim, bench.take(claims), rate=options.rate, threads=options.clients)
    with database.begin() as session:
        found = session.execute(DOUBLES).one()
    script, statements = bench.script(bench.claim)
    path = folder / "claim.sql"
    path.write_text(script)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("create sequence public.bench_offer")
        admin.execute("grant usage on sequence public.bench_offer to public")
        first = bench.take(8_000 * options.bare_seconds)[0]
        admin.execute(f"alter sequence public.bench_offer restart {first}".encode())
    bare = pgbench_of(url, folder, clients=options.clients, seconds=options.bare_seconds).run(
        "--protocol", "prepared", "--file", str(path)
    )
    database.close()
    return {
        "benchmark": "claims",
        "experts": options.experts,
        "asked_per_s": options.rate,
        "reached_per_s": round(rate, 1),
        "sent_each": RIVALS,
        "claim_ms": milliseconds(taken),
        "statements": statements,
        "bare_per_s": round(bare, 1),
        "claims": claims + 100,
        "offers_accepted": found.accepted,
        "seats_claimed": found.claimed,
        "doubled": found.doubled,
    }


def main(argv: list[str]) -> int:
    """Print one object; nought when every claim was answered once and none doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench claims", description=__doc__)
    parser.add_argument("--experts", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=200.0, help="claims a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bare-seconds", type=int, default=4)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as folder,
        EmbeddedPostgres(Path(folder) / "data", max_connections=200) as postgres,
    ):
        found = measure(postgres.url, Path(folder), options)
    print(json.dumps(found))
    is_whole = found["offers_accepted"] == found["seats_claimed"] == found["claims"]
    return 0 if is_whole and found["doubled"] == 0 else 1
