"""The frontier: a hundred experts, twenty, a hundred again; and the real series of dated agents."""

import numpy as np
from scipy.special import expit

from matching.complexity import Proposal, propose_level
from matching.frontier import FrontierTracker
from matching.problem import Float64
from matching.release import ABILITY, ModelBelief, calibration_set
from tests.bench.simulations.agents import Fit, Runs, agent_runs, fit_runs
from tests.bench.simulations.story import (
    MINUTES,
    STEP,
    Outcomes,
    attempt,
    make_people,
    release_leaving,
)

ROUNDS = 40
QUARTER = 100
"""Attempts of a level in a quarter: a line-up of a new model a quarter ran each about so often."""

TARGETS = {"delay": 15, "alarms_a_quarter": 1.0, "mae": 0.07, "brought_back": 95}
CALIBRATION = 20
KEEP = 0.95
"""Share of the pool that the next level is to bring back."""


def skills(people: int, seen: Outcomes, ability: float) -> tuple[Float64, Float64]:
    """Skill of each from the opening attempts: one Newton fit under a normal prior, with its sd."""
    stumps = np.bincount(seen.expert, seen.stumped, people)
    count = np.bincount(seen.expert, minlength=people)
    skill = np.zeros(people)
    for _ in range(20):
        p = expit(skill + 0.9 - ability)
        slope = stumps - count * p - skill / 0.9**2
        skill = skill + slope / (count * p * (1 - p) + 1 / 0.9**2)
    p = expit(skill + 0.9 - ability)
    return skill, np.sqrt(1 / (count * p * (1 - p) + 1 / 0.9**2))


def one_story(seed: int, *, is_silent: bool) -> dict[str, float]:
    """Open, release, notice, calibrate, propose, reopen: how many could stump at each step."""
    rng = np.random.default_rng(seed)
    people = make_people(rng)
    strong = release_leaving(people, 20)
    tracker = FrontierTracker()
    cell = tracker.open()
    opening = attempt(rng, people, 0, 0.0, 10)
    for stumped in opening.stumped[:300].tolist():
        if tracker.observe(cell, float(stumped), at=0.0):
            # A false alarm: ops look, find nothing, and let the level open anew.
            tracker.restart(cell)
    skill, doubt = skills(people.count, opening, 0.0)
    delay = 0.0
    if is_silent:
        delay = float("nan")
        after = attempt(rng, people, 0, strong, 5)
        for n, stumped in enumerate(after.stumped.tolist()):
            if tracker.observe(cell, float(stumped), at=1.0):
                delay = float(n + 1)
                break
    # A calibration set: two hundred candidate tasks over the levels, run by typical experts.
    level = rng.integers(0, len(MINUTES), 200)
    base = 0.9 + STEP * level + rng.normal(0, 0.7, 200)
    known = base + rng.normal(0, 0.3, 200)
    prior = ModelBelief.of([0.0], [0.0], release_date=0.5)
    chosen = calibration_set(prior, known, level, size=CALIBRATION, seed=seed)
    stumped = rng.random(len(chosen)) < expit(base[chosen] - strong)
    belief = prior.seen(known[chosen], stumped, level[chosen], base_sd=np.full(len(chosen), 0.3))
    # The round goes on meanwhile: what experts find at each level tells of the model as well.
    reached, back, first = 0, [people.count], None
    for turn in range(3):
        found = attempt(rng, people, reached, strong, 2 if turn == 0 else 4)
        own = skill[found.expert] + 0.9 + STEP * reached
        here = np.full(len(own), reached)
        belief = belief.seen(own, found.stumped, here, base_sd=doubt[found.expert])
        back.append(int(people.able(reached, strong).sum()))
        if turn == 2:
            break
        proposal = proposed(belief, skill, doubt, reached, 0.5 if turn == 0 else KEEP)
        first = first or proposal
        reached = reached if proposal.level is None else proposal.level
    if first is None:
        raise RuntimeError("no round was run")
    return {
        "opening": float(people.able(0, 0.0).sum()),
        "left": float(people.able(0, strong).sum()),
        "is_proposed": float(first.level is not None and first.level > 0),
        "level": float(reached),
        "back_after_one": float(back[2]),
        "back_after_two": float(back[3]),
        "forecast": first.productive,
        "is_inside": float(first.low <= back[2] <= first.high),
        "delay": delay,
    }


def proposed(
    belief: ModelBelief, skill: Float64, doubt: Float64, current: int, fallen: float
) -> Proposal:
    """What the library proposes for this pool, from what is believed of the model at each level."""
    shown = [belief.at_level(n) for n in range(len(MINUTES))]
    middle = np.array([weight @ ABILITY for weight in shown])
    spread = np.sqrt([w @ (ABILITY - m) ** 2 for w, m in zip(shown, middle, strict=True)])
    line = 0.9 + STEP * np.arange(len(MINUTES)) - middle
    return propose_level(
        skill[:, None] + line,
        np.tile(doubt[:, None], (1, len(MINUTES))),
        minutes=MINUTES,
        current=current,
        opening=float(len(skill)),
        shared_sd=spread,
        keep=KEEP,
        fallen=fallen,
        cautious=fallen == KEEP,
    )


def stories(seed: int, rounds: int) -> dict[str, object]:
    """Means over many seeds, with and without a release being announced."""
    told = [one_story(seed + n, is_silent=False) for n in range(rounds)]
    silent = [one_story(seed + n, is_silent=True)["delay"] for n in range(rounds)]
    found: dict[str, object] = {
        name: round(float(np.mean([one[name] for one in told])), 2)
        for name in told[0]
        if name != "delay"
    }
    enough = [one["back_after_two"] >= TARGETS["brought_back"] for one in told]
    found["share_brought_back"] = round(float(np.mean(enough)), 3)
    found["worst_after_two"] = min(one["back_after_two"] for one in told)
    found["silent_delay_median"] = float(np.nanmedian(silent))
    found["silent_noticed"] = round(float(np.mean(~np.isnan(silent))), 3)
    return found


def detection(runs: Runs, seed: int, rounds: int) -> dict[str, object]:
    """Delay and false alarms on real falls: levels where a later model fails far less often.

    A level opens with thirty runs of an earlier model. False alarms come from more runs of the
    same model; the fall is the later model's runs, drawn again and again.
    """
    rng = np.random.default_rng(seed)
    models = int(runs.model.max()) + 1
    delays, medians, quiet, alarms = [], [], 0, 0
    for level in np.unique(runs.level):
        at = [np.flatnonzero((runs.model == m) & (runs.level == level)) for m in range(models)]
        for before in range(models):
            first = runs.stump[at[before]]
            if len(first) < 20 or first.mean() < 0.2:
                continue
            for _ in range(rounds):
                tracker = FrontierTracker()
                cell = tracker.open()
                for y in rng.choice(first, 30).tolist():
                    tracker.observe(cell, y, at=0.0)
                quiet += QUARTER
                for y in rng.choice(first, QUARTER).tolist():
                    if tracker.observe(cell, y, at=0.0):
                        alarms += 1
                        tracker.restart(cell)
            for later in range(before + 1, models):
                second = runs.stump[at[later]]
                if len(second) < 20 or second.mean() > 0.6 * first.mean():
                    continue
                told = [one_delay(rng, first, second) for _ in range(rounds)]
                kept = [one for one in told if one is not None]
                delays += kept
                medians.append(float(np.median(kept)))
    return {
        "falls": len(medians),
        "mean_delay": round(float(np.mean(delays)), 2),
        "median_delay": float(np.median(delays)),
        "share_within_15": round(float(np.mean(np.array(delays) <= 15)), 3),
        "falls_with_median_within_15": round(float(np.mean(np.array(medians) <= 15)), 3),
        "alarms_a_quarter": round(alarms / (quiet / QUARTER), 3),
        "attempts_a_quarter": QUARTER,
    }


def one_delay(rng: np.random.Generator, first: Float64, second: Float64) -> int | None:
    """Attempts after the change until the alarm; None when it had come before the change."""
    tracker = FrontierTracker()
    cell = tracker.open()
    for y in rng.choice(first, 60).tolist():
        if tracker.observe(cell, y, at=0.0):
            return None
    for n, y in enumerate(rng.choice(second, 400).tolist()):
        if tracker.observe(cell, y, at=1.0):
            return n + 1
    return 400


def forecast(runs: Runs, seed: int, splits: int) -> dict[str, object]:
    """Each model's stump rate by level, from earlier models and a few of its own runs."""
    rng = np.random.default_rng(seed)
    off: dict[str, list[float]] = {}
    inside: dict[str, list[bool]] = {}
    models = int(runs.model.max()) + 1
    date = np.array([runs.year[runs.model == m][0] for m in range(models)])
    for model in range(3, models):
        earlier = [m for m in range(models) if date[m] < date[model]]
        fit = fit_runs(runs, earlier)
        prior = ModelBelief.of(fit.ability, date[earlier], release_date=float(date[model]))
        own = np.flatnonzero(runs.model == model)
        last = (runs.model == earlier[-1]).nonzero()[0]
        for level in np.unique(runs.level[own]):
            rate = runs.stump[own[runs.level[own] == level]]
            carried = runs.stump[last[runs.level[last] == level]]
            if len(rate) >= 10 and len(carried):
                off.setdefault("last model", []).append(abs(carried.mean() - rate.mean()))
        for split in range(splits):
            for size in (0, 10, 20, 30):
                belief = calibrated(rng, runs, fit, prior, own, size, seed + split)
                told = belief.level_rates(fit.base[own], runs.level[own], base_sd=fit.base_sd[own])
                for level, middle, low, high in zip(*told, strict=True):
                    rate = runs.stump[own[runs.level[own] == level]]
                    if len(rate) >= 10:
                        key = f"{size} runs"
                        off.setdefault(key, []).append(abs(middle - rate.mean()))
                        inside.setdefault(key, []).append(bool(low <= rate.mean() <= high))
    return {
        "mae": {name: round(float(np.mean(each)), 4) for name, each in off.items()},
        "inside_80": {name: round(float(np.mean(each)), 3) for name, each in inside.items()},
    }


def calibrated(
    rng: np.random.Generator,
    runs: Runs,
    fit: Fit,
    prior: ModelBelief,
    own: np.ndarray,
    size: int,
    seed: int,
) -> ModelBelief:
    """The belief after one run each of the proposed tasks."""
    shuffled = rng.permutation(own)
    _, first = np.unique(runs.task[shuffled], return_index=True)
    candidate = shuffled[first]
    if not size:
        return prior
    chosen = candidate[
        calibration_set(
            prior,
            fit.base[candidate],
            runs.level[candidate],
            size=size,
            seed=seed,
            base_sd=fit.base_sd[candidate],
        )
    ]
    return prior.seen(
        fit.base[chosen], runs.stump[chosen], runs.level[chosen], base_sd=fit.base_sd[chosen]
    )


def run(seed: int, rounds: int) -> dict[str, object]:
    """The story, then detection and forecast on real runs."""
    runs = agent_runs()
    told = stories(seed, rounds)
    alarm = detection(runs, seed, max(rounds // 4, 1))
    ahead = forecast(runs, seed, 6)
    mae = ahead["mae"]
    met = (
        float(str(told["back_after_two"])) >= TARGETS["brought_back"]
        and float(str(alarm["median_delay"])) <= TARGETS["delay"]
        and float(str(alarm["alarms_a_quarter"])) <= TARGETS["alarms_a_quarter"]
        and isinstance(mae, dict)
        and mae["10 runs"] <= TARGETS["mae"]
    )
    return {"targets": TARGETS, "met": met, "story": told, "detection": alarm, "forecast": ahead}
