"""What a policy is, and when one is refused; pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from re import compile as pattern
from uuid import UUID

from market.errors import MarketError
from matching.policy import SETTINGS, Policy, PolicyInvalid, SettingKind

NAME = pattern(r"[a-z][a-z0-9-]{0,62}")
DEFAULT_NAME = "default"


class PolicyNotFound(MarketError):
    """No policy has this id."""

    def __init__(self, policy_id: UUID) -> None:
        super().__init__("there is no such policy")
        self.policy_id = policy_id


class PolicyRefused(MarketError):
    """A policy with a setting that is unknown or out of its bounds."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


class PolicyNameInvalid(MarketError):
    """A policy name that is no lower-case slug."""

    def __init__(self) -> None:
        super().__init__(
            "a policy's name is 1 to 63 lower-case letters, digits and hyphens, a letter first"
        )


class ReasonBlank(MarketError):
    """A new policy version that does not say why it is made."""

    def __init__(self) -> None:
        super().__init__("say in reason, in 1 to 2000 characters, why this policy is made")


class PolicyWorthless(MarketError):
    """A policy under which every pair of expert and task is worth nothing."""

    def __init__(self) -> None:
        super().__init__(
            "under this policy every pair is worth nothing, so no run would offer anything: give"
            " a weight above 0 to stump, quality, interest, affinity, learning or urgency"
        )


class PolicyMoved(MarketError):
    """A version based on another than the newest: somebody else has published in between."""

    def __init__(self, name: str, newest: int) -> None:
        super().__init__(
            f"{name} is at version {newest} now; read what changed, and propose again with"
            f' If-Match: "{newest}"'
        )
        self.newest = newest


class ApprovalMissing(MarketError):
    """A policy that changes much and that no second person has approved."""

    def __init__(self, policy_id: UUID, reasons: list[str]) -> None:
        super().__init__(
            "somebody other than its author has to approve this policy first: " + "; ".join(reasons)
        )
        self.policy_id = policy_id
        self.reasons = reasons


class ApprovalByAuthor(MarketError):
    """An approval by whoever wrote the policy."""

    def __init__(self) -> None:
        super().__init__("its author cannot approve a policy; ask a second person of ops")


class NothingToReturnTo(MarketError):
    """A return where nothing has been chosen before."""

    def __init__(self) -> None:
        super().__init__("no other policy was in use here before")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """What a matching run obeys: the matcher's policy, and what silence is taken for.

    Units: default_interest, from 0 to 1, is the interest of an expert who said nothing of a task.
    Raises: PolicyRefused.
    """

    matcher: Policy
    default_interest: float = 0.0

    def __post_init__(self) -> None:
        given = self.default_interest
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
            raise PolicyRefused("default_interest", f"{given!r} is not a number from 0 to 1")
        object.__setattr__(self, "default_interest", float(given) + 0.0)

    def to_dict(self) -> dict[str, object]:
        """Every setting under its name, as JSON can hold it."""
        return {**self.matcher.to_dict(), "default_interest": self.default_interest}

    def digest(self) -> str:
        """A SHA-256 of the settings, the same for equal policies in any spelling."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def read_policy(document: Mapping[str, object]) -> RunPolicy:
    """The policy that a document describes; settings left out have the matcher's defaults.

    Raises:
        PolicyRefused: a setting is unknown, of another type, or out of its bounds.
    """
    settings = dict(document)
    interest = settings.pop("default_interest", 0.0)
    try:
        matcher = Policy.from_dict(settings)
    except PolicyInvalid as refusal:
        raise PolicyRefused(refusal.setting, refusal.reason) from refusal
    # Its type is checked by the class itself, which names the setting in its refusal.
    return RunPolicy(matcher=matcher, default_interest=interest)  # type: ignore[arg-type]


def checked_name(name: str) -> str:
    """The name itself, once it is certain to be a slug.

    Raises:
        PolicyNameInvalid.
    """
    if not NAME.fullmatch(name):
        raise PolicyNameInvalid()
    return name


ALL_SETTINGS = {
    **SETTINGS,
    "default_interest": SettingKind(
        "share", 0.0, 1.0, "the interest of an expert who said nothing of a task"
    ),
}
"""Every setting of a policy of the market, with its unit, bounds and meaning."""

LARGE_SHARE_OF_WEIGHT = 0.25
"""A change that moves more of the weight than this, all weights together being 1, is large."""

LARGE_STEPS = {
    "exploration": 0.5,
    "randomness": 0.2,
    "newcomer_share": 0.1,
    "share_cap": 0.25,
    "open_seat_price": 1.0,
    "newcomer_price": 1.0,
    "min_load_price": 1.0,
    "default_interest": 0.5,
}
"""A step of a setting beyond which a change is large, in the setting's own unit."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting in which two policies differ, told in words. Units: as in ALL_SETTINGS."""

    setting: str
    unit: str
    before: float
    after: float
    sentence: str


def settings_of(policy: RunPolicy) -> dict[str, float]:
    """Every setting as a number, under its full name; yes is 1."""
    document = policy.to_dict()
    weights = document["weights"]
    found: dict[str, float] = {}
    for name in ALL_SETTINGS:
        head, _, part = name.partition(".")
        value = weights[part] if part and isinstance(weights, dict) else document[head]
        found[name] = float(value) if isinstance(value, (int, float)) else 0.0
    return found


def differences(before: RunPolicy, after: RunPolicy) -> tuple[Difference, ...]:
    """Where two policies differ, each difference as a sentence; none, when they are equal."""
    was, now = settings_of(before), settings_of(after)
    return tuple(
        Difference(name, kind.unit, was[name], now[name], _told(name, kind, was[name], now[name]))
        for name, kind in ALL_SETTINGS.items()
        if was[name] != now[name]
    )


def _told(name: str, kind: SettingKind, before: float, after: float) -> str:
    label = name.removeprefix("weights.").replace("_", " ")
    if name == "floor":
        return f"The worst-off task {'comes' if after else 'no longer comes'} first."
    change = f"from {before:g} to {after:g}"
    if name.startswith("weights."):
        if before == 0:
            return f"{label.capitalize()} counts now, {after:g} {kind.unit}: {kind.meaning}."
        if after == 0:
            return f"{label.capitalize()} no longer counts; it was {before:g} {kind.unit}."
        times = after / before
        by = f"{times:.3g} times as much" if times > 1 else f"{1 / times:.3g} times less"
        return f"{label.capitalize()} counts {by}, {change} {kind.unit}."
    way = "rises" if after > before else "falls"
    return f"{label.capitalize()} {way} {change} {kind.unit}: {kind.meaning}."


def why_large(before: RunPolicy, after: RunPolicy) -> list[str]:
    """Why a second person has to approve a change, a sentence for each reason; none for a small
    one.
    """
    was, now = settings_of(before), settings_of(after)
    weights = [name for name in ALL_SETTINGS if name.startswith("weights.")]
    sums = sum(was[name] for name in weights) or 1.0, sum(now[name] for name in weights) or 1.0
    moved = sum(abs(was[name] / sums[0] - now[name] / sums[1]) for name in weights) / 2
    reasons = []
    if moved > LARGE_SHARE_OF_WEIGHT:
        reasons.append(
            f"{moved:.0%} of the weight moves to other parts, above {LARGE_SHARE_OF_WEIGHT:.0%}"
        )
    for name, most in LARGE_STEPS.items():
        if abs(now[name] - was[name]) > most + 1e-12:
            reasons.append(
                f"{name} moves by {abs(now[name] - was[name]):g} {ALL_SETTINGS[name].unit},"
                f" above {most:g}"
            )
    if was["floor"] != now["floor"]:
        reasons.append("whether the worst-off task comes first changes")
    return reasons
