"""`matching` is of use to a stranger: from the wheel, without what the market needs, as shown."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MARKET_ONLY = (
    "alembic",
    "dramatiq",
    "litestar",
    "market",
    "msgspec",
    "payouts",
    "psycopg",
    "sqlalchemy",
    "stripe",
    "structlog",
)
OUT_OF_REACH = f"""
import sys
for name in {MARKET_ONLY!r}:
    sys.modules[name] = None  # Importing it raises ImportError.
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `matching` alone, as the wheel has it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        ours = [name for name in content.namelist() if name.startswith("matching/")]
        content.extractall(folder / "alone", ours)
    return folder / "alone"


def said(program: str, folder: Path) -> str:
    """What a program prints that sees this folder and the installed packages, nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_REACH + program],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_worked_example_runs_from_the_wheel_alone(installed: Path) -> None:
    page = (REPOSITORY / "docs" / "matching.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    program = "\n".join(blocks) + "\nimport matching\nprint(matching.__file__)\n"
    last = said(program, installed).splitlines()
    assert last[-1].startswith(str(installed))
    assert last[0].endswith(".")


def test_every_module_of_it_loads_without_what_the_market_needs(installed: Path) -> None:
    program = """
import importlib, pkgutil, matching
names = [one.name for one in pkgutil.iter_modules(matching.__path__, "matching.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    modules = len([one for one in installed.glob("matching/*.py") if one.name != "__init__.py"])
    assert int(said(program, installed)) == modules > 50
