"""Learned parameters as bytes: plain arrays behind a JSON header; one state, one sequence of bytes.

Nothing in them is code, so reading bytes from elsewhere can fail but not run anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from matching.problem import Float64, Int64

MAGIC = b"STUMPWORK-ABILITY-2\n"

Plain = None | bool | int | float | str | Float64 | Int64 | list["Plain"] | dict[str, "Plain"]
"""What can be kept: scalars, arrays, and lists and dictionaries of them."""


class NotAVersion(ValueError):
    """Bytes that are no learned parameters, or that were cut off or changed."""


def packed(content: Plain) -> bytes:
    """Bytes of a structure; equal structures give equal bytes."""
    arrays: list[bytes] = []
    shapes: list[list[object]] = []

    def plain(value: Plain) -> object:
        if isinstance(value, np.ndarray):
            kind = "<i8" if value.dtype.kind in "iub" else "<f8"
            arrays.append(np.ascontiguousarray(value).astype(kind).tobytes())
            shapes.append([kind, list(value.shape)])
            return {"array": len(shapes) - 1}
        if isinstance(value, dict):
            return {"dict": [[key, plain(one)] for key, one in value.items()]}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value

    body = plain(content)
    header = json.dumps({"body": body, "arrays": shapes}, separators=(",", ":")).encode()
    whole = MAGIC + len(header).to_bytes(8, "little") + header + b"".join(arrays)
    return whole + hashlib.sha256(whole).digest()


def unpacked(data: bytes) -> Plain:
    """The structure that was packed.

    Raises: NotAVersion.
    """
    whole, seal = data[:-32], data[-32:]
    if not whole.startswith(MAGIC) or hashlib.sha256(whole).digest() != seal:
        raise NotAVersion("these bytes are no version of learned parameters, or were changed")
    at = len(MAGIC)
    size = int.from_bytes(whole[at : at + 8], "little")
    header = json.loads(whole[at + 8 : at + 8 + size])
    at += 8 + size
    arrays: list[Float64 | Int64] = []
    for kind, shape in header["arrays"]:
        count = int(np.prod(shape)) if shape else 1
        arrays.append(np.frombuffer(whole, kind, count, at).reshape(shape).copy())
        at += 8 * count

    def full(value: object) -> Plain:
        if isinstance(value, dict):
            if "array" in value:
                return arrays[int(value["array"])]
            return {str(key): full(one) for key, one in value["dict"]}
        if isinstance(value, list):
            return [full(one) for one in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise NotAVersion(f"the header holds {type(value).__name__}")

    return full(header["body"])


def digest(data: bytes) -> str:
    """The name of a version: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def table(
    states: Mapping[int, Sequence[float]]
    | Mapping[tuple[int, int], Sequence[float]]
    | Mapping[Hashable, Sequence[float]],
) -> Plain:
    """States by key as two arrays, in the order in which they were made."""
    if not states:
        return {"keys": np.zeros((0, 1), np.int64), "values": np.zeros((0, 0))}
    keys = np.array(list(states), np.int64).reshape(len(states), -1)
    return {"keys": keys, "values": np.array(list(states.values()), np.float64)}


def singles(kept: Plain) -> dict[int, list[float]]:
    """States whose keys are numbers."""
    keys, values = _both(kept)
    return dict(zip(keys[:, 0].tolist(), values.tolist(), strict=True))


def pairs(kept: Plain) -> dict[tuple[int, int], list[float]]:
    """States whose keys are pairs of numbers."""
    keys, values = _both(kept)
    found = zip(keys.tolist(), values.tolist(), strict=True)
    return {(key[0], key[1]): value for key, value in found}


def either(kept: Plain) -> dict[Hashable, list[float]]:
    """States whose keys are numbers or pairs, whichever were kept."""
    keys, values = _both(kept)
    single = keys.shape[1] == 1
    return {
        (key[0] if single else (key[0], key[1])): value
        for key, value in zip(keys.tolist(), values.tolist(), strict=True)
    }


def _both(kept: Plain) -> tuple[Int64, Float64]:
    if isinstance(kept, dict):
        keys, values = kept["keys"], kept["values"]
        if isinstance(keys, np.ndarray) and isinstance(values, np.ndarray):
            return np.asarray(keys, np.int64), np.asarray(values, np.float64)
    raise NotAVersion("a table of states is missing")
