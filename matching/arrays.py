"""What estimators say of the arrays they are given: each is checked once, and refused by name."""

from __future__ import annotations

import numpy as np

from matching.problem import Bool, Float64, Int64


class ArrayInvalid(ValueError):
    """An array breaks its contract; says which one, where, and how."""

    def __init__(self, array: str, index: int | None, reason: str) -> None:
        self.array = array
        self.index = index
        self.reason = reason
        where = array if index is None else f"{array}[{index}]"
        super().__init__(f"{where}: {reason}")


def real_array(
    name: str,
    given: object,
    size: int | None = None,
    *,
    low: float = -1e300,
    high: float = 1e300,
) -> Float64:
    """The array as float64, one-dimensional, every number within the bounds and none NaN.

    Raises: ArrayInvalid.
    """
    values = _column(name, given, size)
    if values.dtype.kind not in "iufb":
        raise ArrayInvalid(name, None, f"holds {values.dtype}, not numbers")
    real = values.astype(np.float64)
    # One comparison refuses NaN and infinity as well, for NaN is in no range.
    inside = (real >= low) & (real <= high)
    if not inside.all():
        at = int(np.flatnonzero(~inside)[0])
        raise ArrayInvalid(name, at, f"{real[at]} is not a number from {low:g} to {high:g}")
    return real


def whole_array(name: str, given: object, size: int | None = None, *, below: int) -> Int64:
    """The array as int64, one-dimensional, every number from nought and under the limit.

    Raises: ArrayInvalid.
    """
    values = _column(name, given, size)
    if len(values) and values.dtype.kind not in "iu":
        raise ArrayInvalid(name, None, f"holds {values.dtype}, not whole numbers")
    wrong = (values < 0) | (values >= below)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ArrayInvalid(name, at, f"{int(values[at])} is not from 0 to {below - 1}")
    return values.astype(np.int64)


def truth_array(name: str, given: object, size: int | None = None) -> Bool:
    """The array as booleans, one-dimensional; noughts and ones will do.

    Raises: ArrayInvalid.
    """
    values = real_array(name, given, size, low=0.0, high=1.0)
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ArrayInvalid(name, at, f"{values[at]} is neither 0 nor 1")
    return np.asarray(values == 1, np.bool_)


def groups_of(name: str, given: object, size: int) -> tuple[Int64, int]:
    """Labels of any kind as places from nought, and how many there are.

    Raises: ArrayInvalid, when a label is NaN or the array has another length.
    """
    values = _column(name, given, size)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ArrayInvalid(name, int(np.flatnonzero(np.isnan(values))[0]), "is not a label")
    labels, place = np.unique(values, return_inverse=True)
    return place.astype(np.int64), len(labels)


def number_within(name: str, given: float, low: float, high: float) -> float:
    """A setting, refused by name when it is no number within its bounds.

    Raises: ArrayInvalid.
    """
    number = float(given)
    if not low <= number <= high:
        raise ArrayInvalid(name, None, f"{number} is not a number from {low:g} to {high:g}")
    return number


def _column(name: str, given: object, size: int | None) -> np.ndarray:
    values = np.asarray(given)
    if values.ndim != 1:
        raise ArrayInvalid(name, None, f"has shape {values.shape}, not one dimension")
    if size is not None and len(values) != size:
        raise ArrayInvalid(name, None, f"has {len(values)} entries, not {size}")
    return values
