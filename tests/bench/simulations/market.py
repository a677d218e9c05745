"""A market with and without exploration: who is sent, while nobody knows yet who is good.

Each task has a domain and six free experts; the outcome is a real answer on record (language models
stand for experts, items of benchmarks for tasks). Ability by expert and domain is learned as the
work comes in; a profile says something of it before.
"""

import numpy as np
from scipy.special import expit

from matching.problem import Float64
from tests.bench.simulations.offpolicy import World, world

ROUNDS = 20
TASKS = 3000
FREE = 6
TOLD_BY_PROFILE = 0.7
"""Correlation of a profile's forecast with true ability by domain."""

TARGETS = {"all": 0.766, "first_100": 0.74}
PROBIT = np.pi / 8
POLICIES = ("random", "greedy mean", "UCB", "half Thompson", "oracle")
WITH_PROFILE = ("greedy mean", "UCB", "half Thompson")


class Beliefs:
    """Ability of each expert, general and by domain, in log-odds about the domain's mean.

    Two Gaussian effects added, each updated in O(1) by one Newton step an outcome.
    """

    def __init__(self, base: Float64, prior: Float64, general_sd: float, domain_sd: float) -> None:
        self.base = base
        self.general = prior.mean(axis=1)
        self.domain = prior - self.general[:, None]
        self.general_variance = np.full(len(prior), general_sd**2)
        self.domain_variance = np.full(prior.shape, domain_sd**2)

    def of(self, experts: np.ndarray, domain: int) -> tuple[Float64, Float64]:
        """Mean and standard deviation of the log-odds of each."""
        mean = self.base[domain] + self.general[experts] + self.domain[experts, domain]
        spread = self.general_variance[experts] + self.domain_variance[experts, domain]
        return mean, np.sqrt(spread)

    def learn(self, expert: int, domain: int, outcome: float) -> None:
        """Take one outcome."""
        first = float(self.general_variance[expert])
        second = float(self.domain_variance[expert, domain])
        mean = self.base[domain] + self.general[expert] + self.domain[expert, domain]
        p = float(expit(mean))
        h = max(p * (1 - p), 0.02)
        gain = 1 / (first + second + 1 / h)
        self.general[expert] += first * gain * (outcome - p) / h
        self.domain[expert, domain] += second * gain * (outcome - p) / h
        self.general_variance[expert] -= first**2 * gain
        self.domain_variance[expert, domain] -= second**2 * gain


def choose(policy: str, rng: np.random.Generator, mean: Float64, sd: Float64, true: Float64) -> int:
    """Whom the policy sends."""
    if policy == "random":
        return 0
    score = {
        "greedy mean": mean,
        "UCB": mean + sd,
        "half Thompson": mean + 0.5 * sd * rng.normal(size=len(mean)),
        "oracle": true,
    }[policy]
    return int(np.argmax(score))


def one_market(known: World, policy: str, *, seed: int, with_profile: bool) -> Float64:
    """Outcomes of the tasks in the order they came, shape (tasks,)."""
    rng = np.random.default_rng(seed)
    experts, domains = known.rate.shape
    logit = np.log((known.rate + 0.02) / (1 - known.rate + 0.02))
    base = logit.mean(axis=0)
    true = logit - base
    spread = float(true.std())
    prior = np.zeros((experts, domains))
    general_sd, domain_sd = 0.7 * spread, 0.75 * spread
    if with_profile:
        # The best forecast from a signal with this correlation, and the doubt that it leaves.
        left = np.sqrt(1 - TOLD_BY_PROFILE**2)
        noise = spread * left / TOLD_BY_PROFILE * rng.normal(size=true.shape)
        prior = TOLD_BY_PROFILE**2 * (true + noise)
        general_sd, domain_sd = general_sd * left, domain_sd * left
    beliefs = Beliefs(base, prior, general_sd, domain_sd)
    items = [np.flatnonzero(known.domain == k) for k in range(domains)]
    outcome = np.zeros(TASKS)
    for n, domain in enumerate(rng.integers(0, domains, TASKS).tolist()):
        item = items[domain][rng.integers(len(items[domain]))]
        free = rng.permutation(experts)[:FREE]
        mean, sd = beliefs.of(free, domain)
        sent = int(free[choose(policy, rng, mean, sd, known.rate[free, domain])])
        outcome[n] = known.answer[sent, item]
        if policy not in ("random", "oracle"):
            beliefs.learn(sent, domain, float(outcome[n]))
    return outcome


def run(seed: int, rounds: int) -> dict[str, object]:
    """Success of each policy over its first hundred tasks, three hundred, and all."""
    known = world()
    found: dict[str, dict[str, float]] = {}
    cases = [(policy, False) for policy in POLICIES]
    cases += [(policy, True) for policy in WITH_PROFILE]
    for policy, with_profile in cases:
        told = np.array([
            one_market(known, policy, seed=seed + n, with_profile=with_profile)
            for n in range(rounds)
        ])  # fmt: skip
        name = f"{policy} with profile" if with_profile else policy
        found[name] = {
            "first_100": round(float(told[:, :100].mean()), 4),
            "first_300": round(float(told[:, :300].mean()), 4),
            "all": round(float(told.mean()), 4),
            "se": round(float(told.mean(axis=1).std() / np.sqrt(rounds)), 4),
        }
    best = found["UCB with profile"]
    met = all(best[name] >= least for name, least in TARGETS.items())
    return {"targets": TARGETS, "judged": "UCB with profile", "met": met, "policies": found}
