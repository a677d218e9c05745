"""`python -m tests.chaos money`: every write to Stripe, killed at every point, crossed with faults.

A process that plans, sends, relays, takes webhooks in, applies or reconciles is killed by SIGKILL
at a named point (K1 to K11 of the payouts design); beside it the way to Stripe may fail (F2 to
F12). Then everything is started again and let end, and each case is judged: every invariant of the
books, every balance and every line of the stand-in's bank against ours, and each write made once.
The stand-in is ours and was never run against Stripe.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from market.auth import keyring
from market.db import database
from market.embedded import EmbeddedPostgres
from market.settings import Settings, in_force
from payouts.gateway import Gateway
from payouts.states import CallOperation
from tests.chaos.money_case import FAULTS, FULL, Case, Run, Workshop
from tests.chaos.money_process import Place
from tests.chaos.money_writes import Books
from tests.conftest import SECRET as HOUSE_SECRET
from tests.conftest import migrate
from tests.fakestripe import FakeStripe
from tests.payouts.conftest import empty
from tests.payouts.scene import API_KEY, SECRET, THIN_SECRET, Mailbox

CRASHES = tuple(f"K{number}" for number in range(1, 12))
_O = CallOperation
OTHERS = tuple(one for one in CallOperation if one is not _O.TRANSFER)
FOLLOWING = (_O.INVOICE_LINE, _O.INVOICE_OPENING)
"""What the answer to another write plans: K1 and K2 of these are K5 and K6 of that one."""
PAIRED = tuple(one for one in OTHERS if one not in FOLLOWING)
POINTS = ("K4", "K5", "K5", "K4", "K6", "K4", "K5", "K4", "K5", "K6", "K4", "K5")
SHORT = (
    *(Case(_O.TRANSFER, crash) for crash in CRASHES),
    Case(_O.TRANSFER, "K4", "F3"),
    Case(_O.TRANSFER, "K5", "F8"),
    Case(_O.TRANSFER, "K3", "F12"),
    *(Case(operation, crash) for operation, crash in zip(OTHERS, POINTS, strict=True)),
)
"""What fits into a minute: every point, every write, and the faults that cost most."""


def groups() -> dict[str, list[Case]]:
    """The whole matrix, by the reason why each case is in it.

    The writes beside transfers meet faults pairwise: every pair of write and point, of write and
    fault, and of point and fault is there, by a square in which each write follows the next.
    """
    faults = list(FAULTS)
    return {
        "every write at every point": [
            Case(operation, crash)
            for operation in CallOperation
            for crash in CRASHES
            if operation not in FOLLOWING or crash not in ("K1", "K2")
        ],
        "transfers, every point with every fault": [
            Case(_O.TRANSFER, crash, fault) for crash in CRASHES for fault in faults
        ],
        "other writes, points and faults pairwise": [
            Case(PAIRED[(row + column) % len(PAIRED)], crash, fault)
            for row, crash in enumerate(CRASHES)
            for column, fault in enumerate(faults)
        ],
        "what another answer plans, every fault": [
            Case(operation, "K4", fault) for operation in FOLLOWING for fault in faults
        ],
        "more transfers than are leased together": [
            *(Case(_O.TRANSFER, crash, batch=FULL) for crash in ("K3", "K4", "K5", "K6", "K10")),
            *(Case(_O.TRANSFER, "K10", fault, FULL) for fault in ("F3", "F8")),
        ],
    }


def play(cases: Iterable[Case], place: Place, stripe: FakeStripe, mailbox: Mailbox) -> list[str]:
    """Each case on empty books; a line for each that did not pass."""
    broken = []
    with Workshop() as workshop:
        for case in cases:
            stripe.reset()
            stripe.ask("POST", "/_pace", allowed=100_000)
            mailbox.take()
            empty(place.database_url)
            gateway = Gateway(api_key=place.api_key, base_url=stripe.url, timeout_s=2)
            run = Run(case, Books(stripe, mailbox, gateway), workshop, place)
            try:
                run.play()
            except Exception as error:
                broken.append(f"{case}: {type(error).__name__}: {error}")
                print(f"  BROKEN {broken[-1]}", file=sys.stderr, flush=True)
                workshop.end_all()
    return broken


def table(rows: list[tuple[str, int, int, float]]) -> str:
    """Cases, passed and seconds of each group, and of all."""
    cases, passed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    everything = ("all", cases, passed, sum(row[3] for row in rows))
    lines = [f"{'cases':>8} {'passed':>8} {'seconds':>9}"]
    lines += [f"{n:>8} {good:>8} {s:>9.1f}  {name}" for name, n, good, s in [*rows, everything]]
    return "\n".join(lines)


def chosen(options: argparse.Namespace) -> dict[str, list[Case]]:
    """The cases that were asked for."""
    if options.case:
        crash, fault = (*options.case[1:], "")[:2]
        wanted = Case(CallOperation(options.case[0]), crash, fault, options.batch)
        return {"one": [wanted]}
    found = {"short": list(SHORT)} if options.short else groups()
    if options.only:
        wanted_only = CallOperation(options.only)
        found = {
            name: [one for one in cases if one.operation is wanted_only]
            for name, cases in found.items()
        }
    return {name: cases for name, cases in found.items() if cases}


def main(argv: list[str]) -> int:
    """Play, print the table, and say by the exit code whether every case passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos money", description=__doc__)
    parser.add_argument("--short", action="store_true", help="what fits into a minute")
    parser.add_argument("--only", help="one write, such as transfer or refund")
    parser.add_argument(
        "--case", nargs="+", metavar="PART", help="one case, such as: transfer K4 F3"
    )
    parser.add_argument("--batch", type=int, default=0, help="how many writes that case has")
    options = parser.parse_args(argv)
    mailbox = Mailbox()
    mailbox.start()
    base = f"http://127.0.0.1:{mailbox.port}"
    rows, broken = [], []
    with (
        tempfile.TemporaryDirectory(prefix="stumpwork-chaos-money-") as folder,
        EmbeddedPostgres(Path(folder) / "data", durable=False) as server,
        FakeStripe(
            webhook=f"{base}/snapshot",
            webhook_secret=SECRET,
            thin_webhook=f"{base}/thin",
            thin_secret=THIN_SECRET,
            payout_delay_s=0.01,
            settle_delay_s=0.01,
        ) as stripe,
    ):
        migrate(server.url)
        place = Place(
            database_url=server.url,
            stripe_url=stripe.url,
            api_key=API_KEY,
            secret=SECRET,
            thin_secret=THIN_SECRET,
        )
        in_force.open(Settings(database_url=server.url, secret_key=HOUSE_SECRET))
        keyring.open(HOUSE_SECRET)
        database.open(server.url, pool_size=8)
        for name, cases in chosen(options).items():
            began = time.monotonic()
            failed = play(cases, place, stripe, mailbox)
            broken += failed
            rows.append((name, len(cases), len(cases) - len(failed), time.monotonic() - began))
            print(f"  {name}: {rows[-1][2]} of {rows[-1][1]}", file=sys.stderr, flush=True)
        database.close()
    mailbox.stop()
    print(table(rows))
    for line in broken:
        print(f"BROKEN {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
