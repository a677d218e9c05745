"""The command that solves a folder of files: ids are text, defaults are filled, bad files named."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from matching.synthetic import SIZES, make_problem
from tests.bench.match_pairs import main
from tests.bench.matching.files import InputRefused, load

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
        ({"limits.json": "[1]", "pairs.csv": PAIRS}, "limits.json is not one object"),
        ({"limits.json": '{"seats": }', "pairs.csv": PAIRS}, "limits.json cannot be read"),
        ({"limits.json": '{"seats": "two"}', "pairs.csv": PAIRS}, "seats is 'two', not a number"),
        ({"limits.json": '{"seats": true}', "pairs.csv": PAIRS}, "seats is True, not a number"),
        (
            {"limits.json": '{"seats": 1e30}', "pairs.csv": PAIRS},
            "seats is 1e+30, not a whole number from 0",
        ),
        ({"limits.json": '{"seats": -1}', "pairs.csv": PAIRS}, "seats is -1, not a whole number"),
        ({"limits.json": '{"seats": 1, "seats": 2}', "pairs.csv": PAIRS}, "names 'seats' twice"),
        ({"limits.json": "[" * 100_000, "pairs.csv": PAIRS}, "limits.json is not one object"),
        ({"limits.json": "{}", "pairs.csv": "expert,task,value\na,x,true\n"}, "true and false"),
        (
            {"limits.json": "{}", "pairs.csv": PAIRS, "experts.csv": "expert,seats\n7,1e30\n"},
            "seats: row 0 is too large",
        ),
        ({"limits.json": "{}", "pairs.csv": ""}, "pairs.csv cannot be read: Empty CSV file"),
        ({"limits.json": "{}", "pairs.csv": PAIRS + ",b,1\n"}, "row 4 names no expert"),
        ({"limits.json": "{}", "pairs.csv": PAIRS + "a,b,high\n"}, "column 'value' is not all"),
        ({"limits.json": "{}", "pairs.csv": PAIRS + "a,b,1,2\n"}, "Expected 3 columns, got 4"),
        ({"limits.json": "{}", "pairs.csv": "expert,task,value,value\na,b,1,2\n"}, "two columns"),
        ({"limits.json": "{}", "pairs.csv.gz": PAIRS}, "pairs.csv.gz cannot be read"),
        ({"limits.json": "{}", "pairs.parquet": PAIRS}, "pairs.parquet cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputRefused, match=re.escape(words)):
        load(tmp_path)


ODD_INPUTS: dict[str, tuple[dict[str, str], dict[str, object], dict[str, object]]] = {
    "no pairs": ({"pairs.csv": "expert,task,value\n"}, {}, {"objective": 0.0, "open_seats": 0}),
    "no pairs under every limit": (
        {"pairs.csv": "expert,task,value,hours,cost\n"},
        {"budget": 5, "hours": 3, "min_load": 1},
        {"objective": 0.0, "bound": 0.0},
    ),
    "one pair without a line's end": (
        {"pairs.csv": "expert,task,value\na,x,1"},
        {},
        {"objective": 1.0, "worst_task_value": 1.0},
    ),
    "ids with commas, quotes, line ends and other letters": (
        {"pairs.csv": 'expert,task,value\n"a,1","x ""y""",1\n"ü\nï",📄,2\n'},
        {},
        {"objective": 3.0},
    ),
    "a mark before the first byte and two marks at a line's end": (
        {"pairs.csv": "\ufeff" + PAIRS.replace("\n", "\r\n")},
        {},
        {"objective": 3.0},
    ),
    "more seats than experts": ({"pairs.csv": PAIRS}, {"demand": 50}, {"open_seats": 97}),
    "floors that cannot be met": (
        {"pairs.csv": PAIRS},
        {"min_load": 2, "seats": 2},
        {"missed_min_load": 4, "seats_filled": 2},
    ),
    "nobody has a seat": (
        {"pairs.csv": PAIRS},
        {"seats": 0},
        {"objective": 0.0, "seats_filled": 0},
    ),
    "limits of null and of infinitely much": (
        {"pairs.csv": PAIRS},
        {"seats": None, "min_load": None, "budget": float("inf")},
        {"objective": 3.0, "ignored": []},
    ),
    "no end of hours and money, and a mark before the first limit": (
        {
            "pairs.csv": "expert,task,value,hours,cost\na,x,1,2,3\nb,y,2,3,4\n",
            "tasks.csv": "task,project\nx,p\ny,q\n",
            "projects.csv": "project,budget\np,inf\nq,3\n",
            "experts.csv": "expert,hours\na,inf\nb,9\n",
            "limits.json": '\ufeff{"hours": 1, "budget": ' + "9" * 5000 + "}",
        },
        {},
        {"objective": 1.0, "open_seats": 1},
    ),
    "columns and limits that mean nothing here": (
        {
            "pairs.csv": PAIRS.replace("value", "value,colour")
            .replace("5\n", "5,red\n")
            .replace("1\n", "1,red\n")
            .replace("2\n", "2,red\n")
        },
        {"budget": 3},
        {
            "objective": 3.0,
            "ignored": [
                "pairs: column 'colour' has no meaning here",
                "budget limits nothing: pairs have no column 'cost'",
            ],
        },
    ),
    "nobody is worth anything": (
        {"pairs.csv": "expert,task,value\na,x,-1\n"},
        {},
        {"objective": 0.0, "open_seats": 1},
    ),
}


@pytest.mark.parametrize("name", ODD_INPUTS)
def test_odd_inputs_are_solved_and_proved(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, limits, told = ODD_INPUTS[name]
    for file, text in ({"limits.json": json.dumps(limits)} | files).items():
        (tmp_path / file).write_bytes(text.encode())
    said = answered(capsys, str(tmp_path))
    assert {key: said[key] for key in told} == told
    assert (said["verified"], said["gap"]) == (True, 0.0)


def test_a_text_over_two_lines_is_read_wherever_the_file_is_cut(tmp_path: Path) -> None:
    # More than the megabyte that is read at once; whole numbers first, then others.
    values = [n if n < 15_000 else n + 0.5 for n in range(16_000)]
    rows = [f'"expert\n{n}",{"long task " * 6}{n},{value}' for n, value in enumerate(values)]
    (tmp_path / "pairs.csv").write_text("\n".join(["expert,task,value", *rows]))
    (tmp_path / "limits.json").write_text("{}")
    loaded = load(tmp_path)
    assert (len(loaded.experts), loaded.experts[-1]) == (16_000, "expert\n15999")
    assert loaded.problem.value[-1] == 15999.5


def test_ids_that_are_numbers_or_bytes_are_texts_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "limits.json").write_text("{}")
    (tmp_path / "tasks.csv").write_text("task,demand\n7,2\n")
    for experts in ([1, 2, 2], pa.array(["a", "b", "b"]).dictionary_encode(), [b"a", b"b", b"b"]):
        table = pa.table({"expert": experts, "task": [7, 7, 8], "value": [1, 2, 3]})
        pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
        said = answered(capsys, str(tmp_path))
        assert (said["objective"], said["open_seats"], said["verified"]) == (4.0, 1, True)
    nested = pa.table({"expert": [[1]], "task": [7], "value": [1.0]})
    pyarrow.parquet.write_table(nested, tmp_path / "pairs.parquet")
    assert "no text and no number" in str(answered(capsys, str(tmp_path))["refused"])


@pytest.mark.slow
def test_a_million_pairs_are_read_solved_and_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(4)
    key = rng.choice(200_000 * 20_000, 1_000_000, replace=False)
    table = pa.table(
        {
            "expert": [f"expert {n}" for n in (key % 200_000).tolist()],
            "task": (key // 200_000).astype(np.int64),
            "value": rng.uniform(0, 10, len(key)),
        }
    )
    pyarrow.csv.write_csv(table, tmp_path / "pairs.csv")
    (tmp_path / "limits.json").write_text('{"demand": 3, "seats": 2}')
    said = answered(capsys, str(tmp_path))
    assert (said["gap"], said["open_seats"], said["verified"]) == (0.0, 0, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"weights": {"stmp": 1}}', "stmp"), ("{", "Expecting"), (None, "No such file")],
)
def test_a_policy_that_cannot_be_read_is_refused(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    (tmp_path / "limits.json").write_text("{}")
    policy = tmp_path / "policy.json"
    if text is not None:
        policy.write_text(text)
    said = answered(capsys, str(tmp_path), "--policy", str(policy))
    assert words in str(said["refused"])


def test_a_pair_that_is_there_twice_is_refused_by_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS + "007,a,3\n")
    (tmp_path / "limits.json").write_text("{}")
    said = answered(capsys, str(tmp_path))
    assert "expert[4]" in str(said["refused"])
