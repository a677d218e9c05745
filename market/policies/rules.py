"""What a policy is, and when one is refused; pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from re import compile as pattern
from uuid import UUID

from market.errors import MarketError
from matching.policy import Policy, PolicyInvalid

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
