"""A policy: the weights and limits that a matching run obeys, as data that can be kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import cast

WEIGHT_LIMIT = 1000.0
"""Largest weight of a part of the value."""


class PolicyInvalid(ValueError):
    """A setting of a policy is unknown or out of its bounds."""

    def __init__(self, setting: str, reason: str) -> None:
        self.setting = setting
        self.reason = reason
        super().__init__(f"{setting}: {reason}")


@dataclass(frozen=True, slots=True)
class SettingKind:
    """What a setting of a policy is: its unit, its bounds, and what it does."""

    unit: str
    low: float
    high: float
    meaning: str


def _weight(unit: str, meaning: str) -> SettingKind:
    return SettingKind(f"units of value for each {unit}", 0.0, WEIGHT_LIMIT, meaning)


SETTINGS = {
    "weights.stump": _weight("stump of worth 1", "the chance of a valid stump, times its worth"),
    "weights.quality": _weight("whole share", "the quality of the expert's accepted work"),
    "weights.interest": _weight("whole share", "how much the expert asked for the task"),
    "weights.affinity": _weight("whole share", "how near the profile is to the task"),
    "weights.learning": _weight("whole share", "how much the outcome would teach"),
    "weights.cost": _weight("hundred minor units", "expected pay and fee; it is subtracted"),
    "weights.concentration": _weight(
        "whole share", "the share of the project that the expert holds; it is subtracted"
    ),
    "weights.urgency": _weight("whole share", "how pressing the task is"),
    "exploration": SettingKind(
        "standard deviations", 0.0, 3.0, "what is added to an unsure chance of a stump"
    ),
    "randomness": SettingKind(
        "probability", 1e-6, 1.0, "the most that the chance of any pair may be; 1 draws nothing"
    ),
    "perturbation": SettingKind(
        "share", 0.0, 1.0, "what of the total may be given up to spread chances more evenly"
    ),
    "newcomer_share": SettingKind(
        "share of seats", 0.0, 1.0, "the part of each project's seats that newcomers should get"
    ),
    "newcomer_price": SettingKind(
        "units of value a seat", 0.0, 1e6, "what a seat missing to newcomers costs"
    ),
    "share_cap": SettingKind(
        "share of seats", 1e-6, 1.0, "the most of one project's seats that one expert may hold"
    ),
    "open_seat_price": SettingKind(
        "units of value a seat", 0.0, 1e6, "what a seat left open costs"
    ),
    "min_load_price": SettingKind(
        "units of value a seat", 0.0, 1e6, "what a seat short of an expert's floor costs"
    ),
    "floor": SettingKind("yes or no", 0.0, 1.0, "whether the worst-off task comes first"),
}
"""Every setting of a policy, weights under their full name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each named part counts in the value of a pair; nought leaves a part out.

    Units: units of value for each unit of the part. The parts are described in `value.PairParts`;
        cost is weighed by the hundred minor units, and cost and concentration are subtracted.
    Raises: PolicyInvalid, when a weight is not a number from 0 to 1000.
    """

    stump: float = 1.0
    quality: float = 0.25
    interest: float = 0.1
    affinity: float = 0.1
    learning: float = 0.05
    cost: float = 0.0
    concentration: float = 0.1
    urgency: float = 0.1

    def __post_init__(self) -> None:
        for each in fields(self):
            name = f"weights.{each.name}"
            number = _number(name, getattr(self, each.name), 0.0, WEIGHT_LIMIT)
            object.__setattr__(self, each.name, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything a matching run may be told; never edited after use, and known by its digest.

    Units: exploration in posterior standard deviations added to a stump's probability, 0 to 3;
        randomness the ceiling on the probability of any one pair, above 0 and up to 1 (1 is a
        deterministic plan); perturbation the share of the expected total, 0 to 1, that may be given
        up to spread probability more evenly under that ceiling; newcomer_share a share of each
        project's seats, 0 to 1; share_cap the largest share of a project's seats for one expert,
        above 0 and up to 1; open_seat_price, min_load_price and newcomer_price in units of value
        a seat; floor says that the worst-off task comes first and the total second.
    Raises: PolicyInvalid.
    """

    weights: Weights = field(default_factory=Weights)
    exploration: float = 0.0
    randomness: float = 1.0
    perturbation: float = 0.01
    newcomer_share: float = 0.0
    newcomer_price: float = 0.5
    share_cap: float = 1.0
    open_seat_price: float = 0.0
    min_load_price: float = 0.5
    floor: bool = False

    def __post_init__(self) -> None:
        for name, kind in SETTINGS.items():
            if not name.startswith("weights.") and name != "floor":
                number = _number(name, getattr(self, name), kind.low, kind.high)
                object.__setattr__(self, name, number)
        _expect("weights", self.weights, Weights)
        _expect("floor", self.floor, bool)
        if self.floor and self.randomness < 1:
            raise PolicyInvalid("floor", "cannot be proved for a plan that is drawn by lot")

    @property
    def is_worthless(self) -> bool:
        """Whether no pair can be worth anything, because nothing that adds to value counts."""
        w = self.weights
        return not any((w.stump, w.quality, w.interest, w.affinity, w.learning, w.urgency))

    def to_dict(self) -> dict[str, object]:
        """Every setting under its name, weights in a mapping of their own; JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, object]) -> Policy:
        """The policy with these settings; a name that is not known is refused, never ignored.

        Raises: PolicyInvalid.
        """
        _refuse_unknown("", settings, {each.name for each in fields(cls)})
        given = dict(settings)
        weights = given.pop("weights", {})
        if not isinstance(weights, Mapping):
            raise PolicyInvalid("weights", f"is {type(weights).__name__}, not a mapping")
        _refuse_unknown("weights.", weights, {each.name for each in fields(Weights)})
        parts = {str(name): cast("float", amount) for name, amount in weights.items()}
        floor = given.pop("floor", False)
        _expect("floor", floor, bool)
        numbers = {name: cast("float", amount) for name, amount in given.items()}
        return cls(weights=Weights(**parts), floor=bool(floor), **numbers)

    def digest(self) -> str:
        """A SHA-256 of the settings, the same for equal policies on every machine.

        Numbers are written in full (shortest text that reads back to the same number) under
        sorted names, so that neither order nor spelling of the input matters.
        """
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _number(name: str, given: object, low: float, high: float) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise PolicyInvalid(name, f"is {type(given).__name__}, not a number")
    number = float(given)
    if not math.isfinite(number) or not low <= number <= high:
        raise PolicyInvalid(name, f"{number} is not between {low:g} and {high:g}")
    # Minus nought would be equal to nought and yet have another digest.
    return number + 0.0


def _expect(name: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise PolicyInvalid(name, f"is {type(given).__name__}, not {kind.__name__}")


def _refuse_unknown(prefix: str, settings: Mapping[str, object], known: set[str]) -> None:
    for name in settings:
        if name not in known:
            raise PolicyInvalid(f"{prefix}{name}", "is not a setting of a policy")


ALL_INTEREST = Weights(
    stump=0, quality=0, interest=1, affinity=0, learning=0, cost=0, concentration=0, urgency=0
)
"""Weights under which a pair is worth exactly the interest that was declared in it."""
