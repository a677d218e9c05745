"""The requirements, their scenarios, and where each of those stands."""

import ast
import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).parent.parent
TABLE = Path(__file__).parent / "rows.toml"

FAMILIES = {"F": 90, "Q": 46, "1A-": 32, "1B-": 45}
# News and background of the founding documents, which ask for nothing.
CONTEXT = frozenset({"1A-31", "1B-45"})


def every_row() -> list[str]:
    """The ids of all requirements that ask for something, in their order."""
    rows = [f"{family}{nth}" for family, count in FAMILIES.items() for nth in range(1, count + 1)]
    return [row for row in rows if row not in CONTEXT]


def scenarios() -> dict[str, list[str]]:
    """For each requirement the names of its tests, without `test_`."""
    return tomllib.loads(TABLE.read_text())


def places() -> dict[str, str]:
    """Where each test stands: its name without `test_` to what pytest calls it.

    A name that two files use is left out: no row can mean both.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = node.name.removeprefix("test_")
                if name in found:
                    twice.add(name)
                found[name] = f"{path.relative_to(TESTS.parent)}::{node.name}"
    return {name: place for name, place in found.items() if name not in twice}


def name_of(nodeid: str) -> str:
    """The name of a test, without `test_` and parameters, from what pytest calls it."""
    return re.sub(r"\[.*", "", nodeid.rsplit("::", 1)[-1]).removeprefix("test_")
