"""How many experts are productive after a release, by how few attempts each has made.

A pool works at the lowest level against one model, at higher ones a little, then against a better
one. The stump model says who can still stump; the truth is known here.
"""

import numpy as np

from matching.ability import Attempts, StumpModel
from matching.complexity import productive_experts
from matching.problem import Float64
from tests.bench.simulations.story import MINUTES, attempt, make_people, release_leaving

ROUNDS = 20
EXPERTS = 60
EACH = (1, 3, 10, 30)
"""Attempts of each expert against each model at the lowest level."""

LEVELS = len(MINUTES)
OFF = 0.05
LEAST_HELD = 0.7
"""Share of intervals of nominally .8 that must hold the truth, all levels together."""


def asked(experts: int, level: int, day: float, *, who: int = 0) -> Attempts:
    """Each expert, from the first one on, on a new task of a level against the new model."""
    unknown, none = np.full(experts, np.nan), np.full(experts, -1)
    return Attempts(
        expert=np.arange(who, who + experts),
        task=none,
        domain=np.ones(experts, np.int64),
        model=np.full(experts, 2),
        level=np.full(experts, level),
        day=np.full(experts, day),
        start=unknown,
        fooled=unknown,
        valid=unknown,
    )


def counted(seed: int, each: int, experts: int = EXPERTS) -> Float64:
    """Of every level: expected, least and most productive experts, and how many there are.

    Shapes: the result (levels, 4).
    """
    rng = np.random.default_rng(seed)
    people = make_people(rng, experts)
    strong = release_leaving(people, experts // 5)
    stretches = [(0, 0.0, 1, each), *((n, 0.0, 1, 1) for n in range(1, LEVELS))]
    stretches.append((0, strong, 2, each))
    expert, stumped, level, model = [], [], [], []
    for rung, ability, code, many in stretches:
        made = attempt(rng, people, rung, ability, many)
        expert.append(made.expert)
        stumped.append(made.stumped.astype(np.float64))
        level.append(np.full(len(made.expert), rung))
        model.append(np.full(len(made.expert), code))
    who, y = np.concatenate(expert), np.concatenate(stumped)
    rows = len(who)
    history = Attempts(
        expert=who,
        task=np.arange(rows),
        domain=np.ones(rows, np.int64),
        model=np.concatenate(model),
        level=np.concatenate(level),
        day=np.linspace(0.0, 0.005 * rows, rows),
        start=np.ones(rows),
        fooled=y,
        valid=np.where(y == 1, 1.0, np.nan),
    )
    known = StumpModel().fit(history)
    common = float(np.sqrt(known.model_effect(2)[1]))
    found = np.empty((LEVELS, 4))
    for rung in range(LEVELS):
        said = known.predict(asked(experts, rung, 0.005 * rows)).stump
        own = np.sqrt(np.maximum(said.logit_sd**2 - common**2, 0.05**2))
        shared = known.shared_sd(asked(1, rung, 0.005 * rows, who=-1))
        pool = productive_experts(said.middle[:, None], own[:, None], shared_sd=shared)
        able = people.able(rung, strong).sum()
        found[rung] = pool.count[0], pool.low[0], pool.high[0], able
    return found


def run(seed: int, rounds: int) -> dict[str, object]:
    """Means over pools, by the number of attempts.

    Met where no mean errs by more than `OFF` of the pool, beyond two standard errors of it, since
    single pools err by far more; and where the bounds hold the truth nearly as often as they say.
    """
    told: dict[str, object] = {}
    met = True
    for each in EACH:
        found = np.array([counted(seed + n, each) for n in range(rounds)])
        expected, low, high, truth = found.transpose(2, 0, 1)
        error = (expected - truth) / EXPERTS
        unsure = error.std(axis=0, ddof=1) / np.sqrt(rounds) if rounds > 1 else np.ones(LEVELS)
        held = float(((low <= truth) & (truth <= high)).mean())
        told[f"{each} attempts"] = {
            "expected": expected.mean(axis=0).round(1).tolist(),
            "standard_error": (unsure * EXPERTS).round(1).tolist(),
            "truth": truth.mean(axis=0).round(1).tolist(),
            "within_80": round(held, 2),
        }
        is_right = bool((np.abs(error.mean(axis=0)) <= OFF + 2 * unsure).all())
        met = met and is_right and held >= LEAST_HELD
    return {"met": met, "experts": EXPERTS, **told}
