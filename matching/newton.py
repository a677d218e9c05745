"""The least of a penalised logistic loss over a design, by Newton's method with bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from matching.design import Design
from matching.problem import Bool, Float64, Int64

MOST_STEPS = 30
"""Newton steps at most; six are usual, and more than twenty were never seen."""

MOST_PRODUCTS = 60
"""Products of the curvature with a vector in one step, at most."""

FORCING = 0.05
"""How much of the slope a step may leave: closer is wasted while the curvature still moves."""

HALVINGS = 25
"""How often a step is halved before the place is held to be the least."""


class _Curve(NamedTuple):
    """The loss about one place: a weight for each row, and what the search is conditioned by."""

    bend: Float64
    precision: Float64
    free: Bool
    inverse: Float64
    diagonal: Float64


def least(
    design: Design,
    outcome: Float64,
    weight: Float64,
    precision: Float64,
    rising: Int64,
    start: Float64,
    *,
    tolerance: float,
) -> Float64:
    """Coefficients whose penalised loss is within `tolerance` nats of the least, as Newton sees it.

    Shapes: outcome, weight (rows,); precision, start and the result (design.width,); rising,
        the coefficients that may not be negative.
    Source: Bertsekas, SIAM Journal on Control and Optimization 20 (1982), for the bounds; Dembo,
        Eisenstat, Steihaug, SIAM Journal on Numerical Analysis 19 (1982), for inexact steps.
    """
    bounded = np.zeros(design.width, bool)
    bounded[rising] = True
    theta = start
    eta = design.logits(theta)
    value = _loss(theta, eta, outcome, weight, precision)
    for _ in range(MOST_STEPS):
        p = expit(eta)
        slope = design.sums(weight * (p - outcome)) + precision * theta
        free = ~(bounded & (theta <= 0) & (slope > 0))
        free[design.nowhere] = False
        bend = np.maximum(weight * p * (1 - p), 1e-12)
        step = _step(design, _curve(design, bend, precision, free), np.where(free, slope, 0.0))
        if -_dot(step, slope) < 2 * tolerance:
            break
        size = 1.0
        for _ in range(HALVINGS):
            tried = theta + size * step
            tried[bounded] = np.maximum(tried[bounded], 0.0)
            eta_tried = design.logits(tried)
            value_tried = _loss(tried, eta_tried, outcome, weight, precision)
            if value_tried <= value + 1e-4 * _dot(slope, tried - theta):
                break
            size /= 2
        else:
            break
        theta, eta, value = tried, eta_tried, value_tried
    return theta


def _dot(first: Float64, second: Float64) -> float:
    # Not by BLAS, whose threads cost more than they bring here.
    return float(np.einsum("n,n->", first, second))


def _loss(
    theta: Float64, eta: Float64, outcome: Float64, weight: Float64, precision: Float64
) -> float:
    # The logarithm of 1 + exp(eta), in a third of the time that logaddexp takes.
    soft = np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta)))
    return _dot(weight, soft - outcome * eta) + 0.5 * _dot(precision, theta * theta)


def _curve(design: Design, bend: Float64, precision: Float64, free: Bool) -> _Curve:
    columns = design.columns
    held = ~free[:columns]
    gram = design.gram(bend) + np.diag(precision[:columns])
    gram[held], gram[:, held] = 0.0, 0.0
    gram[held, held] = 1.0
    diagonal = design.square_sums(bend) + precision
    inverse = np.asarray(np.linalg.inv(gram), np.float64)
    return _Curve(bend, precision, free, inverse, diagonal)


def _step(design: Design, curve: _Curve, slope: Float64) -> Float64:
    """Conjugate gradients, the dense columns conditioned jointly and each level by itself."""
    columns = design.columns

    def conditioned(vector: Float64) -> Float64:
        found = vector / curve.diagonal
        found[:columns] = curve.inverse @ vector[:columns]
        return np.where(curve.free, found, 0.0)

    step = np.zeros(len(slope))
    left = -slope
    toward = better = conditioned(left)
    size = begun = _dot(left, better)
    for _ in range(MOST_PRODUCTS):
        if size <= FORCING**2 * begun or size <= 0:
            break
        bent = design.sums(curve.bend * design.logits(toward)) + curve.precision * toward
        bent = np.where(curve.free, bent, 0.0)
        along = _dot(toward, bent)
        if along <= 0:
            break
        reach = size / along
        step = step + reach * toward
        left = left - reach * bent
        better = conditioned(left)
        was, size = size, _dot(left, better)
        toward = better + (size / was) * toward
    return step
