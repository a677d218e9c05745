"""Lift that a lab reports for batches, split over the contributors whose items were in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.credit import CreditInvalid
from matching.problem import Bool, Float64, Int64

LEAST_FREE = 3
"""Batches beyond the number of groups that standard errors need."""


@dataclass(frozen=True, eq=False)
class LiftSplit:
    """What one item of each group added to the lab's metric, and how sure that is.

    Shapes: lift, sd (groups,), NaN never: nought and infinity where a group cannot be told;
        is_identified (groups,).
    Units: lift and sd in units of the metric for one item; noise, of the metric, for a batch.
    """

    lift: Float64
    sd: Float64
    is_identified: Bool
    baseline: float
    noise: float
    free: int

    def interval(self) -> tuple[Float64, Float64]:
        """Nine tenths, by the normal law; a group that cannot be told spans everything."""
        return self.lift - 1.645 * self.sd, self.lift + 1.645 * self.sd


class LiftNotIdentified(CreditInvalid):
    """Too few batches, or batches too alike, to tell any group from the others."""

    def __init__(self, batches: int, groups: int) -> None:
        self.batches = batches
        self.groups = groups
        reason = f"{batches} batches cannot tell {groups} groups apart: randomise and send more"
        super().__init__("batches", None, reason)


def draw_batches(items: Int64, batches: int, *, seed: int) -> Int64:
    """Spread the items of each group over batches at random and unevenly, shape (batches, groups).

    The split can only be told when groups are mixed differently in each batch: each group is in
    about half of them.

    Shapes: items (groups,), how many items of each group there are.
    Raises: CreditInvalid.
    """
    counts = np.asarray(items)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise CreditInvalid("items", None, "must be (groups,) whole numbers from nought")
    if batches < 2:
        raise CreditInvalid("batches", None, f"{batches} is not at least 2")
    rng = np.random.default_rng(seed)
    result = np.zeros((batches, len(counts)), np.int64)
    for group, number in enumerate(counts.tolist()):
        half = rng.permutation(batches)[: max(batches // 2, 1)]
        result[half, group] = rng.multinomial(number, np.full(len(half), 1 / len(half)))
    return result


def split_lift(batch: Float64, delta: Float64) -> LiftSplit:
    """Regress what each batch moved the metric on what was in it; ordinary least squares.

    Unbiased when items were put into batches by a draw. A group that was in every batch alike, or
    only ever beside another, cannot be told and says so.

    Shapes: batch (batches, groups), items of each group; delta (batches,), the metric's change.
    Source: White's errors in the form of MacKinnon, White, Journal of Econometrics 29 (1985), HC3.
    Raises: LiftNotIdentified, CreditInvalid.
    """
    design, change = checked_batches(batch, delta)
    batches, groups = design.shape
    whole = np.column_stack([np.ones(batches), design])
    told = _told(whole)
    rank = int(np.linalg.matrix_rank(whole))
    free = batches - rank
    if free < LEAST_FREE or not told[1:].any():
        raise LiftNotIdentified(batches, groups)
    inverse = np.linalg.pinv(whole)
    coefficient = inverse @ change
    left = change - whole @ coefficient
    leverage = np.clip(np.einsum("ij,ji->i", whole, inverse), 0.0, 0.999)
    spread = ((inverse * (left / (1 - leverage)) ** 2) @ inverse.T).diagonal()
    return LiftSplit(
        np.where(told[1:], coefficient[1:], 0.0),
        np.where(told[1:], np.sqrt(np.maximum(spread[1:], 0.0)), np.inf),
        told[1:],
        float(coefficient[0]),
        float(np.sqrt(float(left @ left) / free)),
        free,
    )


def checked_batches(batch: Float64, metric: Float64) -> tuple[Float64, Float64]:
    """What was in each batch and what came of it, finite and of one length.

    Raises: CreditInvalid.
    """
    design, told = np.asarray(batch, np.float64), np.asarray(metric, np.float64)
    if design.ndim != 2 or told.shape != (len(design),):
        raise CreditInvalid("delta", None, f"{told.shape} does not fit batches {design.shape}")
    if not (np.isfinite(design).all() and np.isfinite(told).all()):
        raise CreditInvalid("delta", None, "batch and delta must be finite")
    return design, told


def leave_one_out(batch: Float64, delta: Float64) -> Float64:
    """The mean change of batches with each group less that of batches without it, (groups,).

    A check on the regression with nothing assumed of how groups add up; nought for a group that
    was in all batches or in none.

    Shapes: batch (batches, groups); delta (batches,).
    """
    there = np.asarray(batch, np.float64) > 0
    change = np.asarray(delta, np.float64)
    result = np.zeros(there.shape[1])
    for group in range(there.shape[1]):
        inside = there[:, group]
        if inside.any() and not inside.all():
            result[group] = change[inside].mean() - change[~inside].mean()
    return result


def _told(whole: Float64) -> Bool:
    """Which columns no combination of the others makes, shape (columns,)."""
    _, size, right = np.linalg.svd(whole)
    rank = int((size > size[0] * max(whole.shape) * np.finfo(float).eps).sum())
    # A column is told when nothing that the data cannot see points along it.
    hidden = right[rank:]
    return np.asarray((np.abs(hidden) < 1e-8).all(axis=0), bool)
