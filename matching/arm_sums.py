"""What each expert, or each project, brought to its arm of an experiment, and what was known of it
before; `matching.experiment` compares the arms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from matching.arrays import ArrayInvalid, groups_of, real_array, truth_array
from matching.assignment import totals
from matching.problem import Bool, Float64


@dataclass(frozen=True, slots=True, eq=False)
class ArmSums:
    """What each cluster (an expert, or an expert in a domain) brought to its arm so far.

    Shapes: treated, units, total (clusters,); covariate (clusters, covariates), sums over units;
        past (clusters, columns), one row for a cluster, NaN for one that had no past.
    Units: units in assignments; total in the metric's unit, summed.
    """

    treated: Bool
    units: Float64
    total: Float64
    covariate: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    past: Float64 = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What was known of clusters before the experiment began, whether or not it came to touch them.

    The arms share it by nothing but the draw, even where a treatment decides who gets the work and
    how much of it: a covariate summed over assignments would take the effect of such a choice away.

    Shapes: cluster (clusters,), labels as of the assignments; treated (clusters,); known
        (clusters, columns), finite.
    Source: Deng, Xu, Kohavi, Walker, WSDM (2013), for what came before; Deng, Knoblich, Lu, KDD
        (2018), for ratios of sums by cluster.
    """

    cluster: object
    treated: object
    known: Float64


def cluster_sums(
    cluster: object,
    treated: object,
    outcome: object,
    *,
    covariate: object = None,
    past: Past | None = None,
) -> ArmSums:
    """Add up assignments by cluster; every cluster is in one arm alone.

    Shapes: cluster, treated, outcome (assignments,); covariate (assignments,) or (assignments,
        covariates), known before the arm was drawn, such as the predicted probability, of
        assignments that the treatment does not choose.
    Raises: ArrayInvalid, also when a cluster is found in both arms.
    """
    value = real_array("outcome", outcome, low=-1e12, high=1e12)
    count = len(value)
    arm = truth_array("treated", treated, count)
    labels, inside_arm = np.asarray(cluster), arm
    if past is not None:
        labels = np.concatenate([labels, np.asarray(past.cluster)])
        inside_arm = np.concatenate([arm, truth_array("past.treated", past.treated)])
    place, size = groups_of("cluster", labels, len(inside_arm))
    seen = totals(place, np.ones(len(labels)), size)
    inside = totals(place, inside_arm.astype(np.float64), size)
    both = (inside > 0) & (inside < seen)
    if both.any():
        at = int(np.flatnonzero(both[place])[0])
        raise ArrayInvalid("treated", at, "its cluster has assignments in both arms")
    before = place[count:]
    place = place[:count]
    columns = np.zeros((size, 0))
    if covariate is not None:
        checked = _columns("covariate", covariate, count)
        columns = np.column_stack([totals(place, each, size) for each in checked])
    told = np.zeros((0, 0))
    if past is not None:
        if len(np.unique(before)) < len(before):
            raise ArrayInvalid("past.cluster", None, "names a cluster twice")
        checked = _columns("past.known", past.known, len(before))
        told = np.full((size, len(checked)), np.nan)
        told[before] = np.column_stack(checked)
    units = totals(place, np.ones(count), size)
    return ArmSums(inside > 0, units, totals(place, value, size), columns, told)


def _columns(name: str, given: object, count: int) -> list[Float64]:
    """The columns of a table, or a single one, each checked."""
    table = np.asarray(given)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2:
        raise ArrayInvalid(name, None, f"has shape {table.shape}, not two dimensions")
    return [
        real_array(f"{name}[:, {n}]", table[:, n], count, low=-1e12, high=1e12)
        for n in range(table.shape[1])
    ]
