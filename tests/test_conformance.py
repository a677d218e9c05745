"""Requirements and their scenarios: every scenario that a row names is there, and runs."""

import subprocess
import sys

from tests.conformance.rows import every_row, places, scenarios


def test_every_scenario_of_a_requirement_is_there_and_every_row_is_one() -> None:
    table, found = scenarios(), places()
    assert set(table) <= set(every_row())
    assert [name for names in table.values() for name in names if name not in found] == []
    assert all(names for names in table.values())


def test_a_requirement_is_run_and_told_in_one_line() -> None:
    asked = [sys.executable, "-m", "tests.conformance", "-n", "1"]
    ran = subprocess.run([*asked, "1A-19", "F5"], capture_output=True, text=True, timeout=600)
    *_, row, total = ran.stdout.splitlines()
    assert (ran.returncode, row.split()[:2]) == (0, ["1A-19", "passed"]), ran.stdout + ran.stderr
    assert total == "1 passed, 0 failed, 0 unproven, 1 without a scenario: F5"
    unknown = subprocess.run([*asked, "F91"], capture_output=True, text=True, timeout=600)
    assert (unknown.returncode, unknown.stderr) == (2, "no such requirement: F91\n")
