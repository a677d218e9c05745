"""Replay against the known truth: every model's answer to every item is on record, so that the
value of any assignment policy is known, and the estimators can be held against it.

"Experts" are language models, "tasks" items of benchmarks; six experts are free for each task. The
log is drawn by a policy with some randomness; the candidate picks by expert and domain.
"""

from dataclasses import dataclass

import numpy as np

from matching.outcomes import FactorModel, cross_fit
from matching.problem import Float64
from matching.replay import Evaluation, Limits, Log, evaluate
from tests.bench.simulations.public import columns

ROUNDS = 200
DECISIONS = 2000
FREE = 6
TEMPERATURE = 0.05
RANDOMNESS = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)
TARGETS = {"coverage": 0.86, "rmse": 0.02, "at_randomness": 0.1}
ESTIMATORS = ("ips", "snips", "direct", "robust", "switch")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Every answer, (experts, tasks); the domain of each task; rates by expert and domain."""

    answer: Float64
    domain: np.ndarray
    rate: Float64


def world() -> World:
    """Language models and the items of eleven benchmarks."""
    model, item, correct = columns("llm_psn_irt/responses", "model", "item", "correct")
    (benchmark,) = columns("llm_psn_irt/items", "benchmark")
    who, at = np.array(model, np.int64), np.array(item, np.int64)
    answer = np.zeros((int(who.max()) + 1, len(benchmark)))
    answer[who, at] = np.array(correct, np.float64)
    domain = np.unique(np.array(benchmark, dtype=str), return_inverse=True)[1]
    rate = np.stack([answer[:, domain == k].mean(axis=1) for k in range(domain.max() + 1)], axis=1)
    return World(answer, domain, rate)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One log with the candidate's choices beside it, and what they would truly have brought."""

    log: Log
    target: Float64
    expert: np.ndarray
    domain: np.ndarray
    truth: float


def draw_round(rng: np.random.Generator, known: World, randomness: float, least: float) -> Round:
    """Draw tasks, who is free, who was chosen and with which probability."""
    experts, tasks = known.answer.shape
    rows = np.arange(DECISIONS)
    task = rng.integers(0, tasks, DECISIONS)
    free = np.argsort(rng.random((DECISIONS, experts)), axis=1)[:, :FREE]
    old = known.rate.mean(axis=1)[free] + rng.normal(0, 0.08, (DECISIONS, FREE))
    new = known.rate[free, known.domain[task][:, None]]
    soft = np.exp((old - old.max(axis=1, keepdims=True)) / TEMPERATURE)
    soft /= soft.sum(axis=1, keepdims=True)
    best = np.zeros((DECISIONS, FREE))
    best[rows, old.argmax(axis=1)] = 1
    drawn = (1 - randomness) * best + randomness * (0.5 * soft + 0.5 / FREE)
    drawn = np.maximum(drawn, least)
    drawn /= drawn.sum(axis=1, keepdims=True)
    chosen = np.minimum(
        (drawn.cumsum(axis=1) > rng.random((DECISIONS, 1))).argmax(axis=1), FREE - 1
    )
    taken = np.zeros((DECISIONS, FREE), np.bool_)
    taken[rows, chosen] = True
    target = np.zeros((DECISIONS, FREE))
    target[rows, new.argmax(axis=1)] = 1
    outcome = known.answer[free, task[:, None]]
    log = Log(
        decision=np.repeat(rows, FREE),
        probability=np.minimum(drawn, 1.0).ravel(),
        taken=taken.ravel(),
        outcome=np.where(taken, outcome, np.nan).ravel(),
    )
    truth = float((target * outcome).sum() / DECISIONS)
    domain = np.repeat(known.domain[task], FREE)
    return Round(log, target.ravel(), free.ravel(), domain, truth)


def judged(one: Round, seed: int, limits: Limits) -> Evaluation:
    """The candidate's evaluation, its outcome model fitted on the log alone."""
    direct = cross_fit(one.log, factors=(one.expert, one.domain), model=FactorModel(2), seed=seed)
    return evaluate(one.log, one.target, direct, limits=limits)


def at_randomness(
    known: World, randomness: float, *, seed: int, rounds: int, least: float = 0.0
) -> dict[str, object]:
    """Errors, coverage and refusals over many logs of one degree of randomness."""
    limits = Limits()
    told, truth = [], []
    for turn in range(rounds):
        rng = np.random.default_rng([seed, turn, int(1000 * randomness)])
        one = draw_round(rng, known, randomness, least)
        told.append(judged(one, seed + turn, limits))
        truth.append(one.truth)
    real = np.array(truth)
    found: dict[str, object] = {
        "effective": round(float(np.mean([each.effective for each in told])), 1),
        "largest_weight": round(max(each.largest_weight for each in told), 1),
        "unsupported": round(float(np.mean([each.unsupported for each in told])), 4),
        "refused": round(float(np.mean([each.refusal is not None for each in told])), 3),
        "bias_check": round(float(np.mean([each.bias_check for each in told])), 4),
    }
    for name in ESTIMATORS:
        each = [getattr(one, name) for one in told]
        value = np.array([one.value for one in each])
        inside = [one.low <= t <= one.high for one, t in zip(each, truth, strict=True)]
        found[name] = {
            "rmse": round(float(np.sqrt(((value - real) ** 2).mean())), 4),
            "bias": round(float((value - real).mean()), 4),
            "coverage": round(float(np.mean(inside)), 3),
        }
    return found


def open_bandit() -> dict[str, object]:
    """The public log of a shop: each log judges the policy of the other, whose truth is known."""
    logs = {}
    for name in ("random", "bts"):
        names = ("item_id", "position", "click", "propensity_score")
        told = columns(f"obd_men/{name}", *names)
        logs[name] = [np.array(each, np.float64) for each in told]
    found: dict[str, object] = {}
    for logged, wanted in (("bts", "random"), ("random", "bts")):
        item, position, click, drawn = logs[logged]
        other_item, other_position, other_click, _ = logs[wanted]
        items, rounds = int(item.max()) + 1, len(item)
        share = np.full((int(position.max()) + 1, items), 0.5)
        np.add.at(share, (other_position.astype(int), other_item.astype(int)), 1.0)
        share /= share.sum(axis=1, keepdims=True)
        if wanted == "random":
            share[:] = 1 / items
        taken = np.zeros((rounds, items), np.bool_)
        taken[np.arange(rounds), item.astype(int)] = True
        # Only the chosen item's probability is on record; any above nought will do elsewhere.
        probability = np.where(taken, drawn[:, None], 1 / items)
        log = Log(
            decision=np.repeat(np.arange(rounds), items),
            probability=probability.ravel(),
            taken=taken.ravel(),
            outcome=np.repeat(click, items),
        )
        target = share[position.astype(int)].ravel()
        every = np.tile(np.arange(items), rounds)
        place = np.repeat(position, items)
        direct = cross_fit(log, factors=(every, place), model=FactorModel(2, strength=200.0))
        one = evaluate(log, target, direct)
        truth = float(other_click.mean())
        found[f"{logged} judges {wanted}"] = {
            "truth": round(truth, 5),
            "truth_se": round(float(np.sqrt(truth * (1 - truth) / len(other_click))), 5),
            "robust": [round(x, 5) for x in (one.robust.low, one.robust.value, one.robust.high)],
            "snips": [round(x, 5) for x in (one.snips.low, one.snips.value, one.snips.high)],
            "effective": round(one.effective),
            "refusal": one.refusal,
            "covers": bool(one.robust.low <= truth <= one.robust.high),
        }
    return found


def run(seed: int, rounds: int) -> dict[str, object]:
    """Every degree of randomness, then one with probabilities so small that weights explode."""
    known = world()
    by = {str(one): at_randomness(known, one, seed=seed, rounds=rounds) for one in RANDOMNESS}
    wild = at_randomness(known, 0.0, seed=seed, rounds=max(rounds // 10, 1), least=2e-5)
    robust = by[str(TARGETS["at_randomness"])]["robust"]
    met = (
        isinstance(robust, dict)
        and robust["coverage"] >= TARGETS["coverage"]
        and robust["rmse"] <= TARGETS["rmse"]
    )
    return {
        "targets": TARGETS,
        "met": met,
        "decisions": DECISIONS,
        "by_randomness": by,
        "tiny_probabilities": wild,
        "open_bandit": open_bandit(),
    }
