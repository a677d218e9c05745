"""`python -m tests.conformance [ROW ...]`: run the scenarios of requirements, tell of each row.

A row passes when all of its scenarios do. A scenario that skips leaves its row unproven, and a row
without a scenario is listed as one. Exit code: 0 when no row failed, 1 when one did, 2 for a row
that is not known.
"""

import argparse
import os
import sys
from dataclasses import dataclass, field

import pytest

from tests.conformance.rows import every_row, name_of, places, scenarios


@dataclass
class Outcomes:
    """What became of each test, as a plugin of pytest: the worst of its parts and their seconds."""

    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = name_of(report.nodeid)
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.failed:
            self.failed.add(name)
        elif report.skipped:
            self.skipped.add(name)
        elif report.when == "call":
            self.passed.add(name)
            for what, value in report.user_properties:
                self.measured[name] = f"{what} {value}"

    def of(self, names: list[str]) -> str:
        """What a row with these scenarios came to."""
        if self.failed.intersection(names):
            return "failed"
        if self.skipped.intersection(names) or not self.passed.issuperset(names):
            return "unproven"
        return "passed"


def line(row: str, names: list[str], seen: Outcomes) -> str:
    """One requirement: what it came to, how long it took, its scenarios and their figures."""
    seconds = sum(seen.seconds.get(name, 0.0) for name in names)
    told = "; ".join(name.replace("_", " ") for name in names)
    figures = "; ".join(seen.measured[name] for name in names if name in seen.measured)
    return f"{row:6} {seen.of(names):8} {seconds:7.1f} s  {told}" + (figures and f" [{figures}]")


def main() -> int:
    """Run what was asked for and tell of each row."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="as F12 or 1B-6; all by default")
    parser.add_argument("-n", "--processes", type=int, default=min(4, os.cpu_count() or 1))
    asked = parser.parse_args()
    known, table, found = every_row(), scenarios(), places()
    if strangers := [row for row in asked.rows if row not in known]:
        print(f"no such requirement: {', '.join(strangers)}", file=sys.stderr)
        return 2
    rows = [row for row in known if row in (asked.rows or known)]
    wanted = [row for row in rows if row in table]
    nodes = sorted({found[name] for row in wanted for name in table[row]})
    seen = Outcomes()
    if nodes:
        # Slow scenarios run too; quiet, for the lines below are the report.
        options = ["-m", "", "-q", "-p", "no:cacheprovider", "-n", str(asked.processes)]
        ended = pytest.main([*options, "--dist", "loadfile", *nodes], plugins=[seen])
        if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return int(ended)
    for row in wanted:
        print(line(row, table[row], seen))
    told = [seen.of(table[row]) for row in wanted]
    without = [row for row in rows if row not in table]
    print(f"{told.count('passed')} passed, {told.count('failed')} failed, ", end="")
    print(f"{told.count('unproven')} unproven, {len(without)} without a scenario", end="")
    print(f": {' '.join(without)}" if without else "")
    return 1 if "failed" in told else 0


if __name__ == "__main__":
    sys.exit(main())
