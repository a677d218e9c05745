"""`python -m tests.payouts.mutation`: take one guard of the books away, and see which test fails.

For each guard a database of its own is built by the migrations, one trigger, constraint or check is
taken out of it, and the tests of the ledger and of time run on it as they are. A guard whose loss
no test sees is a guard that could be lost unseen: then the exit code is 1.
"""

import argparse
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGER = (
    "tests/payouts/test_invariants.py",
    "tests/payouts/test_ledger.py",
    "tests/payouts/test_ledger_races.py",
    "tests/payouts/test_money_machine.py",
    "tests/payouts/test_reservations.py",
)
TIME = ("tests/market/test_heartbeats.py", "tests/market/test_sessions.py")


def _without(function: str, check: str, instead: str) -> str:
    """SQL that puts another text in the place of one inside a function of the database's."""
    return f"""
        do $$ declare body text := pg_get_functiondef('payouts.{function}'::regproc); begin
            if position('{check}' in body) = 0 then
                raise exception 'payouts.{function} does not say: {check}';
            end if;
            execute replace(body, '{check}', '{instead}');
        end $$;
    """


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard that is gone: of which invariant, in words, how, and the tests to ask."""

    invariant: str
    gone: str
    statement: str
    tests: tuple[str, ...] = LEDGER


MUTANTS = {
    one.gone: one
    for one in (
        Mutant("", "nothing", "select 1", (*LEDGER, *TIME)),
        Mutant(
            "I1",
            "the check at commit that an entry has its lines",
            "drop trigger journal_entry_complete on payouts.journal_entry",
        ),
        Mutant(
            "I1",
            "the rule that an amount is positive",
            "alter table payouts.posting drop constraint ck_posting_amount",
        ),
        Mutant(
            "I4",
            "the floor of a balance",
            "alter table payouts.ledger_balance drop constraint ck_ledger_balance_floor",
        ),
        Mutant(
            "I6",
            "the rule that a reservation is resolved once",
            "drop index payouts.ix_journal_entry_resolves_id",
        ),
        Mutant(
            "I6",
            "the rule that no more is posted than was reserved",
            _without("apply_posting", "spent + new.amount_minor > reserved", "false"),
        ),
        Mutant(
            "I7",
            "the rule that a key is used once",
            "alter table payouts.journal_entry drop constraint uq_journal_entry_key",
        ),
        Mutant(
            "I9",
            "the counting of promises against a budget",
            "alter table payouts.ledger_balance drop constraint ck_ledger_balance_floor;"
            " alter table payouts.ledger_balance add constraint ck_ledger_balance_floor"
            " check (not has_floor or posted_minor >= 0);"
            + _without(
                "post_entry",
                "posted_minor - promised_minor as available_minor",
                "posted_minor as available_minor",
            ),
        ),
        Mutant(
            "I10",
            "the rule that paid time does not overlap",
            "alter table market.time_entry drop constraint ex_time_entry_expert_id",
            TIME,
        ),
    )
}


class Plugin:
    """Takes the guard out of the template that every test's database is made from."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        """Right after the server is there."""
        made = yield
        if fixturedef.argname == "server":
            with psycopg.connect(str(made).replace("+psycopg", "")) as owner:
                owner.execute(self._mutant.statement.encode())
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed."""
        if report.failed:
            self.failed.append(report.nodeid)


def run_one(gone: str, most: int) -> int:
    """The tests on a database without one guard; a line for each that fails."""
    mutant = MUTANTS[gone]
    plugin = Plugin(mutant)
    asked = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", f"--maxfail={most}"]
    pytest.main([*asked, *mutant.tests], plugins=[plugin])
    for test in plugin.failed:
        print(f"FAILS {test}")
    return 0


def main(argv: list[str]) -> int:
    """Every mutant in a process of its own; the table, and whether each was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.payouts.mutation", description=__doc__)
    parser.add_argument("--most", type=int, default=3, help="stop after so many failures")
    parser.add_argument("--only", help="the guards of one invariant, such as I4")
    parser.add_argument("--one", choices=list(MUTANTS), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        return run_one(options.one, options.most)
    unseen = []
    for gone, mutant in MUTANTS.items():
        if options.only and mutant.invariant != options.only:
            continue
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "tests.payouts.mutation"),
                *("--one", gone, "--most", str(options.most)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        failed = [
            line.removeprefix("FAILS tests/")
            for line in ran.stdout.splitlines()
            if line.startswith("FAILS ")
        ]
        if "[100%]" not in ran.stdout and not failed:
            print(ran.stdout[-2000:], ran.stderr[-2000:], sep="\n")
            unseen.append(f"{gone}: the tests did not run")
        elif bool(failed) != bool(mutant.invariant):
            unseen.append(gone)
        print(f"{mutant.invariant or '-':<4} without {gone}", flush=True)
        for name in failed or ["nothing fails"]:
            print(f"       {name}", flush=True)
    for line in unseen:
        print(f"NOT SEEN: {line}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
