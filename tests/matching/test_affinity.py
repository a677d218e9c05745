"""Affinity from texts, and blends and calibration judged on public expert ratings."""

from collections import defaultdict

import numpy as np
import pytest

from matching.affinity import Affinity, Blend, Calibration, TfIdf
from tests.matching.bids import read_rows, shared_folder

FIELDS = {
    "chemistry": "catalyst ligand synthesis organic reaction yield polymer enantioselective",
    "law": "contract tort statute appeal jurisdiction plaintiff liability precedent",
    "proofs": "lemma theorem topology manifold induction compact homology proof",
    "medicine": "diagnosis patient dosage oncology cardiac trial symptom therapy",
}


def text(rng: np.random.Generator, field: str, own: int, other: int) -> str:
    """Words of a field among words of all fields and common ones."""
    mine = rng.choice(FIELDS[field].split(), own)
    words = " ".join(FIELDS.values()).split()
    rest = rng.choice(words, other)
    return " ".join(rng.permutation([*mine, *rest, "the", "of", "with", "and"]))


def test_experts_of_the_field_are_nearer_than_others() -> None:
    rng = np.random.default_rng(1)
    fields = [name for name in FIELDS for _ in range(8)]
    profiles = [
        [text(rng, name, 6, 3), *(text(rng, name, 3, 6) for _ in range(3))] for name in fields
    ]
    wanted = [name for name in FIELDS for _ in range(5)]
    tasks = [text(rng, name, 5, 4) for name in wanted]
    task, expert = (side.astype(np.int32) for side in np.divmod(np.arange(20 * 32), 32))
    near = Affinity().fit(profiles, tasks).of_pairs(profiles, tasks, expert, task)
    same = np.array([wanted[t] == fields[e] for t, e in zip(task, expert, strict=True)])
    assert ((near >= 0) & (near <= 1)).all()
    # The chance that a pair of one field is nearer than a pair of two.
    above = (near[same][:, None] > near[~same][None, :]).mean()
    assert above > 0.9


def test_the_nearest_pieces_count_and_a_long_history_elsewhere_does_not_hurt() -> None:
    task = ["homology of compact manifold"]
    profiles = [
        ["homology of a compact manifold"],
        ["homology of a compact manifold"] * 3 + ["tort liability appeal"] * 40,
        ["tort liability appeal"],
        [],
    ]
    expert = np.arange(4, dtype=np.int32)
    likeness = Affinity().fit(profiles, task)
    near = likeness.of_pairs(profiles, task, expert, np.zeros(4, np.int32))
    assert near[0] == pytest.approx(near[1])
    assert near[2] == near[3] == 0


def test_rare_words_weigh_more_and_unknown_texts_are_near_nothing() -> None:
    encoder = TfIdf(pairs=False).fit(["report on enzymes", "report on torts", "report on lemmas"])
    rows = encoder.encode(["report enzymes", "quarks"]).toarray()
    columns = encoder.vocabulary_
    assert rows[0, columns["enzymes"]] > rows[0, columns["report"]]
    assert (rows[1] == 0).all()
    assert np.linalg.norm(rows[0]) == pytest.approx(1.0)


def test_words_of_any_script_are_words() -> None:
    profiles, tasks = (
        [["квантовая механика"], ["право собственности"]],
        ["задача: квантовая оптика"],
    )
    near = (
        Affinity()
        .fit(profiles, tasks)
        .of_pairs(profiles, tasks, np.array([0, 1], np.int32), np.zeros(2, np.int32))
    )
    assert near[0] > near[1] == 0


def test_calibration_never_falls_and_keeps_the_mean() -> None:
    rng = np.random.default_rng(2)
    signal = rng.random(400)
    outcome = (rng.random(400) < signal**2).astype(np.float64)
    fitted = Calibration().fit(signal, outcome)
    told = fitted.predict(signal)
    assert (np.diff(fitted.predict(np.sort(signal))) >= -1e-12).all()
    assert told.mean() == pytest.approx(outcome.mean())
    assert np.abs(fitted.predict(np.array([0.2, 0.9])) - [0.04, 0.81]).max() < 0.15


def ranking_loss(
    expert: np.ndarray, rating: np.ndarray, told: np.ndarray, only: np.ndarray | None = None
) -> float:
    """Rating differences put in the wrong order, as a share of all; ties cost a half."""
    lost = total = 0.0
    for who in np.unique(expert if only is None else only):
        at = np.flatnonzero(expert == who)
        apart = rating[at][:, None] - rating[at][None, :]
        order = told[at][:, None] - told[at][None, :]
        wrong = np.where(order == 0, 0.5, (np.sign(order) != np.sign(apart)) * 1.0)
        lost += float((np.abs(apart) * wrong).sum())
        total += float(np.abs(apart).sum())
    return lost / total


@pytest.mark.shared_data
def test_a_blend_of_published_similarities_ranks_no_worse_than_the_best_of_them() -> None:
    folder = shared_folder("goldstandard")
    rating_of = {
        (row["expert"], row["paper"]): float(row["expertise"])
        for row in read_rows(folder / "ratings.csv.gz")
    }
    pairs = sorted(rating_of)
    signals: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(folder / "predictions.csv.gz"):
        key = (row["expert"], row["paper"])
        signals[row["algorithm"]][key].append(float(row["similarity"]))
    names = sorted(signals)
    table = np.array([[np.mean(signals[name][pair]) for name in names] for pair in pairs])
    rating = np.array([rating_of[pair] for pair in pairs])
    expert = np.unique([pair[0] for pair in pairs], return_inverse=True)[1]
    alone = {n: ranking_loss(expert, rating, table[:, k]) for k, n in enumerate(names)}
    folds = np.random.default_rng(0).permutation(expert.max() + 1) % 10
    told = np.zeros(len(pairs))
    sure = np.zeros(len(pairs))
    for fold in range(10):
        out = folds[expert] == fold
        blend = Blend().fit(table[~out], rating[~out], expert[~out])
        told[out] = blend.predict(table[out])
        sure[out] = Calibration().fit(blend.predict(table[~out]), rating[~out]).predict(told[out])
        assert (blend.weight_ >= 0).all()
    loss = ranking_loss(expert, rating, told)
    print({name: round(one, 3) for name, one in alone.items()}, "blend", round(loss, 3))
    # Gains under 0.03 are noise on 58 experts; a blend must not be worse than its best part.
    assert loss <= min(alone.values()) + 0.01
    # Calibrated on other experts, the blend tells the rating better than the mean rating does.
    assert ((sure - rating) ** 2).mean() < 0.9 * rating.var()
