"""How much of the outcome a few contributors make: Lorenz, Gini, and shares with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from matching.credit import checked_numbers
from matching.problem import Float64

DRAWS = 1000
"""Times that the experts are drawn again for an interval."""

WIDTH = 1.9
WIDTH_FOR_FEW = 16.0
"""Half width of an interval in deviations: 1.9 + 16 / experts. A bootstrap of heavy-tailed volumes
is too narrow; these were set on log-normal and negative binomial worlds and are tested there."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and nine tenths of what it may be; None where there is nothing to share."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Concentration:
    """How unequally something is spread over contributors.

    Units: gini in [0, 1]; top_10 and top_20 the shares that the first tenth and fifth of the
        contributors hold, a part of a contributor counting for its part.
    """

    contributors: int
    total: float
    gini: Estimate
    top_10: Estimate
    top_20: Estimate

    def sentence(self, of: str = "validated stumps") -> str:
        """What may be said of it in the product."""
        share = self.top_10
        if share.value is None or share.low is None or share.high is None:
            return f"Nobody has made {of} yet."
        return f"The top 10 % made {share.value:.0%} of {of} [{share.low:.0%}, {share.high:.0%}]."


def lorenz(amount: Float64) -> tuple[Float64, Float64]:
    """Shares of contributors, the least first, and the shares that they hold, from 0 to 1.

    Shapes: amount (contributors,); both answers (contributors + 1,).
    Raises: CreditInvalid.
    """
    amounts = np.sort(checked_numbers("amount", amount, low=0.0))
    people = np.linspace(0.0, 1.0, len(amounts) + 1)
    total = float(amounts.sum())
    held = np.concatenate([[0.0], np.cumsum(amounts)])
    return people, held / total if total > 0 else people.copy()


def gini(amounts: Float64) -> Float64:
    """Twice the area between equality and the Lorenz curve, of each row, shape (rows,).

    Source: Gini (1912), by order statistics: sum of (2 i - n - 1) x_i over n times the total.
    """
    return _gini(np.sort(amounts, axis=-1))


def _gini(ordered: Float64) -> Float64:
    size = ordered.shape[-1]
    weight = 2.0 * np.arange(1, size + 1) - size - 1
    total = np.maximum(size * ordered.sum(axis=-1), 1e-300)
    return np.asarray((ordered @ weight) / total, np.float64)


def top_share(amounts: Float64, share: float) -> Float64:
    """What the first `share` of contributors hold of the total, of each row, shape (rows,)."""
    return _top_share(np.sort(amounts, axis=-1), share)


def _top_share(ordered: Float64, share: float) -> Float64:
    size = ordered.shape[-1]
    seats = share * size
    whole = int(seats)
    held = ordered[..., size - whole :].sum(axis=-1)
    if whole < size:
        held = held + (seats - whole) * ordered[..., size - whole - 1]
    return np.asarray(held / np.maximum(ordered.sum(axis=-1), 1e-300), np.float64)


def concentration(amount: Float64, *, seed: int = 0, draws: int = DRAWS) -> Concentration:
    """Shares and their intervals, of volumes or of rates; ask for each of them by itself.

    Contributors are drawn again, because another year would bring others. The interval is normal
    in the log odds of the share, moved by the bootstrap's bias: small samples of a heavy tail
    understate how much the few hold.

    Shapes: amount (contributors,), from nought.
    Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), section 10.3 and 13.3.
    Raises: CreditInvalid.
    """
    amounts = np.sort(checked_numbers("amount", amount, low=0.0))
    size, total = len(amounts), float(amounts.sum())
    if size == 0 or total <= 0:
        nothing = Estimate(None, None, None)
        return Concentration(size, total, nothing, nothing, nothing)
    rng = np.random.default_rng(seed)
    # Ranks are drawn, and sorted as small whole numbers: quicker than sorting every row of amounts.
    rank = rng.integers(0, size, (draws, size), dtype=np.uint16 if size < 2**16 else np.uint32)
    rank.sort(axis=1, kind="stable")
    again = amounts[rank]
    again = again[again.sum(axis=1) > 0]

    def estimate(figure: Callable[[Float64], Float64]) -> Estimate:
        value = float(figure(amounts[None])[0])
        if size < 3 or len(again) < 2:
            return Estimate(value, 0.0, 1.0)
        odds, drawn = _logit(np.array([value]))[0], _logit(figure(again))
        centre, width = 2 * odds - drawn.mean(), (WIDTH + WIDTH_FOR_FEW / size) * drawn.std()
        low, high = (float(1 / (1 + np.exp(-edge))) for edge in (centre - width, centre + width))
        return Estimate(value, min(low, value), max(high, value))

    return Concentration(
        size,
        total,
        estimate(_gini),
        estimate(lambda rows: _top_share(rows, 0.1)),
        estimate(lambda rows: _top_share(rows, 0.2)),
    )


def _logit(share: Float64) -> Float64:
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)
