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
    """Ability of each expert in each domain, in log-odds about the domain's mean, as one Gaussian
    for each expert: what is learned in one domain tells of the others, by as much as they share.

    Each outcome is one Newton step of it, which costs the square of the number of domains.
    """

    def __init__(self, base: Float64, mean: Float64, covariance: Float64) -> None:
        self.base = base
        self.mean = mean
        self.covariance = np.repeat(covariance[None], len(mean), axis=0)

    def of(self, experts: np.ndarray, domain: int) -> tuple[Float64, Float64]:
        """Mean and standard deviation of the log-odds of each."""
        spread = self.covariance[experts, domain, domain]
        return self.base[domain] + self.mean[experts, domain], np.sqrt(spread)

    def learn(self, expert: int, domain: int, outcome: float) -> None:
        """Take one outcome."""
        column = self.covariance[expert, :, domain].copy()
        p = float(expit(self.base[domain] + self.mean[expert, domain]))
        h = max(p * (1 - p), 0.02)
        gain = 1 / (column[domain] + 1 / h)
        self.mean[expert] += column * gain * (outcome - p) / h
        self.covariance[expert] -= np.outer(column, column) * gain


def told_by(profile: Float64, noise: float) -> tuple[Float64, Float64]:
    """What profiles tell of abilities, and the doubt that they leave: each domain's signal tells of
    every domain, by how the signals of all experts vary together.

    Shapes: profile (experts, domains); the answer (experts, domains), (domains, domains).
    Units: noise the variance of a signal about the ability it tells of, squared logits.
    Source: normal means with two components of variance, by moments; Searle, Casella, McCulloch,
        Variance Components (1992), chapter 3.
    """
    experts, domains = profile.shape
    own = profile.mean(axis=1, keepdims=True)
    within = float(((profile - own) ** 2).sum() / (experts * (domains - 1)))
    between = float(own.var(ddof=1)) - within / domains
    general, special = max(between, 0.01), max(within - noise, 0.01)
    prior = np.full((domains, domains), general) + special * np.eye(domains)
    weight = np.linalg.solve(prior + noise * np.eye(domains), prior)
    return profile @ weight, prior - prior @ weight


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
    mean = np.zeros((experts, domains))
    covariance = spread**2 * (0.7**2 + 0.75**2 * np.eye(domains))
    if with_profile:
        noise = spread * np.sqrt(1 - TOLD_BY_PROFILE**2) / TOLD_BY_PROFILE
        mean, covariance = told_by(true + noise * rng.normal(size=true.shape), noise**2)
    beliefs = Beliefs(base, mean, covariance)
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
