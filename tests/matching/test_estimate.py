import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matching.problem import Float64
from tests.bench import estimate
from tests.bench.estimating.responses import auc, ece, read_responses
from tests.matching.answers import make_responses

NAMED = {"log_loss", "auc", "brier", "ece", "update_us", "refit_s", "baselines"}


def judged(folder: Path, table: pa.Table, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    pq.write_table(table, folder / "responses.parquet")
    assert estimate.main([str(folder)]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) >= NAMED
    scores = [answer, *answer["baselines"].values()]
    assert all(np.isfinite(one["log_loss"]) and np.isfinite(one["ece"]) for one in scores)
    return dict(answer)


def test_unseen_rows_are_judged_with_ids_of_any_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_responses(900, subjects=30)
    gaps = rows.covariates[:, 0].copy()
    gaps[::9] = np.nan
    words = [f"person {n}" for n in rows.subject]
    table = pa.table(
        {
            "subject": pa.array(words).dictionary_encode(),
            "item": rows.item.astype(np.int32),
            "time": pa.array((rows.time * 86_400e6).astype(np.int64), pa.timestamp("us")),
            "outcome": rows.outcome.astype(bool),
            "group": [None if n % 3 == 0 else f"field {n % 3}" for n in rows.item],
            "x_said": gaps,
            "x_word": [["low", "high", None][n % 3] for n in rows.subject],
            "split": ["test" if n >= 22 else "train" for n in rows.subject],
        }
    )
    answer = judged(tmp_path, table, capsys)
    beside = answer["baselines"]
    assert isinstance(beside, dict)
    assert answer["log_loss"] < min(beside[n]["log_loss"] for n in ("item_mean", "subject_rate"))


def test_without_a_split_the_first_part_in_time_is_for_fitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_responses(400)
    order = np.random.default_rng(0).permutation(400)
    table = pa.table(
        {
            "subject": rows.subject[order],
            "item": rows.item[order],
            "time": pa.array(
                [None if n == 5 else float(t) for n, t in enumerate(rows.time[order])]
            ),
            "outcome": rows.outcome[order],
        }
    )
    answer = judged(tmp_path, table, capsys)
    assert answer["rows"] == {"train": 160, "test": 240}


@pytest.mark.parametrize("rows", [1, 3, 12])
def test_a_handful_of_rows_of_one_class_is_judged_too(
    rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"subject": ["a"] * rows, "item": ["b"] * rows, "outcome": [1] * rows})
    answer = judged(tmp_path, table, capsys)
    assert answer["auc"] is None


def test_a_missing_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main([str(tmp_path / "nothing")]) == 2
    assert "no folder with responses.parquet" in capsys.readouterr().err


def test_scores_are_what_their_definitions_say() -> None:
    outcome: Float64 = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(outcome, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(outcome, np.full(4, 0.5)) == 0.5
    assert auc(np.ones(4), np.full(4, 0.5)) is None
    assert ece(np.tile(outcome, 300), np.full(1200, 0.5)) == pytest.approx(0.0)
    assert ece(np.ones(30), np.full(30, 0.7)) == pytest.approx(0.3)


def test_a_folder_that_cannot_be_judged_is_refused_by_name_and_not_with_a_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"subject": [1, 2], "item": [1, 1], "outcome": [1.0, 0.0]}
    wrong: dict[str, dict[str, object]] = {
        "there is no column 'item'": {"subject": [1], "outcome": [1.0]},
        "nothing to judge": {name: pa.array([], pa.float64()) for name in rows},
        "not between 0 and 1": {**rows, "outcome": [2.0, 0.0]},
        "holds string, such as 'yes', which is no number": {**rows, "outcome": ["yes", "no"]},
        "that is to be predicted has one": {
            **rows,
            "split": ["train", "test"],
            "outcome": [1.0, None],
        },
        "subject: holds list": {**rows, "subject": [[1], [2]]},
        "x_a: holds list": {**rows, "x_a": [[1], [2]]},
    }
    for said, table in wrong.items():
        pq.write_table(pa.table(table), tmp_path / "responses.parquet")
        assert estimate.main([str(tmp_path)]) == 2
        assert said in capsys.readouterr().err


def test_days_may_be_dates_texts_or_far_away(tmp_path: Path) -> None:
    day = datetime(2999, 1, 1, tzinfo=UTC)
    rows = {"subject": [1, 2], "item": [1, 1], "outcome": [1.0, 0.0]}
    for days in ([day, day + timedelta(days=1)], ["2999-01-01T00:00:00", "2999-01-02T00:00:00"]):
        pq.write_table(pa.table({**rows, "time": days}), tmp_path / "responses.parquet")
        split = read_responses(tmp_path / "responses.parquet")
        assert np.diff(split.test.time).tolist() == [1.0]


@pytest.mark.parametrize("name", ["responses.parquet", "votes.parquet"])
def test_what_is_no_table_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"no table")
    assert estimate.main([str(tmp_path)]) == 2
    assert f"{name}" in capsys.readouterr().err


def test_votes_without_the_truth_beside_them_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = {"item": [1, 2], "worker": [1, 1], "label": [[1], [0]]}
    pq.write_table(pa.table(votes), tmp_path / "votes.parquet")
    assert estimate.main([str(tmp_path)]) == 2
    assert "holds list" in capsys.readouterr().err
    pq.write_table(pa.table({**votes, "label": [1, 0]}), tmp_path / "votes.parquet")
    assert estimate.main([str(tmp_path)]) == 2
    assert "truth.parquet is not there" in capsys.readouterr().err
