"""The command that solves a folder of files: ids are text, defaults are filled, bad files named."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from matching.synthetic import SIZES, make_problem
from tests.bench.match_pairs import InputRefused, load, main

PAIRS = "expert,task,value\n007,a,2.5\n7,a,1\n007,b,2\nzoë,b,0.5\n"


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """The last line that the command printed."""
    main(list(words))
    said: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def test_ids_are_text_and_defaults_fill_what_is_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    (tmp_path / "limits.json").write_text(json.dumps({"demand": 1, "seats": 1}))
    (tmp_path / "tasks.csv").write_text("task,demand\na,2\nalone,1\n")
    said = answered(capsys, str(tmp_path), "--out", str(tmp_path / "plan.csv"))
    # Task a takes 007 and 7, and task b the other one: 3.5 + 0.5.
    assert (said["objective"], said["bound"], said["gap"]) == (4.0, 4.0, 0.0)
    assert said["open_seats"] == 1
    assert said["worst_task_value"] == 0.0
    assert said["verified"] is True
    assert '"007","a",2.5,1' in (tmp_path / "plan.csv").read_text()


def test_every_format_and_every_limit_is_read_to_the_same_problem(tmp_path: Path) -> None:
    problem = make_problem(SIZES["XS"], seed=8, budgets=True, hours=True, floors=True)
    assert problem.hours is not None
    assert problem.cost is not None
    assert problem.hours_available is not None
    assert problem.min_load is not None
    assert problem.project is not None
    assert problem.budget is not None
    pairs = pa.table(
        {
            "expert": [f"e{n}" for n in problem.expert],
            "task": [f"t{n}" for n in problem.task],
            "value": problem.value,
            "hours": problem.hours,
            "cost": problem.cost,
        }
    )
    people = pa.table(
        {
            "expert": [f"e{n}" for n in range(problem.experts)],
            "seats": problem.capacity,
            "hours": problem.hours_available,
            "min_load": problem.min_load,
        }
    )
    tasks = pa.table(
        {
            "task": [f"t{n}" for n in range(problem.tasks)],
            "demand": problem.demand,
            "project": [f"p{n}" for n in problem.project],
        }
    )
    money = pa.table(
        {"project": [f"p{n}" for n in range(problem.projects)], "budget": problem.budget}
    )
    for name, table in (
        ("pairs", pairs),
        ("experts", people),
        ("tasks", tasks),
        ("projects", money),
    ):
        for folder in ("columns", "packed"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "limits.json").write_text('{"min_load_price": 0.2}')
        pyarrow.parquet.write_table(table, tmp_path / "columns" / f"{name}.parquet")
        with gzip.open(tmp_path / "packed" / f"{name}.csv.gz", "wb") as out:
            pyarrow.csv.write_csv(table, out)
    for folder in ("columns", "packed"):
        loaded = load(tmp_path / folder).problem
        for name in ("expert", "task", "value", "hours", "cost", "demand", "capacity", "min_load"):
            same = np.asarray(getattr(loaded, name)) == np.asarray(getattr(problem, name))
            assert same.all(), name
        assert loaded.budget is not None
        assert (loaded.budget[: problem.projects] == problem.budget).all()


def test_minimum_loads_hold_where_they_can_and_are_counted_where_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text("expert,task,value\na,x,9\nb,x,-1\nc,y,3\nd,y,1\n")
    (tmp_path / "limits.json").write_text(json.dumps({"seats": 2}))
    (tmp_path / "experts.csv").write_text("expert,min_load\nb,1\n")
    said = answered(capsys, str(tmp_path))
    assert said["value"] == 2.0
    assert said["missed_min_load"] == 0
    (tmp_path / "experts.csv").write_text("expert,min_load\na,1\nb,1\n")
    assert answered(capsys, str(tmp_path))["missed_min_load"] == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "limits.json is missing"),
        ({"limits.json": "{}"}, "pairs.csv, pairs.csv.gz or pairs.parquet is missing"),
        ({"limits.json": '{"seat": 1}', "pairs.csv": PAIRS}, "'seat' is not a limit"),
        ({"limits.json": "{}", "pairs.csv": "expert,task\na,b\n"}, "no column 'value'"),
        (
            {"limits.json": "{}", "pairs.csv": PAIRS, "experts.csv": "expert,seats\na,1\na,2\n"},
            "experts lists an id twice",
        ),
        ({"limits.json": '{"seats": 1.5}', "pairs.csv": PAIRS}, "not a whole number"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputRefused, match=words.replace("(", r"\(")):
        load(tmp_path)


def test_a_pair_that_is_there_twice_is_refused_by_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS + "007,a,3\n")
    (tmp_path / "limits.json").write_text("{}")
    said = answered(capsys, str(tmp_path))
    assert "expert[4]" in str(said["refused"])
