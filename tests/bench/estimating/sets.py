"""The sets of the shared quality data as rows to judge, on the splits that their READMEs name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matching.problem import Float64, Int64
from matching.responses import Responses
from tests.bench.estimating import contests, releases
from tests.bench.estimating.responses import Split, codes, reals, run_responses

Judge = Callable[[Path], dict[str, object]]


def quality() -> Path:
    """The folder of the shared quality data, beside the checkout or where the environment says."""
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    return Path(os.environ.get("STUMPWORK_SHARED_DATA", beside)) / "quality"


def _marks(words: list[str | None], least: int) -> Float64:
    """A column of nought and one for each word that is written at least so often."""
    split = [set((one or "").split("|")) - {""} for one in words]
    known = sorted({word for one in split for word in one})
    table = np.array([[word in one for word in known] for one in split], np.float64)
    return table[:, table.sum(axis=0) > least]


def _by_word(table: pa.Table, rows: Responses) -> Split:
    word = np.array(table["split"].to_pylist())
    train, test = np.flatnonzero(word == "train"), np.flatnonzero(word == "test")
    return Split(rows.take(train).in_time(), rows.take(test).in_time(), True)


def psn_irt(root: Path) -> Split:
    """Models by benchmark items, the authors' own split of the cells."""
    table = pq.read_table(root / "llm_psn_irt" / "responses.parquet")
    bench = codes(pq.read_table(root / "llm_psn_irt" / "items.parquet")["benchmark"])
    item = np.asarray(table["item"].to_numpy(), np.int64)
    rows = Responses(
        subject=codes(table["model"]), item=item, group=bench[item], outcome=reals(table["correct"])
    )
    return _by_word(table, rows)


def learner(root: Path, name: str) -> Split:
    """Learners, split by learner as published, or every fifth of them by a seeded draw.

    A problem's template, where it is told, is its domain: known before anybody answers.
    """
    table = pq.read_table(root / name / "log.parquet")
    user = np.asarray(table["user"].to_numpy(), np.int64)
    no_group = np.zeros(0, np.int64)
    column = "problem" if "problem" in table.column_names else "skill"
    if "step" in table.column_names:
        step = reals(table["step"])
    else:
        order = np.argsort(user, kind="stable")
        first = np.searchsorted(user[order], user[order])
        step = np.empty(len(user))
        step[order] = np.arange(len(user)) - first
    rows = Responses(
        subject=user,
        item=codes(table[column]),
        outcome=reals(table["correct"]),
        time=step,
        group=codes(table["template"]) if "template" in table.column_names else no_group,
    )
    if "split" in table.column_names:
        return _by_word(table, rows)
    _, place = np.unique(user, return_index=True)
    people = user[np.sort(place)]
    drawn = np.random.default_rng(0).permutation(people)[: len(people) // 5]
    is_test = np.isin(user, drawn)
    test = rows.take(np.flatnonzero(is_test)).in_time()
    return Split(rows.take(np.flatnonzero(~is_test)).in_time(), test, True)


def _first_part(rows: Responses) -> Split:
    rows = rows.in_time()
    cut = int(0.4 * len(rows))
    return Split(rows.take(slice(0, cut)), rows.take(slice(cut, None)), False)


def nibbler(root: Path, outcome: str) -> Split:
    """Attempts to stump an image model; the first 40 % in time fit, the rest is predicted."""
    table = pq.read_table(root / "nibbler_r1_r3" / "submissions.parquet")
    marks = [_marks(table[name].to_pylist(), 15) for name in ("attack_modes", "claimed_failures")]
    lengths = [np.log1p(reals(table[n])) for n in ("prompt_chars", "prompt_words", "rewritten_len")]
    targets = _numbers(table["claimed_targets"])
    round_ = reals(table["round"])
    rows = Responses(
        subject=codes(table["submitter"]),
        item=codes(table["dup_cluster"]),
        outcome=reals(table[outcome]),
        time=reals(table["time"]),
        covariates=np.column_stack([*marks, *lengths, targets, round_]),
    )
    return _first_part(rows)


def _numbers(column: pa.ChunkedArray) -> Float64:
    try:
        return reals(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.array([len(one or []) for one in column.to_pylist()], np.float64)


def gahd(root: Path) -> Split:
    """Attempts to fool a classifier that is trained anew each round; human attempts only."""
    table = pq.read_table(root / "gahd_r1_r3" / "entries.parquet")
    human = np.isin(np.array(table["source"].to_pylist()), ["dynabench", "contrastive"])
    table = table.filter(pa.array(human))
    names = ["chars", "words", *(f"z{n}" for n in range(24))]
    round_ = _rounds(table["round"])
    rows = Responses(
        subject=codes(table["author"]),
        item=codes(table["dup_cluster"]),
        group=round_.astype(np.int64),
        outcome=reals(table["fooled"]),
        time=round_,
        covariates=np.column_stack([reals(table[name]) for name in names]),
    ).known()
    return _first_part(rows)


def _rounds(column: pa.ChunkedArray) -> Float64:
    words = [str(one) for one in column.to_pylist()]
    return np.array([float("".join(c for c in one if c.isdigit()) or 0) for one in words])


def advscore(root: Path) -> Split:
    """Models on adversarial questions; a seeded tenth of the cells is predicted."""
    table = pq.read_table(root / "advscore_qa" / "responses.parquet")
    kind = np.array([str(one) for one in table["kind"].to_pylist()])
    kinds = codes(table["set"])
    item = codes(table["item"]) + 100_000 * kinds
    rows = Responses(
        subject=codes(table["subject"]), item=item, group=kinds, outcome=reals(table["correct"])
    )
    drawn: Int64 = np.random.default_rng(0).integers(0, 10, len(rows))
    is_test = (drawn == 0) & (kind == "model") & np.isfinite(rows.outcome)
    return Split(
        rows.take(np.flatnonzero(~is_test)).known(), rows.take(np.flatnonzero(is_test)), True
    )


SETS: dict[str, Judge] = {
    "llm_psn_irt": lambda root: run_responses(psn_irt(root)),
    "learner_statics": lambda root: run_responses(learner(root, "learner_statics")),
    "learner_assist2009": lambda root: run_responses(learner(root, "learner_assist2009")),
    "learner_assist_items": lambda root: run_responses(learner(root, "learner_assist_items")),
    "nibbler_r1_r3": lambda root: run_responses(nibbler(root, "stump")),
    "nibbler_validated": lambda root: run_responses(nibbler(root, "validated")),
    "gahd_r1_r3": lambda root: run_responses(gahd(root)),
    "codeforces_ranks": contests.run,
    "metr_runs": releases.run,
    "advscore_qa": lambda root: run_responses(advscore(root)),
}
