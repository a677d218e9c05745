"""A plan by lot: probabilities that a policy allows, and one draw from them with a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.draw import draw
from matching.flow import solve_seats
from matching.model import Model
from matching.priced import beyond_prices
from matching.problem import Bool, Float64, Int64
from matching.repair import entries_by_pair, repaired
from matching.spread import UNIT, best_under_ceiling, spread

PLANS = 32
"""Plans that a lot under side rules is drawn from, at least."""

MOST_PLANS = 256
"""Plans that a low ceiling may need; a lower one is refused."""

BANNED = 1 << 42
"""A loss, micro-units, that keeps a pair out of any flow."""


class CeilingTooLow(ValueError):
    """No lot keeps side rules and this ceiling; carries the ceiling, and the plans found."""

    def __init__(self, ceiling: float, plans: int) -> None:
        self.ceiling = ceiling
        self.plans = plans
        super().__init__(f"no lot of whole plans keeps every pair to {ceiling:g}; {plans} found")


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """What was drawn, and the chance of every pair before the draw.

    Shapes: on (model pairs,) bool; chance (model pairs,) float64.
    """

    on: Bool
    chance: Float64


def draw_seats(model: Model, ceiling: float, given_up: float, seed: int) -> Lot:
    """A draw under seat rules alone: probabilities as even as the total allows, rounded exactly.

    Units: given_up, the share of the best expected total under the ceiling that evenness may cost.
    """
    best = best_under_ceiling(model.seats, model.profit, ceiling)
    total = best.total - given_up * abs(best.total)
    even = spread(model.seats, model.profit, ceiling, total)
    on = draw(model.seats, even.units, even.open_units, seed)
    return Lot(on, even.units / UNIT)


def draw_whole_plans(
    model: Model, row_price: Float64, ceiling: float, given_up: float, seed: int
) -> Lot:
    """A draw under side rules: one of a number of whole plans, each within every hard rule.

    Each plan is the best one at the prices of the side rules when profits are shaken a little;
    a pair sits out as many plans as the ceiling asks. A pair's chance is the share of plans that
    it is in, so that it is exact.

    Units: given_up, the size of the shaking as a share of a typical profit; row_price in
        micro-units.
    Raises: CeilingTooLow.
    Source: perturb and maximise; Papandreou, Yuille, ICCV 2011, for drawing by shaken profits.
    """
    number = max(PLANS, int(np.ceil(1 / ceiling)))
    if number > MOST_PLANS:
        raise CeilingTooLow(ceiling, 0)
    rng = np.random.default_rng(seed)
    entries = entries_by_pair(model)
    most = int(np.floor(ceiling * number + 1e-9))
    seats, net = model.seats, model.profit - model.rows.charge(row_price, len(model.profit))
    size = given_up * float(np.median(np.abs(model.profit))) if len(model.profit) else 0.0
    times = np.zeros(len(model.profit), np.int64)
    plans: list[Bool] = []
    # A pair's turns are spaced out from a start of its own; were all pairs used up together, the
    # last plans would be left with the worst.
    phase = rng.random(len(net))
    for turn in range(number):
        shaken = np.rint(net + size * rng.gumbel(size=len(net))).astype(np.int64)
        spent = times + 1 > np.minimum(np.floor(ceiling * (turn + 1) + phase), most)
        shaken[spent] = -BANNED
        plan = solve_seats(seats, shaken)
        reduced = beyond_prices(model, plan, net)
        mended = repaired(model, entries, plan.on, reduced, barred=spent)
        if mended is None:
            raise CeilingTooLow(ceiling, len(plans))
        times += mended
        plans.append(mended)
    drawn: Int64 = rng.integers(len(plans), size=1)
    return Lot(plans[int(drawn[0])], times / len(plans))
