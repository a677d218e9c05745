"""The bench of votes on files as they come: odd columns, odd labels, nothing to score."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matching.confusion import coins
from tests.bench import estimate_votes
from tests.matching.crowds import crowd

Columns = dict[str, list[object]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the baselines of Crowd-Kit, which take minutes."""
    monkeypatch.setattr(estimate_votes, "MOST_VOTES", {})


def write(folder: Path, votes: Columns, truth: Columns) -> Path:
    pq.write_table(pa.table(votes), folder / "votes.parquet")
    pq.write_table(pa.table(truth), folder / "truth.parquet")
    return folder


def queue(seed: int = 1) -> tuple[Columns, Columns]:
    votes, truth = crowd(coins(np.full(15, 0.8), 3), items=150, each=5, seed=seed)
    return (
        {
            "item": [f"i{x}" for x in votes.item],
            "worker": votes.reviewer.tolist(),
            "label": votes.label.tolist(),
        },
        {"item": [f"i{x}" for x in range(150)], "truth": truth.tolist()},
    )


def test_the_last_line_is_json_with_the_figures_that_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes, truth = queue()
    truth["gold"] = [place < 20 for place in range(150)]
    assert estimate_votes.main([str(write(tmp_path, votes, truth))]) == 0
    printed = capsys.readouterr()
    # Who waits for slow baselines is told how far it is.
    assert "votes of" in printed.err
    answer = json.loads(printed.out.splitlines()[-1])
    assert {"accuracy", "log_loss", "ece", "seconds", "baselines"} <= set(answer)
    assert answer["gold"] == 20
    assert answer["scored"] == 130
    assert answer["accuracy"] > 0.9
    smoothed = answer["baselines"]["smoothed_majority"]
    assert answer["log_loss"] < smoothed["log_loss"]
    low, high = answer["intervals"]["accuracy"]
    assert low <= answer["accuracy"] <= high


@pytest.mark.parametrize(
    "gold", [None, [None] * 150, [0.0] * 150, ["no"] * 150, [float("nan")] * 150]
)
def test_without_a_column_or_a_row_of_gold_everything_is_scored(
    tmp_path: Path, gold: list[object] | None
) -> None:
    votes, truth = queue()
    if gold is not None:
        truth["gold"] = gold
    answer = estimate_votes.run(write(tmp_path, votes, truth))
    assert answer["scored"] == 150
    assert float(str(answer["accuracy"])) > 0.9


def test_labels_of_any_type_mean_the_same(tmp_path: Path) -> None:
    votes, truth = queue()
    answers = []
    for place, (voted, told) in enumerate(
        [(int, int), (str, str), (float, int), (str, float), (int, str)]
    ):
        folder = tmp_path / str(place)
        folder.mkdir()
        changed = votes | {"label": [voted(str(x)) for x in votes["label"]]}
        known = truth | {"truth": [told(str(x)) for x in truth["truth"]]}
        answers.append(estimate_votes.run(write(folder, changed, known))["log_loss"])
    assert len(set(answers)) == 1


def test_repeats_gaps_strange_labels_and_one_worker_are_borne(tmp_path: Path) -> None:
    votes: Columns = {
        "item": ["a", "a", "a", "b", None, "c", "c"],
        "worker": ["w", "w", "w", "w", "w", None, "w"],
        "label": ["x", "x", "y", "x", "x", "x", None],
    }
    truth: Columns = {
        "item": ["a", "b", "c", "never", "told"],
        "truth": ["x", "unheard", "x", "x", None],
        "gold": [1, 0, 0, 0, 1],
    }
    answer = estimate_votes.run(write(tmp_path, votes, truth))
    assert answer["votes"] == 4
    assert answer["dropped_rows"] == 4
    assert answer["gold"] == 1
    assert answer["scored"] == 3
    assert "NaN" not in json.dumps(answer)


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_to_score_is_null_and_never_not_a_number(tmp_path: Path, rows: int) -> None:
    strings = pa.array([], pa.string())
    votes = pa.table({"item": strings, "worker": strings, "label": strings})
    pq.write_table(votes, tmp_path / "votes.parquet")
    truth = pa.table({"item": [1, 2, 3][:rows], "truth": [0, 1, 1][:rows], "gold": [True] * rows})
    pq.write_table(truth, tmp_path / "truth.parquet")
    answer = estimate_votes.run(tmp_path)
    assert answer["accuracy"] is None
    assert answer["log_loss"] is None
    assert "NaN" not in json.dumps(answer)


def test_a_file_that_is_not_there_and_a_column_that_is_missing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimate_votes.main([str(tmp_path)]) == 2
    assert "votes.parquet" in capsys.readouterr().err
    assert estimate_votes.main(["no such set"]) == 2
    votes, truth = queue()
    del votes["worker"]
    assert estimate_votes.main([str(write(tmp_path, votes, truth))]) == 2
    assert "'worker'" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["duck", "dog", "face", "cf", "cf_amt", "sp", "product"])
@pytest.mark.parametrize("gold_share", [0.0, 0.1])
def test_public_queues_are_told_with_less_surprise_than_by_the_smoothed_majority(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, part: str, gold_share: float
) -> None:
    monkeypatch.setenv("STUMPWORK_SHARED_DATA", str(shared_data))
    answer = estimate_votes.judge(estimate_votes.read_part(part, gold_share=gold_share))
    assert "log_loss" not in estimate_votes.misses(answer)
    table = answer["baselines"]
    assert isinstance(table, dict)
    # One item of the smaller parts is .2 to 1 points: six items of leeway beside three tenths.
    best = max(float(row["accuracy"]) for row in table.values())
    leeway = 0.003 + 6 / int(str(answer["scored"]))
    assert float(str(answer["accuracy"])) >= best - leeway
