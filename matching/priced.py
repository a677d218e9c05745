"""Side rules by prices: sell every limit, solve the seats, move the prices, mend what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from matching.assignment import totals
from matching.descent import descend
from matching.flow import SeatPlan, solve_seats
from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.repair import (
    entries_by_pair,
    exchanged,
    keeps_rows,
    repaired,
    without_excess,
    worth,
)

BANNED = 1 << 42
"""A loss, micro-units, that keeps a pair out of any flow."""

CALM = 2e-5
"""Share of the bound below which a round counts as having brought nothing."""

PATIENCE = 2
"""Rounds without a better plan after which the search for one ends."""

STEP = 0.01
"""Share by which the price of a broken row rises in a round."""

FIRST_REACH = 0.05
"""How far the first step leads from a price that was given to start from, as a share of it."""

WIDE = 200
"""Pairs from which on a row answers to small steps of its price."""

NEAR = 4
"""Pairs a seat that small steps of prices look at; the others are far from being worth theirs."""


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """The best plan found, and the prices that gave the best bound.

    Shapes: on (model pairs,) bool or nothing when no plan was found; task_price, expert_price
        int64; row_price (rows,) float64; reduced (model pairs,), worth beyond all prices.
    Units: prices, reduced, worth and bound in micro-units.
    """

    on: Bool | None
    worth: int
    bound: float
    task_price: Int64
    expert_price: Int64
    row_price: Float64
    reduced: Float64
    rounds: int


def search_prices(
    model: Model,
    *,
    rounds: int,
    descents: int,
    target_gap: float,
    start: Float64 | None = None,
    report: Callable[[int, float, float], None],
) -> Priced:
    """Plan and bound under side rows: first the prices, then a plan that lives within them.

    The first rounds look for the prices with the least bound. What a row uses falls as its own
    price rises and depends little on other prices, so each price is bracketed and bisected on its
    own; brackets widen a little each round because experts do couple the rows. Prices to start
    from are thought to be near: half as many rounds look for them, in small steps. The other rounds
    raise the prices of rows that are still broken by small steps, so that the flow itself finds
    who replaces whom, and what little is broken then is mended by hand. In between, the prices
    go further down by steps on the bound alone, which cost a tenth of a flow.

    Units: rounds in flows, descents in steps on the bound; target_gap a share of the bound;
        start, prices of the rows in micro-units.
    Source: Fisher, Management Science 27 (1981), for the relaxation; brackets and steps are ours.
    """
    search = _Search(model, target_gap, report)
    search.bracketed(max(rounds // (2 if start is None else 4), 1), start)
    if not search.close_enough() and descents:
        search.descended(descents)
    if not search.close_enough():
        search.stepped(rounds)
    assert search.proof is not None
    task_price, expert_price, row_price = search.proof
    net = model.profit - model.rows.charge(row_price, len(model.profit))
    reduced = net - task_price[model.seats.task] - expert_price[model.seats.expert]
    search.exchange(reduced)
    return Priced(
        search.on,
        search.worth,
        search.bound,
        task_price,
        expert_price,
        row_price,
        reduced,
        search.rounds,
    )


class _Search:
    """The best plan and the best bound so far, and the rounds that it took."""

    def __init__(
        self, model: Model, target_gap: float, report: Callable[[int, float, float], None]
    ) -> None:
        self.model = model
        self.target_gap = target_gap
        self.report = report
        self.entries = entries_by_pair(model)
        self.on: Bool | None = None
        self.worth = -(1 << 60)
        self.bound = np.inf
        self.proof: tuple[Int64, Int64, Float64] | None = None
        self.near: Int64 | None = None
        self.rounds = 0

    def close_enough(self) -> bool:
        """Whether plan and bound have met as nearly as was asked."""
        gap = self.bound - self.worth
        return self.on is not None and gap <= self.target_gap * abs(self.bound)

    def round(self, price: Float64, banned: Bool | None, *, mend: bool) -> tuple[SeatPlan, Bool]:
        """One flow at these prices: its plan, and what of it broken rows can do without."""
        model, rows = self.model, self.model.rows
        self.rounds += 1
        net = model.profit - rows.charge(price, len(model.profit))
        whole = np.rint(net).astype(np.int64)
        if banned is not None:
            whole[banned] = -BANNED
        plan = self._flow(whole)
        proved = seat_bound(model, plan, net) + float((price * rows.limit).sum())
        if proved < self.bound:
            self.bound, self.proof = proved, (plan.task_price, plan.expert_price, price.copy())
        reduced = beyond_prices(model, plan, net)
        if mend:
            mended = repaired(model, self.entries, plan.on, reduced, exchange=False)
            value = self.worth if mended is None else worth(model, mended)
            if mended is not None and (self.on is None or value > self.worth):
                self.worth, self.on = value, mended
        self.report(self.rounds, -np.inf if self.on is None else float(self.worth), self.bound)
        return plan, plan.on & ~without_excess(model, plan.on, reduced)

    def _flow(self, profit: Int64) -> SeatPlan:
        """The best seats at these profits, among the near pairs when those have been chosen."""
        if self.near is None:
            return solve_seats(self.model.seats, profit)
        seats, near = self.model.seats, self.near
        some = replace(seats, task=seats.task[near], expert=seats.expert[near])
        plan = solve_seats(some, profit[near])
        on = np.zeros(len(profit), np.bool_)
        on[near] = plan.on
        return SeatPlan(on, plan.task_price, plan.expert_price)

    def look_near(self, reduced: Float64) -> None:
        """Leave the pairs out of later flows that are far from being worth their prices."""
        most = NEAR * int(self.model.seats.demand.sum())
        if most < len(reduced):
            self.near = np.flatnonzero(reduced >= np.partition(reduced, -most)[-most])

    def descended(self, steps: int) -> None:
        """Lower the bound by its subgradients, from the prices of the best bound so far."""
        assert self.proof is not None
        task_price, _, row_price = self.proof
        found = descend(self.model, task_price, row_price, worth=self.worth, steps=steps)
        if found.bound < self.bound:
            self.bound = found.bound
            self.proof = (found.task_price, found.expert_price, found.row_price)

    def exchange(self, reduced: Float64) -> None:
        """Let better experts with time to spare take over seats of the best plan."""
        if self.on is None or self.close_enough():
            return
        everyone = np.ones(len(reduced), np.bool_)
        trial = exchanged(self.model, self.entries, self.on, reduced, everyone)
        gained = worth(self.model, trial)
        if gained > self.worth and keeps_rows(self.model, trial):
            self.on, self.worth = trial, gained

    def bracketed(self, rounds: int, start: Float64 | None) -> None:
        """Bisect the price of every row."""
        rows = self.model.rows
        top = np.where(np.isinf(rows.price), np.inf, rows.price)
        low, high = np.zeros(rows.count), top.copy()
        price = np.zeros(rows.count) if start is None else np.minimum(start, top)
        unit = price.copy()
        # A price that is thought to be near moves by small steps until it has been too low and too
        # high.
        near, reach = price > 0, FIRST_REACH
        was_over = was_under = np.zeros(rows.count, np.bool_)
        calm = 0
        for number in range(rounds):
            before = self.bound
            plan, _ = self.round(price, None, mend=number in (0, rounds - 1))
            # Rounds that hardly lower the bound are better spent on the plan.
            calm = calm + 1 if before - self.bound < CALM * abs(self.bound) else 0
            if self.close_enough() or calm >= 2:
                break
            used = rows.used(plan.on)
            over = used > rows.limit
            low, high = np.where(over, price, low), np.where(over, high, price)
            was_over, was_under = was_over | over, was_under | ~over
            near = near & ~(was_over & was_under)
            if number == 0:
                unit = np.where(near, price, _first_prices(self.model, plan.on, over))
            if number == 0 and not near.any():
                price = np.minimum(np.where(over, 0.5 * unit, 0.0), top)
                continue
            width = np.where(np.isfinite(high), np.maximum(high - low, 0), 0)
            low, high = np.maximum(low - 0.1 * width, 0), np.minimum(high + 0.1 * width, top)
            further = np.maximum(2 * price, np.maximum(0.25 * unit, 1e-3))
            away = np.where(over, 1 + reach, 1 - reach) * price
            price = np.where(np.isfinite(high), (low + high) / 2, further)
            price = np.where(near, np.minimum(away, top), price)
            reach = min(2 * reach, 0.5)
            price[~near & (low == 0) & (high < 1e-3 * unit)] = 0

    def stepped(self, rounds: int) -> None:
        """Raise the prices of broken rows step by step, and take out what no small step mends.

        A row over many pairs mends itself at a slightly higher price. A row over few pairs, an
        expert's hours above all, jumps from too much to too little; there the pair that the row
        can best do without is taken out of the flow for good.
        """
        model, rows = self.model, self.model.rows
        assert self.proof is not None
        task_price, expert_price, row_price = self.proof
        net = model.profit - rows.charge(row_price, len(model.profit))
        seats = model.seats
        self.look_near(net - task_price[seats.task] - expert_price[seats.expert])
        top = np.where(np.isinf(rows.price), np.inf, rows.price)
        pairs = np.bincount(rows.row, minlength=rows.count)
        wide = pairs >= WIDE
        banned = np.zeros(len(model.profit), np.bool_)
        price = row_price.copy()
        positive = price[wide & (price > 0)]
        least = 0.02 * float(np.median(positive)) if len(positive) else 1.0
        worst = self.worth
        calm = 0
        while self.rounds < rounds and not self.close_enough() and calm < PATIENCE:
            plan, excess = self.round(price, banned, mend=True)
            calm = calm + 1 if self.worth <= worst else 0
            worst = self.worth
            used = rows.used(plan.on)
            over = used > rows.limit + 1e-7
            narrow = np.zeros(len(banned), np.bool_)
            narrow[rows.pair[(over & ~wide)[rows.row]]] = True
            banned |= excess & narrow
            step = np.where(over, np.maximum(STEP * price, least), 0.0)
            spare = used < rows.limit * (1 - STEP)
            step = np.where(~over & spare, -0.5 * STEP * price, step)
            price = np.minimum(np.where(wide, price + step, price), top)


def beyond_prices(model: Model, plan: SeatPlan, net: Float64) -> Float64:
    """What each pair is worth beyond the prices of its seats, micro-units, shape (model pairs,).

    A pair that keeps an expert at their floor is worth the price of the floor besides, which the
    expert's own price, one of a further seat, does not tell.
    """
    seats = model.seats
    reduced = net - plan.task_price[seats.task] - plan.expert_price[seats.expert]
    if seats.bonus:
        load = np.bincount(seats.expert[plan.on], minlength=seats.experts)
        kept = (load > 0) & (load <= seats.floor)
        lost = np.where(kept, seats.bonus + np.minimum(plan.expert_price, 0), 0)
        reduced = reduced + np.where(plan.on, lost[seats.expert], 0)
    return reduced


def seat_bound(model: Model, plan: SeatPlan, net: Float64) -> float:
    """The most the seats can earn at these profits, from the plan's prices, micro-units."""
    seats = model.seats
    reduced = net - plan.task_price[seats.task] - plan.expert_price[seats.expert]
    total = float(np.maximum(reduced, 0).sum())
    total += float((seats.demand * np.maximum(plan.task_price, -seats.open_cost)).sum())
    price = plan.expert_price
    at_floor = seats.floor * (price + seats.bonus)
    at_top = at_floor + (seats.capacity - seats.floor) * price
    total += float(np.maximum(np.maximum(at_floor, at_top), 0).sum())
    return total - seats.bonus * float(seats.floor.sum())


def _first_prices(model: Model, on: Bool, over: Bool) -> Float64:
    """For each broken row, the price at which enough of its pairs would not pay, micro-units."""
    rows = model.rows
    out = np.zeros(rows.count)
    inside = np.flatnonzero(over[rows.row] & on[rows.pair] & (rows.weight > 0))
    if not len(model.profit):
        return out
    ratio = model.profit[rows.pair[inside]] / rows.weight[inside]
    order = inside[np.lexsort((-ratio, rows.row[inside]))]
    row, weight = rows.row[order], rows.weight[order]
    running = np.cumsum(weight)
    first = np.searchsorted(row, row)
    taken = running - (running - weight)[first]
    ratio = model.profit[rows.pair[order]] / weight
    beyond = taken > rows.limit[row]
    np.maximum.at(out, row[beyond], ratio[beyond])
    mean = totals(rows.row, np.abs(model.profit)[rows.pair], rows.count)
    count = np.maximum(np.bincount(rows.row, minlength=rows.count), 1)
    return np.where(over & (out <= 0), mean / count, out)
