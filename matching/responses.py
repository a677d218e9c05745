"""Who answered what, when and how it ended: the rows that the estimators of ability learn from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from matching.problem import Float64, Int64


class BadResponses(ValueError):
    """Rows that cannot be learned from, with the name of the array and the first row at fault."""

    def __init__(self, array: str, index: int, why: str) -> None:
        super().__init__(f"{array}[{index}]: {why}" if index >= 0 else f"{array}: {why}")
        self.array = array
        self.index = index
        self.why = why


def _integers(name: str, values: Int64, rows: int) -> Int64:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != rows:
        raise BadResponses(name, -1, f"has shape {array.shape}, not ({rows},)")
    if array.dtype.kind not in "iub":
        raise BadResponses(name, -1, f"holds {array.dtype}, not integers")
    return np.ascontiguousarray(array, np.int64)


def _reals(name: str, values: Float64, rows: int) -> Float64:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != rows:
        raise BadResponses(name, -1, f"has shape {array.shape}, not ({rows},)")
    return np.ascontiguousarray(array, np.float64)


@dataclass(frozen=True)
class Responses:
    """Rows in the order in which their outcomes became known.

    Codes are any integers that name the same thing in every version, for instance the first eight
    bytes of an identifier; -1 is nobody or nothing in particular. An outcome may be soft, the
    probability that a review will say yes, and then has a weight below one. Rows to predict have
    outcome NaN.

    Shapes: subject, item, group, time, outcome, weight (rows,); context (rows, contexts) int64,
        further things with an effect of their own, such as the target model; covariates
        (rows, covariates) float64, NaN where unknown; rising (rows, steps) float64, covariates
        whose effect is known not to be negative, such as the steps of complexity.
    Units: time in days; outcome and weight from 0 to 1; covariates in any unit.
    Raises: BadResponses.
    """

    subject: Int64
    item: Int64
    outcome: Float64
    time: Float64 = field(default_factory=lambda: np.zeros(0))
    group: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    weight: Float64 = field(default_factory=lambda: np.zeros(0))
    context: Int64 = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    covariates: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    rising: Float64 = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        rows = len(np.asarray(self.subject))
        put = object.__setattr__
        put(self, "subject", _integers("subject", self.subject, rows))
        put(self, "item", _integers("item", self.item, rows))
        put(self, "outcome", _reals("outcome", self.outcome, rows))
        # What was left out means the same for every row: one group, one time, full weight.
        if not len(self.group):
            put(self, "group", np.full(rows, -1, np.int64))
        put(self, "group", _integers("group", self.group, rows))
        put(self, "time", _reals("time", self.time if len(self.time) else np.zeros(rows), rows))
        put(
            self,
            "weight",
            _reals("weight", self.weight if len(self.weight) else np.ones(rows), rows),
        )
        for name, kind in (
            ("context", np.int64),
            ("covariates", np.float64),
            ("rising", np.float64),
        ):
            array = np.asarray(getattr(self, name))
            if not array.size:
                array = np.zeros((rows, array.shape[1] if array.ndim == 2 else 0), kind)
            if array.ndim != 2 or len(array) != rows:
                raise BadResponses(name, -1, f"has shape {array.shape}, not ({rows}, columns)")
            put(self, name, np.ascontiguousarray(array, kind))
        self._refuse("time", ~np.isfinite(self.time), "is not a finite number of days")
        wrong = (self.outcome < 0) | (self.outcome > 1)
        self._refuse("outcome", wrong, "is not between 0 and 1")
        wrong = ~((self.weight >= 0) & (self.weight <= 1))
        self._refuse("weight", wrong, "is not between 0 and 1")
        self._refuse(
            "covariates", np.asarray(np.isinf(self.covariates).any(axis=1), bool), "is infinite"
        )
        self._refuse(
            "rising", ~np.asarray(np.isfinite(self.rising).all(axis=1), bool), "is not finite"
        )

    def _refuse(
        self, name: str, wrong: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], why: str
    ) -> None:
        if wrong.any():
            raise BadResponses(name, int(np.argmax(wrong)), why)

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, rows: Int64 | slice) -> Responses:
        """Some of the rows, in the order asked for."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in self.__dataclass_fields__},
        )

    def in_time(self) -> Responses:
        """The same rows by time; rows of one time stay as they came."""
        if len(self) < 2 or bool((np.diff(self.time) >= 0).all()):
            return self
        return self.take(np.argsort(self.time, kind="stable"))

    def known(self) -> Responses:
        """The rows whose outcome is known."""
        kept = np.isfinite(self.outcome)
        return self if kept.all() else self.take(np.flatnonzero(kept))


def joined(parts: Iterable[Responses]) -> Responses:
    """Several sets of rows as one, in their order."""
    every = list(parts)
    return Responses(
        **{
            name: np.concatenate([getattr(part, name) for part in every])
            for name in Responses.__dataclass_fields__
        }
    )
