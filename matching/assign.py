"""The best plan for a problem, with prices, a certified bound and a reason for each open seat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from matching.assignment import Assignment, Prices, micro_value, objective_micro, plan_gap
from matching.blocking import open_seats
from matching.bound import price_bound
from matching.clash import feasible_plan
from matching.model import (
    Model,
    chosen_pairs,
    make_model,
    model_choice,
    model_prices,
    row_prices,
    solve_priced,
)
from matching.policy import Policy
from matching.priced import Priced, search_prices
from matching.problem import MICRO, Bool, Float64, Int64, Problem, ProblemInvalid
from matching.repair import worth

__all__ = ["Assignment", "Cancelled", "Effort", "Infeasible", "Prices", "Progress", "assign"]


FLOOR_SEARCH = 60.0
"""Deterministic time for each search under a floor."""


class Cancelled(RuntimeError):
    """The caller asked to stop; carries the rounds that were done."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        super().__init__(f"cancelled after {rounds} rounds")


class Infeasible(ValueError):
    """No plan keeps the hard rules; carries a smallest set of rules that clash, in words."""

    def __init__(self, rules: tuple[str, ...]) -> None:
        self.rules = rules
        super().__init__("these rules cannot hold together: " + "; ".join(rules))


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search under side rules; counted in work, never in seconds.

    Units: rounds in solved flows; descents in steps on the bound; neighbourhoods in parts of a
        plan that are taken apart and seated anew; target_gap a share of the bound at which search
        ends; core_pairs the largest problem that branch and bound may finish; search in OR-Tools'
        deterministic time units, about a second each.
    """

    rounds: int = 16
    descents: int = 120
    neighbourhoods: int = 20
    target_gap: float = 1e-4
    core_pairs: int = 5_000
    search: float = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a round; `rounds` is the most there may be.

    Units: objective and bound in units of value; objective is -inf while no plan is known.
    """

    round: int
    rounds: int
    objective: float
    bound: float


def assign(
    problem: Problem,
    policy: Policy | None = None,
    *,
    seed: int = 0,
    start: Prices | None = None,
    effort: Effort | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Assignment:
    """The best plan within the hard rules, and the proof of how good it is.

    Seats, capacities, locked pairs and minimum loads are a flow and solved exactly. Budgets,
    hours, quotas, share caps and conflicts are priced, mended and certified, and small problems
    are finished by branch and bound. The policy gives prices and caps that the problem leaves
    open; the problem's own are kept. Equal input and seed give the equal answer.

    The search for prices begins at `start`, those of an earlier answer to much the same problem
    under the names of this one; they are part of the input. Its seat prices are not looked at.

    Raises:
        Infeasible, when hard rules cannot hold together; Cancelled; ProblemInvalid, when prices to
        start from are not those of such a problem.
    """
    problem = under_policy(problem, policy)
    effort = Effort() if effort is None else effort
    _stop_if(cancelled, 0)
    model = make_model(problem)
    if policy is not None and policy.floor:
        return _assign_floor(model, seed, start, effort, progress, cancelled)
    if policy is not None and policy.randomness < 1:
        return _assign_by_lot(model, policy, seed, start, effort, progress, cancelled)
    if model.rows.count == 0:
        plan = solve_priced(model, None)
        chosen = chosen_pairs(model, plan.on)
        prices = model_prices(model, plan.task_price, plan.expert_price, np.zeros(0))
        answer = finished(problem, chosen, prices, model=model, proof="flow", rounds=1, seed=seed)
        _tell(progress, 1, 1, answer.objective, answer.bound)
        return answer
    return _assign_priced(model, seed, start, effort, progress, cancelled)


def _assign_floor(
    model: Model,
    seed: int,
    begin: Prices | None,
    effort: Effort,
    progress: Callable[[Progress], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Assignment:
    """The worst-off task first, then the total; the bound is one under the floor."""
    # Loads CP-SAT, which most runs never need.
    from matching.floor import raise_floor

    problem = model.problem
    start = assign(
        problem, seed=seed, start=begin, effort=effort, progress=progress, cancelled=cancelled
    )
    nothing = np.zeros(len(model.profit), np.bool_)
    fixed = objective_micro(problem, problem.locked) - worth(model, nothing)
    _stop_if(cancelled, start.rounds)
    raised = raise_floor(model, model_choice(model, start.chosen), limit=FLOOR_SEARCH)
    chosen = chosen_pairs(model, raised.on)
    bound = min((raised.proved + fixed) / MICRO, start.bound)
    answer = finished(
        problem,
        chosen,
        start.prices,
        model=model,
        proof="search",
        rounds=start.rounds,
        seed=seed,
        bound=bound,
    )
    return replace(answer, floor=raised.floor / MICRO)


def _assign_by_lot(
    model: Model,
    policy: Policy,
    seed: int,
    begin: Prices | None,
    effort: Effort,
    progress: Callable[[Progress], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Assignment:
    """A plan drawn from recorded probabilities; bound and prices are those of the best plan."""
    # Loads SciPy, which plans without a lot never need.
    from matching.lottery import draw_seats, draw_whole_plans

    problem = model.problem
    best = assign(
        problem, seed=seed, start=begin, effort=effort, progress=progress, cancelled=cancelled
    )
    _stop_if(cancelled, best.rounds)
    if model.rows.count == 0:
        lot = draw_seats(model, policy.randomness, policy.perturbation, seed)
    else:
        price = row_prices(model, best.prices)
        lot = draw_whole_plans(model, price, policy.randomness, policy.perturbation, seed)
    chosen = chosen_pairs(model, lot.on)
    answer = finished(
        problem,
        chosen,
        best.prices,
        model=model,
        proof=best.proof,
        rounds=best.rounds,
        seed=seed,
        bound=best.bound,
    )
    chance = np.zeros(problem.pairs)
    chance[model.pair] = lot.chance
    chance[problem.locked] = 1.0
    support = np.flatnonzero(chance)
    return replace(
        answer,
        probability=chance[chosen],
        marginal_pair=support,
        marginal=chance[support],
        expected=float((micro_value(problem) * chance).sum()) / MICRO,
        ceiling=policy.randomness,
    )


def under_policy(problem: Problem, policy: Policy | None) -> Problem:
    """The problem with the prices and caps of a policy where it has none of its own."""
    if policy is None:
        return problem
    seat = policy.open_seat_price if problem.open_seat_price is None else None
    share = policy.share_cap if problem.share_cap is None and policy.share_cap < 1 else None
    load = policy.min_load_price if problem.min_load_price is None else None
    if not seat and share is None and (load is None or problem.min_load is None):
        return problem
    return problem.with_changes(open_seat_price=seat, share_cap=share, min_load_price=load)


def finished(
    problem: Problem,
    chosen: Int64,
    prices: Prices,
    *,
    model: Model | None = None,
    proof: str,
    rounds: int,
    seed: int,
    bound: float | None = None,
) -> Assignment:
    """An assignment around chosen pairs: objective, certified bound, gap and open seats."""
    objective = objective_micro(problem, chosen) / MICRO
    proved = price_bound(problem, prices, None if model is None else model.left)
    if bound is not None:
        proved = min(proved, bound)
    # Both are sums of the same micro-units; a bound below is the rounding of a price.
    proved = max(proved, objective)
    return Assignment(
        chosen=chosen,
        probability=np.ones(len(chosen)),
        objective=objective,
        bound=proved,
        gap=plan_gap(objective, proved),
        proof=proof,
        prices=prices,
        open_seats=open_seats(problem, chosen),
        seed=seed,
        rounds=rounds,
        marginal_pair=chosen,
        marginal=np.ones(len(chosen)),
        expected=objective,
    )


def _assign_priced(
    model: Model,
    seed: int,
    start: Prices | None,
    effort: Effort,
    progress: Callable[[Progress], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Assignment:
    problem = model.problem
    # The model knows nothing of what locked pairs earn or have missed already.
    nothing = np.zeros(len(model.profit), np.bool_)
    fixed = objective_micro(problem, problem.locked) - worth(model, nothing)

    def report(number: int, value: float, bound: float) -> None:
        most = effort.rounds + effort.neighbourhoods
        _tell(progress, number, most, (value + fixed) / MICRO, (bound + fixed) / MICRO)
        _stop_if(cancelled, number)

    # A plan that keeps the hard floors, if any plan does; where none asks, the empty one.
    known = feasible_plan(problem)
    if known.rules:
        raise Infeasible(known.rules)
    found = search_prices(
        model,
        rounds=effort.rounds,
        descents=effort.descents,
        target_gap=effort.target_gap,
        start=None if start is None else _row_start(model, start),
        report=report,
    )
    prices = model_prices(model, found.task_price, found.expert_price, found.row_price)
    on, bound, proof = found.on, None, "prices"
    if on is None and known.chosen is not None:
        on = model_choice(model, known.chosen)
    far = on is None or found.bound - found.worth > effort.target_gap * abs(found.bound)
    if far and len(model.profit) <= effort.core_pairs:
        # Branch and bound takes a third of a second to load, and most runs never need it.
        from matching.core import finish_by_search

        searched = finish_by_search(model, on, limit=effort.search)
        on = on if searched.on is None else searched.on
        if searched.proved_micro is not None:
            bound, proof = (searched.proved_micro + fixed) / MICRO, "search"
    elif far and on is not None:
        on = _polished(model, found, on, prices, effort, fixed, report)
    if on is None:
        raise Infeasible(("no plan that keeps every hard floor was found within the effort",))
    chosen = chosen_pairs(model, on)
    return finished(
        problem,
        chosen,
        prices,
        model=model,
        proof=proof,
        rounds=found.rounds,
        seed=seed,
        bound=bound,
    )


def _row_start(model: Model, start: Prices) -> Float64:
    """Prices of the rows to start from, micro-units, no one below nought.

    Raises: ProblemInvalid.
    """
    problem = model.problem
    sizes = (
        ("budget", start.budget, problem.projects),
        ("hour", start.hour, problem.experts),
        ("quota", start.quota, len(problem.quotas)),
    )
    for name, given, size in sizes:
        if given.shape != (size,) or not bool(np.isfinite(given).all()):
            raise ProblemInvalid(f"start.{name}", None, f"is not {size} numbers")
    return np.maximum(row_prices(model, start), 0.0)


def _polished(
    model: Model,
    found: Priced,
    on: Bool,
    prices: Prices,
    effort: Effort,
    fixed: int,
    report: Callable[[int, float, float], None],
) -> Bool:
    """The plan after parts of it were seated anew, until it is near enough to what is proved."""
    # SCIP takes a while to load, and most runs never need it.
    from matching.polish import polish

    proved = price_bound(model.problem, prices, model.left) * MICRO - fixed
    return polish(
        model,
        on,
        found,
        neighbourhoods=effort.neighbourhoods,
        good_enough=lambda value: proved - value <= effort.target_gap * abs(proved + fixed),
        report=lambda number, value: report(found.rounds + number, float(value), proved),
    )


def _tell(
    progress: Callable[[Progress], None] | None,
    number: int,
    rounds: int,
    objective: float,
    bound: float,
) -> None:
    if progress is not None:
        progress(Progress(number, rounds, objective, bound))


def _stop_if(cancelled: Callable[[], bool] | None, rounds: int) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled(rounds)
