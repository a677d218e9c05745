"""Judges the stump model on answers: who answered what, when, and how it ended.

`run(folder)` reads `responses.parquet`; `run_responses` judges rows that are at hand already.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import expit
from scipy.stats import rankdata

from matching.design import Factor
from matching.forecaster import Forecaster
from matching.mixture import Elo, Glicko, log_odds
from matching.problem import Float64, Int64
from matching.refit import fit_map
from matching.responses import BadResponses, Responses

BINS = 15
DRAWS = 200
FIRST_SHARE = 0.4
"""Share of the rows, in time, that is for fitting where no split is given."""


@dataclass(frozen=True)
class Split:
    """Rows for fitting, and rows to be predicted one by one."""

    train: Responses
    test: Responses
    has_split: bool


def told(message: str) -> None:
    """Progress, for whoever waits."""
    print(message, file=sys.stderr, flush=True)


# --- Reading --------------------------------------------------------------------------------------


def codes(column: pa.ChunkedArray) -> Int64:
    """Integers for ids of any type, -1 where there is none."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)


def reals(column: pa.ChunkedArray) -> Float64:
    """Numbers of any column: dates as days, truth as nought and one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        ticks = column.cast(pa.timestamp("us")).cast(pa.int64())
        # Microseconds of a far day are more than a double tells apart, which no day minds.
        return reals(ticks.cast(pa.float64(), safe=False)) / 86_400e6
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.float64())
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def column_of(table: pa.Table, name: str) -> Float64:
    """The numbers of a column, where days may be written out as well.

    Raises: BadResponses, where it holds neither.
    """
    column = table[name]
    try:
        return reals(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    try:
        return reals(column.cast(pa.timestamp("us")))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unread:
        raise BadResponses(name, -1, f"holds {_seen(column)}, which is no number") from unread


def codes_of(table: pa.Table, name: str) -> Int64:
    """Integers for the ids of a column.

    Raises: BadResponses, where its cells are tables themselves.
    """
    if pa.types.is_nested(table[name].type):
        raise BadResponses(name, -1, f"holds {table[name].type}, not ids")
    return codes(table[name])


def _seen(column: pa.ChunkedArray) -> str:
    known = column.drop_null()
    return f"{column.type}, such as {str(known[0].as_py())[:40]!r}" if len(known) else "nothing"


def read_responses(path: Path) -> Split:
    """The rows of a file, in time, divided as the file or the convention says.

    Raises: BadResponses, where a column is missing, there are no rows, or an outcome is no
        probability.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as unread:
        raise BadResponses(path.name, -1, "is no Parquet file") from unread
    names = set(table.column_names)
    for name in ("subject", "item", "outcome"):
        if name not in names:
            raise BadResponses(name, -1, f"there is no column {name!r} in {path}")
    rows = table.num_rows
    outcome = column_of(table, "outcome")
    if not np.isfinite(outcome).any():
        raise BadResponses("outcome", -1, f"no row of {path} has one, so there is nothing to judge")
    order = np.arange(rows, dtype=np.float64)
    moment = column_of(table, "time") if "time" in names else order
    # A row whose time nobody wrote down happened with the row before it.
    missing = ~np.isfinite(moment)
    if missing.any():
        before = np.maximum.accumulate(np.where(missing, -1, np.arange(rows)))
        moment = np.where(
            before >= 0, moment[before], np.nanmin(moment) if not missing.all() else 0
        )
    wide = sorted(name for name in names if name.startswith("x_"))
    # A word is no number: each value of it has an effect of its own.
    words = [name for name in wide if _is_word(table[name])]
    covariates = [name for name in wide if name not in words]
    every = Responses(
        subject=codes_of(table, "subject"),
        item=codes_of(table, "item"),
        outcome=outcome,
        time=moment,
        group=codes_of(table, "group") if "group" in names else np.zeros(0, np.int64),
        covariates=np.column_stack([_finite(column_of(table, name)) for name in covariates])
        if covariates
        else np.zeros((rows, 0)),
        context=np.column_stack([codes(table[name]) for name in words])
        if words
        else np.zeros((rows, 0), np.int64),
    )
    if "split" in names:
        word = np.array([str(one) for one in table["split"].to_pylist()])
        is_test = word == "test"
        is_train = np.isin(word, ["train", "valid", "validation", "dev"])
        if is_test.any():
            train = every.take(np.flatnonzero(is_train)).in_time()
            test = every.take(np.flatnonzero(is_test)).in_time()
            return _with_answers(Split(train, test, True), path)
    every = every.in_time()
    cut = int(FIRST_SHARE * rows)
    return _with_answers(
        Split(every.take(slice(0, cut)), every.take(slice(cut, None)), False), path
    )


def _with_answers(split: Split, path: Path) -> Split:
    if not np.isfinite(split.test.outcome).any():
        raise BadResponses("outcome", -1, f"no row of {path} that is to be predicted has one")
    return split


def _is_word(column: pa.ChunkedArray) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    try:
        column.cast(kind).cast(pa.float64())
    except pa.ArrowInvalid:
        return True
    return False


def _finite(values: Float64) -> Float64:
    return np.where(np.isfinite(values), values, np.nan)


# --- Scores ---------------------------------------------------------------------------------------


def log_losses(outcome: Float64, chance: Float64) -> Float64:
    """Log loss of each row."""
    p = np.clip(chance, 1e-6, 1 - 1e-6)
    return -(outcome * np.log(p) + (1 - outcome) * np.log1p(-p))


def auc(outcome: Float64, chance: Float64) -> float | None:
    """Probability that a success was given more than a failure; None where one kind is missing."""
    positive = outcome > 0.5
    up, down = int(positive.sum()), int((~positive).sum())
    if not up or not down:
        return None
    rank = rankdata(chance)
    return float((rank[positive].sum() - up * (up + 1) / 2) / (up * down))


def ece(outcome: Float64, chance: Float64) -> float:
    """Expected calibration error over bins of equal mass."""
    order = np.argsort(chance, kind="stable")
    gap = 0.0
    for part in np.array_split(order, BINS):
        if len(part):
            gap += abs(float(outcome[part].mean() - chance[part].mean())) * len(part)
    return gap / max(len(order), 1)


def scored(outcome: Float64, chance: Float64) -> dict[str, float | None]:
    """The four scores of a set of predictions."""
    return {
        "log_loss": round(float(log_losses(outcome, chance).mean()), 5),
        "auc": _rounded(auc(outcome, chance)),
        "brier": round(float(((outcome - chance) ** 2).mean()), 5),
        "ece": round(ece(outcome, chance), 5),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def intervals(
    outcome: Float64, chance: Float64, cluster: Int64, draws: int = DRAWS
) -> dict[str, list[float]]:
    """90 % intervals of the scores by drawing whole subjects anew."""
    _, at = np.unique(cluster, return_inverse=True)
    order = np.argsort(at, kind="stable")
    edge = np.concatenate([[0], np.cumsum(np.bincount(at))])
    rng = np.random.default_rng(0)
    draws = draws if len(outcome) < 200_000 else draws // 4
    rows: dict[str, list[float]] = {"log_loss": [], "auc": [], "brier": [], "ece": []}
    for _ in range(draws):
        drawn = rng.integers(0, len(edge) - 1, len(edge) - 1)
        taken = np.concatenate([order[edge[n] : edge[n + 1]] for n in drawn])
        for name, value in scored(outcome[taken], chance[taken]).items():
            if value is not None:
                rows[name].append(value)
    return {
        name: [round(float(q), 5) for q in np.quantile(values, [0.05, 0.95])]
        for name, values in rows.items()
        if values
    }


# --- Baselines ------------------------------------------------------------------------------------


def _online(
    split: Split, look: Callable[[int, int], float], learn: Callable[[int, int, float], None]
) -> Float64:
    """A baseline that learns each row after predicting it, through both parts."""
    for u, i, y in _triples(split.train):
        learn(u, i, y)
    found = np.empty(len(split.test))
    for n, (u, i, y) in enumerate(_triples(split.test)):
        found[n] = look(u, i)
        learn(u, i, y)
    return found


def _triples(rows: Responses) -> "zip[tuple[int, int, float]]":
    return zip(rows.subject.tolist(), rows.item.tolist(), rows.outcome.tolist(), strict=True)


def baselines(split: Split) -> dict[str, Float64]:
    """Public baselines on the same rows, each predicted before it is revealed."""
    base = (float(split.train.outcome.sum()) + 1) / (len(split.train) + 2)
    found: dict[str, Float64] = {}
    item: dict[int, list[float]] = {}
    subject: dict[int, list[float]] = {}

    def add(held: dict[int, list[float]]) -> Callable[[int, float], None]:
        def one(key: int, y: float) -> None:
            pair = held.setdefault(key, [0.0, 0.0])
            pair[0] += y
            pair[1] += 1

        return one

    def rate(held: dict[int, list[float]], key: int) -> float:
        pair = held.get(key, [0.0, 0.0])
        return (pair[0] + 5 * base) / (pair[1] + 5)

    add_item, add_subject = add(item), add(subject)
    found["item_mean"] = _online(split, lambda u, i: rate(item, i), lambda u, i, y: add_item(i, y))
    found["subject_rate"] = _online(
        split, lambda u, i: rate(subject, u), lambda u, i, y: add_subject(u, y)
    )
    elo = Elo(log_odds(base))
    found["elo"] = expit(_online(split, elo.look, elo.learn))
    glicko = Glicko(log_odds(base))
    found["glicko"] = expit(_online(split, glicko.look, glicko.learn))
    found["rasch"] = _rasch(split)
    boosted = _boosted(split)
    if boosted is not None:
        found["lightgbm"] = boosted
    return found


def _rasch(split: Split) -> Float64:
    """One-parameter model fitted on the train rows; the ability of each subject then follows it."""
    train = split.train
    _, u = np.unique(train.subject, return_inverse=True)
    item, i = np.unique(train.item, return_inverse=True)
    fit = fit_map(
        np.ones((len(train), 1)),
        [Factor(i, len(item), 2.0), Factor(u, int(u.max(initial=-1)) + 1, 1.0)],
        train.outcome, train.weight,
        penalised=np.array([0.05]), rising=np.zeros(0, np.int64), rounds=1,
    )  # fmt: skip
    easy = dict(zip(item.tolist(), fit.level[0].tolist(), strict=True))
    able: dict[int, list[float]] = {}
    shift = float(fit.dense[0])
    code = np.unique(train.subject)
    for key, mean, spread in zip(
        code.tolist(), fit.level[1].tolist(), fit.level_variance[1].tolist(), strict=True
    ):
        able[key] = [mean, spread]
    found = np.empty(len(split.test))
    for n, (s, k, y) in enumerate(_triples(split.test)):
        mine = able.setdefault(s, [0.0, 1.0])
        p = float(expit(shift + easy.get(k, 0.0) + mine[0]))
        found[n] = p
        h = max(p * (1 - p), 0.01)
        step = mine[1] / (1 + mine[1] * h)
        mine[0] += step * (y - p)
        mine[1] = step
    return found


def _boosted(split: Split) -> Float64 | None:
    """LightGBM on covariates and running rates, fitted on the train rows; None if not installed."""
    try:
        import lightgbm
    except ImportError:
        return None
    outcome = split.train.outcome
    if len(outcome) < 50 or outcome.min() == outcome.max():
        return None
    table = np.concatenate([_features(split.train, None), _features(split.test, split.train)])
    own = np.concatenate([split.train.covariates, split.test.covariates])
    x = np.concatenate([table, own], axis=1)
    cut = len(split.train)
    model = lightgbm.LGBMClassifier(
        n_estimators=150, num_leaves=31, learning_rate=0.08, min_child_samples=20,
        n_jobs=1, verbose=-1, random_state=0, deterministic=True,
    )  # fmt: skip
    model.fit(x[:cut], outcome > 0.5)
    return np.asarray(model.predict_proba(x[cut:]), np.float64)[:, 1]


def _features(rows: Responses, before: Responses | None) -> Float64:
    counts: dict[tuple[str, int], list[float]] = {}
    base = 0.5

    def seen(kind: str, key: int) -> list[float]:
        return counts.setdefault((kind, key), [0.0, 0.0])

    found = np.empty((len(rows), 6))
    for part, keep in ((before, False), (rows, True)):
        if part is None:
            continue
        columns = (part.subject, part.item, part.group, part.outcome)
        for n, (u, i, g, y) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            pairs = (seen("u", u), seen("i", i), seen("g", g))
            if keep:
                found[n, :3] = [(a + 5 * base) / (b + 5) for a, b in pairs]
                found[n, 3:] = [b for _, b in pairs]
            for pair in pairs:
                pair[0] += y
                pair[1] += 1
    return found


# --- The judgement --------------------------------------------------------------------------------


def predicted(split: Split) -> tuple[Float64, Float64, float, float]:
    """Chances and standard deviations of the logits, microseconds an update, seconds of a refit.

    Both are processor time, so that what else the machine does is not counted; an update is a
    prediction and what is learned from its outcome.

    The refit that is timed is the last one over all rows that were known then; without a split it
    is repeated as the rows grow, as it would be every night.
    """
    train, test = split.train.known(), split.test
    newcomers = split.has_split and not np.isin(test.subject[:1000], train.subject).any()
    begun = time.process_time()
    model = Forecaster(newcomers=newcomers).fit(train)
    told(f"fitted {len(train)} rows in {time.process_time() - begun:.1f} s")
    chance, spread = np.empty(len(test)), np.empty(len(test))
    updating, refit_s, at, known = 0.0, 0.0, 0, train
    grow = 1.15 if len(train) + len(test) < 100_000 else 1.3
    while at < len(test):
        more = max(int((grow - 1) * len(known)), 25)
        part = test.take(slice(at, at + more))
        begun = time.process_time()
        said = model.run(part)
        updating += time.process_time() - begun
        chance[at : at + more], spread[at : at + more] = said.mean, said.logit_sd
        at += more
        known = _both(known, part)
        if at < len(test) and not newcomers:
            begun = time.process_time()
            tuned = model.tuned_rows_
            model.refit(known)
            spent = time.process_time() - begun
            # Once the rows have doubled it was tuned anew, which is not what a night costs.
            refit_s = spent if model.tuned_rows_ == tuned else refit_s
            told(f"refitted {len(known)} rows in {spent:.1f} s, {at} of {len(test)} predicted")
    if refit_s == 0.0:
        begun = time.process_time()
        model.refit(train)
        refit_s = time.process_time() - begun
    return chance, spread, 1e6 * updating / max(len(test), 1), refit_s


def _both(first: Responses, second: Responses) -> Responses:
    from matching.responses import joined

    return joined([first, second])


def run_responses(split: Split) -> dict[str, object]:
    """Everything that is said of one set."""
    known = np.isfinite(split.test.outcome)
    chance, _, update_us, refit_s = predicted(split)
    test = split.test.take(np.flatnonzero(known))
    chance = chance[known]
    told("baselines")
    beside = baselines(Split(split.train.known(), test, split.has_split))
    answer: dict[str, object] = dict(scored(test.outcome, chance))
    answer["update_us"] = round(update_us, 2)
    answer["refit_s"] = round(refit_s, 3)
    answer["rows"] = {"train": len(split.train), "test": len(test)}
    answer["intervals"] = intervals(test.outcome, chance, test.subject)
    answer["baselines"] = {name: scored(test.outcome, p) for name, p in beside.items()}
    return answer


def run(folder: Path) -> dict[str, object]:
    """Judge the `responses.parquet` of a folder."""
    return run_responses(read_responses(folder / "responses.parquet"))
