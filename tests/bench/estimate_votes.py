"""The truth behind votes, beside public baselines: `python -m tests.bench.estimate_votes DIR`.

DIR holds `votes.parquet` (item, worker, label) and `truth.parquet` (item, truth and, where given,
gold); the name of a public set, or of one of its parts (`crowd_labels/duck`), stands for its data.
The answer is described in docs/consensus.md.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from matching.agreement import Consensus
from matching.confusion import coins, vote_shares
from matching.problem import Bool, Float64, Int64
from matching.votes import UNKNOWN, Votes, VotesInvalid, normal_rows

REPOSITORY = Path(__file__).resolve().parents[2]
SET = "crowd_labels"
LEAST = 1e-6
"""Probabilities are cut here before their logarithm, those of the baselines and ours."""

BINS = 15
"""Bins of equal mass for the calibration error."""

MOST_VOTES = {"glad": 15_000, "mace": 100_000, "crowdkit_dawid_skene": 1_000_000}
"""Votes beyond which a baseline of Crowd-Kit would take minutes and is left out."""

SLOW_S = 1.0
"""A baseline that takes longer is told of as soon as it is done."""

GOLD_SHARE = 0.1
"""Share of a public set's items whose truth is given, in the run with gold."""


class InputRefused(ValueError):
    """A file is missing or says what cannot be read; the sentence names it."""


@dataclass(frozen=True)
class Queue:
    """Votes, what is given, and what is scored.

    Shapes: truth (items,) classes, UNKNOWN without; gold (items,) whether the truth is given.
    """

    votes: Votes
    truth: Int64
    gold: Bool
    labels: list[str]
    dropped: int

    @property
    def given(self) -> Int64:
        """The truth of gold items, UNKNOWN elsewhere, shape (items,)."""
        return np.where(self.gold, self.truth, UNKNOWN)

    @property
    def scored(self) -> Int64:
        """Items whose truth is known here and was not given."""
        return np.flatnonzero((self.truth != UNKNOWN) & ~self.gold)


Json = dict[str, object]


def run(name: str | Path) -> Json:
    """Judge a directory, a public set, or one part of it; what the last line of `main` prints.

    Raises: InputRefused, VotesInvalid.
    """
    folder, asked = Path(name), str(name)
    if folder.name == SET and not (folder / "votes.parquet").exists():
        asked = SET
    elif folder.is_dir():
        return judge(read_folder(folder))
    if asked == SET:
        parts = {part: both(f"{SET}/{part}") for part in parts_of_set()}
        return {"sets": parts, **summary(parts)}
    if asked.startswith(f"{SET}/"):
        return both(asked)
    raise InputRefused(f"{asked} is neither a folder nor {SET} nor {SET}/PART")


def told(message: str) -> None:
    """Progress, for whoever waits."""
    print(message, file=sys.stderr, flush=True)


def both(name: str) -> Json:
    """A part of the public set, without gold and with a tenth of it."""
    part = name.split("/", 1)[1]
    answer: Json = {}
    for way, share in (("without_gold", 0.0), ("with_gold", GOLD_SHARE)):
        told(f"{part}, {way.replace('_', ' ')}")
        answer[way] = judge(read_part(part, gold_share=share))
    return answer


def judge(queue: Queue) -> Json:
    """Figures of ours and of the baselines on one queue."""
    start, worked = time.perf_counter(), time.process_time()
    model = Consensus().fit(queue.votes, queue.given)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - worked
    ours = figures(model.posterior_, queue)
    told(
        f"{len(queue.votes.item)} votes of {queue.votes.reviewers} in {seconds:.2f} s:"
        f" accuracy {ours['accuracy']}, log loss {ours['log_loss']}; baselines"
    )
    return {
        **ours,
        "seconds": round(seconds, 4),
        "cpu_s": round(cpu_s, 4),
        "seconds_per_25k_votes": round(seconds * 25_000 / max(len(queue.votes.item), 1), 4),
        "votes": len(queue.votes.item),
        "items": queue.votes.items,
        "workers": queue.votes.reviewers,
        "classes": queue.votes.classes,
        "gold": int(queue.gold.sum()),
        "scored": len(queue.scored),
        "dropped_rows": queue.dropped,
        "intervals": intervals(model.posterior_, queue),
        "mixture": [
            {"model": s.model, "weight": round(s.weight, 4), "kinship": s.kinship}
            for s in model.shares()[:5]
        ],
        "baselines": baselines(queue),
    }


def figures(posterior: Float64, queue: Queue) -> Json:
    """Accuracy, log loss and calibration error on the scored items; null when there are none.

    Items whose likeliest classes tie count the chance that a fair draw among them is right.
    """
    scored = queue.scored
    if len(scored) == 0:
        return {"accuracy": None, "log_loss": None, "ece": None}
    right, surprise, top = of_items(posterior[scored], queue.truth[scored])
    return {
        "accuracy": round(float(right.mean()), 4),
        "log_loss": round(float(surprise.mean()), 4),
        "ece": round(calibration_error(top, right), 4),
    }


def of_items(posterior: Float64, truth: Int64) -> tuple[Float64, Float64, Float64]:
    """For each item: whether the likeliest class is right, surprise in nats, and its certainty."""
    chance = np.maximum(posterior, LEAST)
    chance = chance / chance.sum(axis=1, keepdims=True)
    top = chance.max(axis=1)
    ties = chance >= top[:, None] * (1 - 1e-9)
    at = np.arange(len(truth))
    right = ties[at, truth] / ties.sum(axis=1)
    return right, -np.log(chance[at, truth]), top


def calibration_error(certainty: Float64, right: Float64) -> float:
    """Mean distance of certainty and accuracy over bins of equal mass.

    Source: Nguyen, O'Connor, EMNLP 2015, with the certainty of the likeliest class.
    """
    order = np.argsort(certainty, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    gaps = [abs(float(certainty[p].mean() - right[p].mean())) * len(p) for p in parts]
    return sum(gaps) / len(order)


def intervals(posterior: Float64, queue: Queue, draws: int = 300) -> Json:
    """Nine tenths intervals of accuracy and log loss, by drawing items again."""
    scored = queue.scored
    if len(scored) < 2:
        return {"accuracy": None, "log_loss": None}
    right, surprise, _ = of_items(posterior[scored], queue.truth[scored])
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, len(scored), len(scored)) for _ in range(draws)]

    def band(values: Float64) -> list[float]:
        means = np.array([values[row].mean() for row in rows])
        return [round(float(edge), 4) for edge in np.quantile(means, [0.05, 0.95])]

    return {"accuracy": band(right), "log_loss": band(surprise)}


def baselines(queue: Queue) -> Json:
    """Public ways to the same answer, in the same run; those not installed or too slow say so."""
    votes = queue.votes
    counts = votes.counts(votes.weight())
    methods: dict[str, Callable[[], Float64]] = {
        "majority": lambda: vote_shares(counts, 1e-9),
        "smoothed_majority": lambda: vote_shares(counts),
        "dawid_skene": lambda: plain(queue, counts, one_coin=False),
        "one_coin": lambda: plain(queue, counts, one_coin=True),
    }
    installed = importlib.util.find_spec("crowdkit") is not None
    for name, most in MOST_VOTES.items():
        if installed and 0 < len(votes.item) <= most:
            methods[name] = partial(crowdkit, name, queue)
    answer: Json = {}
    for name, method in methods.items():
        start = time.perf_counter()
        posterior = method()
        spent = time.perf_counter() - start
        answer[name] = {**figures(posterior, queue), "seconds": round(spent, 4)}
        if spent > SLOW_S:
            told(f"{name} took {spent:.1f} s")
    for name in MOST_VOTES:
        answer.setdefault(name, "too many votes" if installed else "Crowd-Kit is not installed")
    return answer


def plain(queue: Queue, counts: Float64, *, one_coin: bool, rounds: int = 50) -> Float64:
    """Dawid-Skene by maximum likelihood, and its one-coin form; gold given, nothing shrunk.

    Source: Dawid, Skene, Applied Statistics 28 (1979), eq. 2.3-2.5.
    """
    votes, classes = queue.votes, queue.votes.classes
    weight = votes.weight()
    table = votes.table(weight)
    back = table.T.tocsr()
    given = np.flatnonzero(queue.gold)
    known = np.eye(classes)[queue.truth[given]]
    posterior = vote_shares(counts, 1e-9)
    for _ in range(rounds):
        posterior[given] = known
        count = (back @ posterior).reshape(-1, classes, classes).transpose(0, 2, 1)
        if one_coin:
            seen = np.maximum(count.sum(axis=(1, 2)), LEAST)
            accuracy = np.trace(count, axis1=1, axis2=2) / seen
            chance = coins(np.clip(accuracy, LEAST, 1 - LEAST), classes)
        else:
            chance = count + 1e-9
            chance = chance / chance.sum(axis=2, keepdims=True)
        columns = np.log(np.maximum(chance, 1e-9)).transpose(0, 2, 1).reshape(-1, classes)
        prior = (posterior.sum(axis=0) + 1e-9) / (len(posterior) + classes * 1e-9)
        posterior = normal_rows(np.log(prior) + table @ columns)
    return posterior


def crowdkit(name: str, queue: Queue) -> Float64:
    """A baseline of Crowd-Kit, which takes no gold; items it does not know get even odds."""
    import pandas as pd
    from crowdkit.aggregation import GLAD, MACE, DawidSkene

    votes = queue.votes
    frame = pd.DataFrame({"task": votes.item, "worker": votes.reviewer, "label": votes.label})
    # It looks rows up by worker and task, and fails when one pair is there twice.
    frame = frame.drop_duplicates(["task", "worker"], keep="last")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "glad":
            answer = GLAD(n_iter=20).fit_predict_proba(frame)
        elif name == "mace":
            answer = MACE(n_restarts=3, n_iter=30, random_state=0).fit_predict_proba(frame)
        else:
            answer = DawidSkene(n_iter=50).fit_predict_proba(frame)
    whole = answer.reindex(index=range(votes.items), columns=range(votes.classes))
    table = whole.to_numpy(np.float64, copy=True)
    table[np.isnan(table).all(axis=1)] = 1.0
    table = np.maximum(np.nan_to_num(table), LEAST)
    return np.asarray(table / table.sum(axis=1, keepdims=True), np.float64)


def summary(parts: dict[str, Json]) -> Json:
    """Means over the parts of the set, for a first look, and where each target is missed."""
    answer: Json = {}
    for way in ("without_gold", "with_gold"):
        rows = {part: result[way] for part, result in parts.items()}
        missed = [part for part, row in rows.items() if isinstance(row, dict) and misses(row)]
        answer[way] = {"beyond_best_accuracy_or_smoothed_log_loss": missed}
    return answer


def misses(row: Json) -> list[str]:
    """Which of the two bounds this queue is outside of: .3 points of the best, the smoothed."""
    table = row["baselines"]
    if not isinstance(table, dict) or row["accuracy"] is None:
        return []
    best = max(float(b["accuracy"]) for b in table.values() if isinstance(b, dict))
    smoothed = float(table["smoothed_majority"]["log_loss"])
    found = []
    if float(str(row["accuracy"])) < best - 0.003:
        found.append("accuracy")
    if float(str(row["log_loss"])) >= smoothed:
        found.append("log_loss")
    return found


def read_folder(folder: Path) -> Queue:
    """A queue from `votes.parquet` and `truth.parquet`.

    Raises: InputRefused.
    """
    votes = read_table(folder / "votes.parquet", ("item", "worker", "label"))
    truth = read_table(folder / "truth.parquet", ("item", "truth"))
    return queue_of(votes, truth)


def read_part(part: str, *, gold_share: float) -> Queue:
    """A part of the public set, with the truth of a share of its items given, drawn by a seed."""
    folder = shared_folder()
    votes = read_table(folder / "labels.parquet", ("set", "task", "worker", "label"))
    truth = read_table(folder / "truth.parquet", ("set", "task", "truth"))
    votes = votes.filter(pc.equal(votes["set"], part)).rename_columns({"task": "item"})
    truth = truth.filter(pc.equal(truth["set"], part)).rename_columns({"task": "item"})
    if len(truth) == 0:
        raise InputRefused(f"{SET} has no part {part!r}")
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(truth), bool)
    chosen[rng.choice(len(truth), round(gold_share * len(truth)), replace=False)] = True
    return queue_of(votes, truth.append_column("gold", pa.array(chosen)))


def parts_of_set() -> list[str]:
    """Names of the parts of the public set."""
    table = read_table(shared_folder() / "truth.parquet", ("set",))
    return sorted(str(name) for name in pc.unique(table["set"]).to_pylist())


def shared_folder() -> Path:
    """Where the public set lies, beside the checkout or where the environment says."""
    beside = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("STUMPWORK_SHARED_DATA", beside)) / "quality" / SET
    if not folder.is_dir():
        raise InputRefused(f"no public data at {folder}")
    return folder


def read_table(path: Path, needed: tuple[str, ...]) -> pa.Table:
    """A Parquet table with at least these columns."""
    if not path.exists():
        raise InputRefused(f"{path.name} is not there")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as unread:
        raise InputRefused(f"{path.name} is no Parquet file") from unread
    for column in needed:
        if column not in table.column_names:
            raise InputRefused(f"{path.name} has no column {column!r}")
        if pa.types.is_nested(table[column].type):
            raise InputRefused(f"{path.name} holds {table[column].type} in {column!r}, not values")
    return table


def queue_of(votes: pa.Table, truth: pa.Table) -> Queue:
    """Numbers for the ids and labels of two tables; rows with an empty cell are counted out."""
    (label, told_truth), labels = numbered(votes["label"], truth["truth"])
    (worker,), _ = numbered(votes["worker"])
    (item, told_item), items = numbered(votes["item"], truth["item"])
    whole = (item >= 0) & (worker >= 0) & (label >= 0)
    known = (told_item >= 0) & (told_truth >= 0)
    answer = np.full(len(items), UNKNOWN)
    gold = np.zeros(len(items), bool)
    answer[told_item[known]] = told_truth[known]
    gold[told_item[known]] = flags(truth)[known]
    return Queue(
        Votes(
            item[whole],
            worker[whole],
            label[whole],
            len(items),
            int(worker.max(initial=-1)) + 1,
            max(len(labels), 1),
        ),
        answer,
        gold,
        labels,
        int((~whole).sum() + (~known).sum()),
    )


def numbered(*columns: pa.ChunkedArray) -> tuple[list[Int64], list[str]]:
    """Numbers for the cells of columns that speak of the same things, and what they stand for.

    The things are numbered in the order of their names; an empty cell is -1.
    """
    found: list[tuple[Int64, list[str | None]]] = []
    for column in columns:
        coded = column.combine_chunks()
        if not pa.types.is_dictionary(coded.type):
            coded = coded.dictionary_encode()
        place = np.asarray(coded.indices.cast(pa.int64()).fill_null(-1), np.int64)
        found.append((place, [text(value) for value in coded.dictionary.to_pylist()]))
    names = sorted({name for _, words in found for name in words if name is not None})
    number = {name: place for place, name in enumerate(names)}
    answer = []
    for place, words in found:
        # One more at the end, for -1: what has no word has no number.
        meant = [-1 if word is None else number[word] for word in words]
        answer.append(np.array([*meant, -1], np.int64)[place])
    return answer, names


def text(value: object) -> str | None:
    """A cell as a text, None when it holds nothing: 1 and 1.0 and "1" and true are one label."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        return f"{value:.0f}" if value == int(value) else repr(value)
    return str(value)


def flags(truth: pa.Table) -> Bool:
    """Which rows are gold: true, or any number but nought; all others, and all without a column."""
    if "gold" not in truth.column_names:
        return np.zeros(len(truth), bool)
    (place,), words = numbered(truth["gold"])
    no = {"0", "false", "no", "f", "n", "none", "nan", ""}
    says = np.array([*(word.strip().lower() not in no for word in words), False], bool)
    return np.asarray(says[place], bool)


def main(argv: list[str]) -> int:
    """Judge what is named; the last line printed is JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench estimate-votes")
    parser.add_argument("name", help=f"a folder, {SET}, or {SET}/PART")
    try:
        answer = run(parser.parse_args(argv).name)
    except (InputRefused, VotesInvalid) as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
