"""A whole payout run against the stand-in for Stripe, and what part of its time the database takes.

Payouts are opened a hundred to a transaction, and their transfers are sent by one sender, which
leases and records many together and sends one after the other as the bucket has a place, all with
PostgreSQL's default settings (durable). The
clock that the bucket looks at is virtual unless `--real-time` is given: a wait moves it instead of
sleeping, so that ten thousand payouts at ten a second need not take a quarter of an hour. `wall_s`
is then the time on that clock: the waits and all work that was really done; and the stand-in, whose
clock is the real one, does not judge the pace, which it does with `--real-time`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import event, insert
from sqlalchemy.orm import Session

from market.db import database
from market.embedded import EmbeddedPostgres
from market.payout_runs.jobs import LOT
from payouts import chart
from payouts.bucket import WriteRate
from payouts.gateway import Gateway
from payouts.holds import HoldPolicy
from payouts.invariants import violations
from payouts.ledger import Line, fold_hot_accounts, post_entry
from payouts.models import Payee
from payouts.opening import open_payouts
from payouts.outcomes import Result
from payouts.sender import send_transfers
from tests.conftest import migrate
from tests.fakestripe import FakeStripe

AT_ONCE = HoldPolicy(first_payout_wait=timedelta(0))
LAB = uuid4()
PERIOD_END = date(2026, 11, 23)
LARGEST_SHARE = 0.05


class Clock:
    """Real time and the waits that were not slept."""

    def __init__(self, *, real: bool) -> None:
        self.real = real
        self.skipped_s = 0.0

    def now(self) -> datetime:
        """The time on this clock."""
        return datetime.now(UTC) + timedelta(seconds=self.skipped_s)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        if self.real:
            time.sleep(seconds)
        else:
            self.skipped_s += seconds


class Meter:
    """How long the database was waited for: every statement, and every commit."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.statements = 0
        self._began = 0.0

    def attach(self) -> None:
        """Begin to count."""
        engine = database.engine
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _after(self, *_: object) -> None:
        self.spent_s += time.perf_counter() - self._began
        self.statements += 1

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction whose end is counted too."""
        context = database.begin()
        session = context.__enter__()
        try:
            yield session
        except BaseException as error:
            if not context.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            # What is flushed here is counted as statements; the commit itself only here.
            session.flush()
            before = time.perf_counter()
            context.__exit__(None, None, None)
            self.spent_s += time.perf_counter() - before


def _people(stripe: FakeStripe, count: int, amount_minor: int) -> list[UUID]:
    """Experts with accounts at Stripe, each owed an amount of a lab's settled money."""
    stripe.ask("POST", "/_balance/top_up", amount=count * amount_minor)
    accounts = stripe.ask("POST", "/_accounts", count=count)["ids"]
    at = datetime.now(UTC)
    owners = [uuid4() for _ in accounts]
    with database.begin() as session:
        session.execute(
            insert(Payee),
            [
                {
                    "id": uuid4(),
                    "owner_id": owner,
                    "country": "US",
                    "created_at": at,
                    "account_id": account,
                    "transfers_status": "active",
                }
                for owner, account in zip(owners, accounts, strict=True)
            ],
        )
        fund = Line(chart.stripe_clearing(), chart.lab_funding(LAB), count * amount_minor)
        post_entry(session, key="bench:fund", kind="fund", lines=[fund], at=at)
    for i in range(0, count, 500):
        with database.begin() as session:
            for owner in owners[i : i + 500]:
                line = Line(chart.lab_funding(LAB), chart.owed_to(owner), amount_minor)
                post_entry(session, key=f"bench:{owner}", kind="earning", lines=[line], at=at)
    with database.begin() as session:
        fold_hot_accounts(session)
    return owners


def _pay(owners: list[UUID], gateway: Gateway, clock: Clock, meter: Meter, rate: WriteRate) -> int:
    """Open and send everybody's payout; how many transfers were confirmed."""
    for i in range(0, len(owners), LOT):
        owed = [(owner_id, "USD") for owner_id in owners[i : i + LOT]]
        with meter.begin() as session:
            opened = open_payouts(
                session, owed, period_end=PERIOD_END, at=clock.now(), policy=AT_ONCE
            )
            assert len(opened.new) == len(owed)
    confirmed = 0
    while outcomes := send_transfers(
        meter.begin, gateway, now=clock.now, policy=AT_ONCE, rate=rate
    ):
        confirmed += sum(outcome.result is Result.CONFIRMED for outcome in outcomes)
    return confirmed


def main(argv: list[str]) -> int:
    """Run, print one JSON document, and say by the exit code whether the bounds were met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench payout-run", description=__doc__)
    parser.add_argument("--payouts", type=int, default=10_000)
    parser.add_argument("--per-second", type=float, default=10.0)
    parser.add_argument(
        "--real-time", action="store_true", help="sleep, instead of a virtual clock"
    )
    asked = parser.parse_args(argv)
    amount = 12_345
    with (
        tempfile.TemporaryDirectory(prefix="stumpwork-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "data") as server,
        FakeStripe(payout_delay_s=1e6, settle_delay_s=0.01) as stripe,
    ):
        migrate(server.url)
        database.open(server.url, pool_size=4)
        owners = _people(stripe, asked.payouts, amount)
        if not asked.real_time:
            stripe.ask("POST", "/_pace", allowed=asked.payouts)
        clock, meter = Clock(real=asked.real_time), Meter()
        meter.attach()
        gateway = Gateway(api_key="sk_test_bench", base_url=stripe.url)
        rate = WriteRate(per_second=asked.per_second, burst=1, wait=clock.wait)
        began, at = time.perf_counter(), clock.now()
        confirmed = _pay(owners, gateway, clock, meter, rate)
        worked = time.perf_counter() - began
        wall = (clock.now() - at).total_seconds()
        # What is looked at afterwards is no part of a run.
        database_s, statements = meter.spent_s, meter.statements
        transfers = len(stripe.every("transfer"))
        pace = stripe.ask("GET", "/_health")
        with database.begin() as session:
            broken = [one.invariant for one in violations(session)]
        stripe.assert_clean()
        database.close()
    share = database_s / wall
    report = {
        "payouts": asked.payouts,
        "confirmed": confirmed,
        "transfers_at_the_stand_in": transfers,
        "clock": "real" if asked.real_time else "virtual",
        "wall_s": round(wall, 1),
        "worked_s": round(worked, 1),
        "database_s": round(database_s, 2),
        "database_ms_a_payout": round(1000 * database_s / asked.payouts, 2),
        "statements_a_payout": round(statements / asked.payouts, 2),
        "database_share": round(share, 4),
        "largest_share": LARGEST_SHARE,
        "payouts_a_second": round(asked.payouts / wall, 2),
        "writes_refused_for_pace": pace["refused_for_pace"] if asked.real_time else None,
        "invariants_broken": broken,
    }
    print(json.dumps(report, indent=2))
    is_whole = confirmed == transfers == asked.payouts and not broken
    return 0 if is_whole and share <= LARGEST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
