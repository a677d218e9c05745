"""What recorded runs would have chosen under another policy, and what would have come of it.

    told = preview([past], Candidate(policy), seed=1)
    told.planned["fill"].change, told.realised["stumps"].candidate.low, told.refusal

Every run is replayed from where it stood: the same pairs, limits, predictions and free money. What
one run leaves to the next is as it was recorded, not as the other policy would have left it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matching.assign import Assignment, Effort, assign, under_policy
from matching.assignment import totals
from matching.concentration import gini, top_share
from matching.outcomes import cross_fit
from matching.past import Past, Rows, rows_of
from matching.policy import Policy
from matching.problem import Float64, Int64, Problem, newcomer_quotas
from matching.replay import Estimate, Evaluation, Limits, compare, evaluate
from matching.value import pair_value

Float32 = NDArray[np.float32]

LEAST_EFFECTIVE = 40.0
"""Effective outcomes below which a preview gives no verdict. `replay` alone asks for 100; at a
tenth of randomness a log of two thousand seats holds 40 to 80 for a policy that differs in most of
them, and its intervals were measured to hold the truth there (`python -m tests.bench preview`)."""

DRAWS = 100
"""Plans drawn from the probabilities, for the intervals of what is planned."""

QUICK = Effort(rounds=6, target_gap=2e-3, core_pairs=2_000, search=0.5)
"""Effort of a replayed run: a gap of two thousandths is far below what a preview can tell."""

REALISED = ("taken_up", "stumps", "cost", "wait")
PLANNED = ("fill", "stumps", "cost", "newcomer_share", "top_10_share", "gini")

UNITS = {
    "fill": "share of seats that the plan fills",
    "stumps": "stumps",
    "cost": "minor units",
    "newcomer_share": "share of filled seats that newcomers hold",
    "top_10_share": "share of expected pay that the best-paid tenth of those who get work hold",
    "gini": "0 when everybody gets the same pay, 1 when one gets all",
    "taken_up": "share of seats whose offer is accepted",
    "wait": "hours from an offer to its acceptance",
}
"""What each figure is counted in."""


class Worthless(ValueError):
    """A policy under which no pair of any recorded run is worth anything."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        super().__init__(f"none of {pairs} pairs is worth anything under this policy")


class NothingRecorded(ValueError):
    """A stretch of time without a run that can be replayed."""

    def __init__(self) -> None:
        super().__init__("there is nothing to replay: no run, or none with a pair")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to try, and the interest of an expert who said nothing. Units: 0 to 1."""

    policy: Policy
    default_interest: float = 0.0


@dataclass(frozen=True, slots=True)
class Sides:
    """One figure under the policies of then and under the candidate, and the difference.

    Units: as in UNITS.
    """

    today: Estimate
    candidate: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """What a policy gives each expert, or each group of tasks, more or less than before.

    Shapes: all (labels,).
    Units: seats and pay, in minor units, as expected before the draw.
    """

    label: Int64
    seats_before: Float64
    seats_after: Float64
    pay_before: Float64
    pay_after: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A candidate beside today.

    `refusal` says why the record cannot tell what would have come of the candidate; what is planned
    holds all the same, because it needs no outcome. `group_seats` are seats wanted by group.

    Units: effective in outcomes; unsupported a share of what the candidate would do.
    """

    planned: Mapping[str, Sides]
    realised: Mapping[str, Sides]
    refusal: str | None
    effective: float
    unsupported: float
    bounds: tuple[float, float]
    experts: Shift
    groups: Shift
    group_seats: Float64
    seats: int
    runs: int
    pairs: int


def reweighed(past: Past, candidate: Candidate) -> Problem:
    """The problem that a recorded run would have been under a candidate.

    Raises: ProblemInvalid.
    """
    parts = past.parts
    if parts.interest is not None:
        interest = np.where(past.said, parts.interest, candidate.default_interest)
        parts = replace(parts, interest=interest)
    policy = candidate.policy
    # Prices and caps of the policy of then give way; limits of the market stay.
    bare = replace(
        past.problem,
        value=pair_value(parts, policy).total,
        open_seat_price=None,
        share_cap=None,
        min_load_price=None,
        quotas=(),
    )
    if policy.newcomer_share:
        quotas = newcomer_quotas(bare, past.newcomer, policy.newcomer_share, policy.newcomer_price)
        bare = bare.with_changes(quotas=quotas)
    return under_policy(bare, policy)


def replayed(
    past: Past, candidate: Candidate, *, seed: int = 0, effort: Effort = QUICK
) -> tuple[Assignment, Float64]:
    """What the run would have answered, and the chance of each pair, shape (pairs,).

    Raises: Infeasible, ProblemInvalid.
    """
    answer = assign(reweighed(past, candidate), candidate.policy, seed=seed, effort=effort)
    chance = np.zeros(past.problem.pairs)
    chance[answer.marginal_pair] = answer.marginal
    return answer, chance


def preview(
    pasts: Sequence[Past],
    candidate: Candidate,
    *,
    seed: int = 0,
    effort: Effort = QUICK,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preview:
    """The candidate beside the policies under which the runs were made.

    What is planned follows from probabilities alone; its intervals are those of the draw. What is
    realised is estimated from outcomes that were recorded with their probabilities, doubly robust,
    by an outcome model that was fitted on other decisions.

    Raises: NothingRecorded; Worthless; Infeasible; ProblemInvalid.
    Source: `matching.replay.evaluate`.
    """
    pasts = [past for past in pasts if past.problem.pairs]
    if not pasts:
        raise NothingRecorded()
    values = [reweighed(past, candidate).value for past in pasts]
    if not any(bool((value > 0).any()) for value in values):
        raise Worthless(sum(len(value) for value in values))
    after: list[Float64] = []
    for turn, past in enumerate(pasts):
        after.append(replayed(past, candidate, seed=seed + turn, effort=effort)[1])
        if progress is not None:
            progress(turn + 1, len(pasts))
    rows = rows_of(pasts, after)
    limits = limits or Limits(effective=LEAST_EFFECTIVE)
    realised, whole = _realised(rows, limits)
    decisions = len(np.unique(rows.decision))
    return Preview(
        planned=_planned(rows, seed),
        realised=realised,
        refusal=whole.refusal,
        effective=whole.effective,
        unsupported=whole.unsupported,
        bounds=(whole.bounds[0] * decisions, whole.bounds[1] * decisions),
        experts=_shift(rows, rows.expert),
        groups=_shift(rows, rows.group),
        group_seats=_group_seats(pasts, np.unique(rows.group)),
        seats=rows.seats,
        runs=len(pasts),
        pairs=sum(past.problem.pairs for past in pasts),
    )


def _realised(rows: Rows, limits: Limits) -> tuple[dict[str, Sides], Evaluation]:
    """Totals of stumps and pay, the share of seats taken up, and the wait of those."""

    def sides(outcome: Float64, high: float, scale: float) -> tuple[Sides, Evaluation, Evaluation]:
        log = rows.log(outcome)
        direct = cross_fit(log, factors=(rows.group,), covariates=rows.covariates)
        bounded = replace(limits, outcome_high=max(high, limits.outcome_low + 1e-9))
        one = evaluate(log, rows.after, direct, limits=bounded)
        two = evaluate(log, rows.today, direct, limits=bounded)
        apart = compare(log, rows.after, rows.today, direct, limits=bounded)
        told = Sides(*(_scaled(each, scale) for each in (two.robust, one.robust, apart)))
        return told, one, two

    decisions = float(len(np.unique(rows.decision)))
    stumps, whole, _ = sides(rows.came.stump, 1.0, decisions)
    most = float(rows.came.cost.max(initial=0.0))
    paid, _, _ = sides(rows.came.cost, most, decisions)
    taken_up, took, took_before = sides(rows.came.accepted, 1.0, decisions / max(rows.seats, 1))
    found = {"taken_up": taken_up, "stumps": stumps, "cost": paid}
    if took.robust.value > 0 and took_before.robust.value > 0:
        found["wait"] = _wait(rows, took.robust.value, took_before.robust.value, limits)
    return found, whole


def _wait(rows: Rows, taken: float, taken_before: float, limits: Limits) -> Sides:
    """Hours of those who accept: a ratio of two estimates, its error by the linear part of both."""
    hours = rows.came.wait * rows.came.accepted

    def ratio(target: Float64, share: float) -> Estimate:
        log = rows.log(hours)
        direct = cross_fit(log, factors=(rows.group,), covariates=rows.covariates)
        middle = evaluate(log, target, direct, limits=limits).robust.value / share
        rest = rows.log(hours - middle * rows.came.accepted)
        off = cross_fit(rest, factors=(rows.group,), covariates=rows.covariates)
        told = _scaled(evaluate(rest, target, off, limits=limits).robust, 1 / share)
        shift = middle - told.value
        return Estimate(max(middle, 0.0), max(told.low + shift, 0.0), told.high + shift, told.se)

    before, after = ratio(rows.today, taken_before), ratio(rows.after, taken)
    return Sides(before, after, _apart(before, after))


def _apart(before: Estimate, after: Estimate) -> Estimate:
    """The difference of two estimates, as if they were separate, which is at most too wide."""
    value = after.value - before.value
    low = value - float(np.hypot(after.value - after.low, before.high - before.value))
    high = value + float(np.hypot(after.high - after.value, before.value - before.low))
    return Estimate(value, low, high, float(np.hypot(before.se, after.se)))


def _scaled(told: Estimate, by: float) -> Estimate:
    return Estimate(told.value * by, told.low * by, told.high * by, told.se * by)


def _planned(rows: Rows, seed: int) -> dict[str, Sides]:
    rng = np.random.default_rng([seed, 17])
    luck = rng.random((DRAWS, len(rows.today)), dtype=np.float32)
    before, after = _drawn(rows, rows.today, luck), _drawn(rows, rows.after, luck)
    found = {}
    for at, name in enumerate(PLANNED):
        one, two = before[:, at], after[:, at]
        # The first row is what is expected, the others are single draws.
        most = 1.0 if name not in ("stumps", "cost") else np.inf
        found[name] = Sides(_within(one, most), _within(two, most), _within(two - one, np.inf))
    return found


def _drawn(rows: Rows, chance: Float64, luck: Float32) -> Float64:
    """Every figure as expected, then in each of some draws, shape (1 + draws, figures).

    Pairs are drawn one by one here, though the draw itself keeps the sum of each task, so that
    these intervals are rather too wide.
    """
    labels, place = np.unique(rows.expert, return_inverse=True)
    table = np.empty((len(luck) + 1, len(PLANNED)))
    for turn in range(len(luck) + 1):
        on = chance if turn == 0 else (luck[turn - 1] < chance).astype(np.float64)
        filled = float(on.sum())
        pay = totals(place, on * rows.cost, len(labels))
        pay = pay[pay > 0]
        table[turn] = (
            filled / max(rows.seats, 1),
            float(on @ rows.stump),
            float(on @ rows.cost),
            float(on @ rows.newcomer) / max(filled, 1e-9),
            float(top_share(pay[None], 0.1)[0]) if len(pay) else 0.0,
            float(gini(pay[None])[0]) if len(pay) else 0.0,
        )
    return table


def _within(rows: Float64, most: float) -> Estimate:
    expected, drawn = float(rows[0]), rows[1:]
    # Shares of a draw are more unequal than those of the expectation; only their spread counts.
    off = drawn - drawn.mean()
    low, high = (float(edge) for edge in np.quantile(off, (0.05, 0.95)))
    return Estimate(expected, expected + low, min(expected + high, most), float(drawn.std()))


def _shift(rows: Rows, label: Int64) -> Shift:
    labels, place = np.unique(label, return_inverse=True)
    size = len(labels)
    return Shift(
        label=labels,
        seats_before=totals(place, rows.today, size),
        seats_after=totals(place, rows.after, size),
        pay_before=totals(place, rows.today * rows.cost, size),
        pay_after=totals(place, rows.after * rows.cost, size),
    )


def _group_seats(pasts: Sequence[Past], labels: Int64) -> Float64:
    seats = np.zeros(len(labels))
    for past in pasts:
        at = np.searchsorted(labels, past.task_group)
        inside = (at < len(labels)) & (labels[np.minimum(at, len(labels) - 1)] == past.task_group)
        seats += totals(at[inside], past.problem.demand[inside], len(labels))
    return seats
