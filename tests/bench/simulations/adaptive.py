"""Adaptive tests on real answers: how near twenty chosen items come to a full record.

Each taker's real answers are known for the items that the test may ask; the bank is calibrated on
other people. Random items in the same run are the baseline.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from matching.adaptive import Exposure, Sitting, Tables, TestRules, regrade
from matching.itembank import ItemBank
from tests.bench.simulations.public import columns

ROUNDS = 8
ITEMS = 20
LEAST_ANSWERS = 150
TARGETS = {"correlation": 0.84, "exposure": 0.35, "ms_a_step": 1.0}


@dataclass(frozen=True, slots=True)
class Taker:
    """Somebody whose answers are on record: to which items, and how each was answered."""

    items: np.ndarray
    right: np.ndarray


def statics() -> tuple[Tables, list[Taker]]:
    """A course's bank from its training learners, its test learners as takers."""
    user, skill, correct, split = columns(
        "learner_statics/log", "user", "skill", "correct", "split"
    )
    seen: set[tuple[object, object]] = set()
    rows = []
    for row in zip(user, skill, correct, split, strict=True):
        if row[:2] not in seen:
            seen.add(row[:2])
            rows.append(row)
    person = np.unique(np.array([str(row[0]) for row in rows]), return_inverse=True)[1]
    item = np.array([int(str(row[1])) for row in rows])
    right = np.array([int(str(row[2])) for row in rows])
    train = np.array([row[3] == "train" for row in rows])
    items = int(item.max()) + 1
    bank = ItemBank().fit(
        person[train], item[train], right[train], domain=np.zeros(items, np.int64)
    )
    takers = []
    for one in np.unique(person[~train]):
        at = np.flatnonzero((person == one) & ~train)
        if len(at) >= LEAST_ANSWERS:
            takers.append(Taker(item[at], right[at]))
    return Tables(bank), takers


def language_models() -> Iterator[tuple[Tables, Taker]]:
    """A bank for each left-out model, from the answers of the eleven others to every item."""
    model, item, correct = columns("llm_psn_irt/responses", "model", "item", "correct")
    (benchmark,) = columns("llm_psn_irt/items", "benchmark")
    who = np.array(model, np.int64)
    at, right = np.array(item, np.int64), np.array(correct, np.int64)
    domain = np.array(benchmark, dtype=str)
    for one in range(int(who.max()) + 1):
        rest = who != one
        bank = ItemBank(rounds=8).fit(who[rest], at[rest], right[rest], domain=domain)
        yield Tables(bank), Taker(at[~rest], right[~rest])


def one_sitting(
    tables: Tables, taker: Taker, rules: TestRules, exposure: Exposure, seed: int
) -> tuple[float, float]:
    """Ability by an adaptive test of real answers, and seconds a step."""
    answer = dict(zip(taker.items.tolist(), taker.right.tolist(), strict=True))
    unknown = np.setdiff1d(np.arange(tables.bank.items), taker.items)
    sitting = Sitting(tables, rules, seed=seed, seen=unknown.tolist())
    exposure.start()
    begun = time.perf_counter()
    while (ask := sitting.next_item(exposure)) is not None:
        sitting.answer(ask.item, right=bool(answer[ask.item]))
    spent = (time.perf_counter() - begun) / max(len(sitting.items), 1)
    return sitting.evidence().mean, spent


def full_record(tables: Tables, taker: Taker, rules: TestRules) -> float:
    """Ability by every answer on record."""
    return regrade(tables, taker.items, taker.right, rules=rules).mean


def random_items(tables: Tables, taker: Taker, rules: TestRules, rng: np.random.Generator) -> float:
    """Ability by as many answers of the record, drawn at random."""
    at = rng.permutation(len(taker.items))[:ITEMS]
    return regrade(tables, taker.items[at], taker.right[at], rules=rules).mean


def correlation(one: list[float], other: list[float]) -> float:
    """Pearson's r."""
    return float(np.corrcoef(one, other)[0, 1])


def compare(takers: Iterable[tuple[Tables, Taker]], *, seed: int, rounds: int) -> dict[str, object]:
    """Adaptive and random tests of the same length against the full record, over the rounds."""
    rules = TestRules(longest=ITEMS, least=ITEMS, precise=0.0, pretest_share=0.0, calibrated=1)
    record, share, steps = [], [], []
    told: list[list[float]] = [[] for _ in range(rounds)]
    drawn: list[list[float]] = [[] for _ in range(rounds)]
    exposures: list[Exposure] = []
    for n, (tables, taker) in enumerate(takers):
        exposures = exposures or [Exposure(tables.bank.items) for _ in range(rounds)]
        record.append(full_record(tables, taker, rules))
        share.append(float(taker.right.mean()))
        for turn in range(rounds):
            rng = np.random.default_rng([seed, turn, n])
            drawn[turn].append(random_items(tables, taker, rules, rng))
            mean, spent = one_sitting(tables, taker, rules, exposures[turn], seed + 1000 * turn)
            told[turn].append(mean)
            steps.append(spent)
    found = [correlation(each, record) for each in told]
    return {
        "takers": len(record),
        "bank": len(exposures[0].shown),
        "correlation": round(float(np.mean(found)), 3),
        "correlation_se": round(float(np.std(found) / np.sqrt(rounds)), 4),
        "random_correlation": round(float(np.mean([correlation(o, record) for o in drawn])), 3),
        "with_share_right": round(float(np.mean([correlation(o, share) for o in told])), 3),
        "random_with_share_right": round(float(np.mean([correlation(o, share) for o in drawn])), 3),
        "exposure": round(max(float(e.shown.max() / e.takers) for e in exposures), 3),
        "ms_a_step": round(1000 * float(np.median(steps)), 3),
    }


def run(seed: int, rounds: int) -> dict[str, object]:
    """Learners of a course, then language models left out one by one."""
    tables, takers = statics()
    course = [(tables, one) for one in takers]
    found = {
        "statics": compare(course, seed=seed, rounds=rounds),
        "language models": compare(language_models(), seed=seed, rounds=rounds),
    }
    met = all(
        float(str(each["correlation"])) >= TARGETS["correlation"]
        and float(str(each["exposure"])) <= TARGETS["exposure"]
        and float(str(each["ms_a_step"])) <= TARGETS["ms_a_step"]
        for each in found.values()
    )
    return {"targets": TARGETS, "met": met, "sets": found}
