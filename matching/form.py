"""What a past adds to the logit of the next answer, more of it on some items than on others."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

import numpy as np

from matching.history import FEATURES
from matching.problem import Float64
from matching.view import Keys

OWN = (5, 6)
"""Features whose weight each item may have of its own: the running residual of the subject, and
that of the subject at this item. Some items ask more than others for how one is doing of late."""

FEW_ANSWERS = 10
"""Answers that items must have on the average before weights of their own are asked for."""

MOST_ROWS = 2_000_000
"""Rows beyond which the tables of these weights would not fit beside all others."""


def own_weights(item: Keys, past: Float64) -> dict[str, Keys]:
    """Effects of items, times what was before, for a refit to estimate.

    Shapes: past (rows, features), standardised.
    """
    return {
        f"own{n}": Keys(item.at, item.code, np.ascontiguousarray(past[:, n], np.float64))
        for n in OWN
    }


class Form:
    """Weights of the features of a past, for all items and for each.

    `weights` are for features as `History.look` gives them; with `shift` they are centred. `slopes`
    has of an item what is added to the weights of `OWN`, and a shift, logits.

    Source: a slope of its own for each item, as in performance factors analysis; Pavlik, Cen,
        Koedinger, AIED 2009, of running residuals and not of counts.
    """

    def __init__(self) -> None:
        self.weights = [0.0] * FEATURES
        self.shift = 0.0
        self.slopes: dict[int, list[float]] = {}

    def read(self, weights: Float64, centre: Float64, spread: Float64) -> None:
        """Take the weights of standardised features.

        Shapes: all (features,), centre and spread as they were standardised with.
        """
        self.weights = (weights / spread).tolist()
        self.shift = -float((weights / spread) @ centre)

    def read_items(
        self, item: Keys, slopes: Sequence[Float64], centre: Float64, spread: Float64
    ) -> None:
        """Take what each item's weights are beyond the common ones, of standardised features.

        Shapes: slopes, of each feature of `OWN`, (items,); centre and spread (features,).
        """
        if not slopes:
            return
        own = list(OWN)
        each = np.column_stack(slopes) / spread[own]
        moved = np.column_stack([each, -each @ centre[own]])
        self.slopes = dict(zip(item.code[:, 0].tolist(), moved.tolist(), strict=True))

    def logit(self, item: int, features: Sequence[float]) -> float:
        """What a past adds to the logit of an answer, but for the shift."""
        found: float = sum(map(mul, self.weights, features))
        own = self.slopes.get(item)
        if own is not None:
            found += own[2] + own[0] * features[5] + own[1] * features[6]
        return found

    def logits(self, own: Float64, past: Float64) -> Float64:
        """The same of many rows; own (rows, 3) from `slopes`, past (rows, features)."""
        found = past @ np.array(self.weights) + own[:, 2]
        return np.asarray(found + (own[:, :2] * past[:, list(OWN)]).sum(axis=1), np.float64)
