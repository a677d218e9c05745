"""The project's states, its limits, and what is refused about it and its target models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

from market.errors import MarketError
from market.events import Event
from market.language import Field, Vocabulary
from market.states import Machine, Move

Unedited = Literal["allowed", "flagged", "refused"]

UNEDITED: tuple[Unedited, ...] = ("allowed", "flagged", "refused")
"""What a project does about a draft that is handed in as it was given."""

PROJECT_FIELDS = Vocabulary(
    Field(
        name="domains",
        kind="set",
        column="{row}.domains",
        about="the domains that the project works in",
        example='"chemistry.organic"',
    ),
    Field(
        name="currency",
        kind="text",
        column="{row}.currency",
        about="the currency that the project pays in",
        example='"USD"',
    ),
    Field(
        name="rate",
        kind="number",
        column="{row}.rate_minor_per_hour",
        about="minor units an hour; unknown where each expert's own pay tier says it",
        example="8000",
    ),
    Field(
        name="round",
        kind="number",
        column="{row}.round",
        about="the round that the project is in",
        example="2",
    ),
)
"""What can be asked of a project."""

PROJECT = Machine(
    "project",
    initial=("draft",),
    moves=(
        Move("submit", ("draft",), "checking"),
        Move("pass", ("checking",), "ready"),
        Move("fail", ("checking",), "draft"),
        Move("calibrate", ("ready",), "calibrating"),
        Move("launch", ("ready",), "live"),
        Move("cancel", ("ready",), "cancelled"),
        Move("gate_pass", ("calibrating",), "live"),
        Move("gate_fail", ("calibrating",), "ready"),
        Move("pause", ("live",), "paused"),
        Move("advance_round", ("live",), "live"),
        Move("resume", ("paused",), "live"),
        Move("drain", ("live", "paused"), "draining"),
        Move("terminate", ("live", "paused"), "draining"),
        Move("settle", ("draining",), "settling"),
        Move("close", ("settling",), "closed"),
        Move("reopen", ("closed",), "ready"),
        Move("archive", ("closed",), "archived"),
    ),
)

PAY_BASES = ("hourly", "deliverable")

MAX_ATTEMPT_FEES = 200

MAX_OVERTIME = 30_000
"""The most that overtime can pay, in hundredths of a per cent of the rate."""

WEEK_S = 7 * 24 * 3600

AUTOMATIC = ("settle", "close")
"""Moves that the platform makes by itself, when the last work and the last review are done."""

GUARDED = ("pass", "calibrate", "launch", "gate_pass", "resume")
"""Moves towards work, which need a project that is complete and has money."""

PAUSE_REASONS = ("manual", "budget", "quality", "supply", "saturated", "compliance")

REASONED = ("fail", "launch", "terminate")
"""Moves that say why: a launch, because it goes without calibration."""

CHANGEABLE = ("draft", "ready", "live", "paused")
"""The states in which a project's terms may change; offers made before keep theirs."""

FILLABLE = ("draft", "checking", "ready", "calibrating", "live", "paused")
"""The states in which tasks and interest may come in."""

BUDGETED = (*FILLABLE, "draining")
"""The states in which a project may be given money."""

MAX_PRICE_MINOR = 10**9
"""The most that a million tokens can cost, in minor units of USD."""

REOPEN_WITHIN = timedelta(days=30)

EVENTS = {
    "live": Event.PROJECT_LIVE,
    "paused": Event.PROJECT_PAUSED,
    "draining": Event.PROJECT_DRAINING,
    "closed": Event.PROJECT_CLOSED,
}
"""What happened when a project came into a state; `project.changed` for the others."""


def check_base_url(url: str) -> None:
    """Refuse what is no plain address of a model server. Where it leads is judged on each call.

    Raises:
        BaseUrlInvalid.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BaseUrlInvalid("has no readable host and port") from None
    if parts.scheme not in ("http", "https"):
        raise BaseUrlInvalid("does not begin with http:// or https://")
    if not parts.hostname:
        raise BaseUrlInvalid("names no host")
    if port == 0:
        raise BaseUrlInvalid("names port 0")
    if parts.username is not None or parts.password is not None:
        raise BaseUrlInvalid("carries a name or a password; send the key as `key`")
    if parts.query or parts.fragment:
        raise BaseUrlInvalid("carries a query or a fragment")
    if len(url) > 2000 or not url.isascii() or any(c.isspace() or c < "!" for c in url):
        raise BaseUrlInvalid("is longer than 2000 characters, or has blanks or other than ASCII")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """What is new about a version of a target model; what is None stays as it was."""

    name: str
    model: str
    base_url: str | None = None
    key: str | None = None


class ProjectNotFound(MarketError):
    """No project of the caller's has this id."""

    def __init__(self, project_id: UUID) -> None:
        super().__init__("there is no such project")
        self.project_id = project_id


class ProjectIncomplete(MarketError):
    """A project that is not ready for work, with everything that it lacks."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"the project still needs {'; '.join(missing)}")
        self.missing = list(missing)


class PauseReasonUnknown(MarketError):
    """A pause for a reason that is none of the list."""

    def __init__(self, reason_code: str | None) -> None:
        super().__init__(f"a pause needs a reason_code out of {', '.join(PAUSE_REASONS)}")
        self.reason_code = reason_code
        self.known = list(PAUSE_REASONS)


class MoveAutomatic(MarketError):
    """A move that nobody can ask for: it follows when its condition is met."""

    def __init__(self, action: str) -> None:
        super().__init__(f"{action} follows by itself when the last work and review are done")
        self.action = action


class ReopenTooLate(MarketError):
    """A project that was closed too long ago to be opened again."""

    def __init__(self) -> None:
        super().__init__(f"a project can be reopened within {REOPEN_WITHIN.days} days of closing")


class ProjectFieldInvalid(MarketError):
    """A field of a project or of a target model that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class BudgetCurrencyWrong(MarketError):
    """Money in another currency than the project's."""

    def __init__(self, currency: str, wanted: str) -> None:
        super().__init__(
            f"this project is paid in {wanted}, not in {currency}: pay in {wanted}, or make a "
            f"project that is paid in {currency}; no money is changed into another currency here"
        )
        self.currency = currency
        self.wanted = wanted


class FundsShort(MarketError):
    """More for a project than its lab has free."""

    def __init__(self, available_minor: int, wanted_minor: int, currency: str) -> None:
        super().__init__(
            f"the lab has {available_minor} free in minor units of {currency}, and {wanted_minor} "
            "were wanted; fund it first"
        )
        self.available_minor = available_minor
        self.wanted_minor = wanted_minor
        self.currency = currency


class TargetModelNotFound(MarketError):
    """No target model of the caller's has this id."""

    def __init__(self, target_model_id: UUID) -> None:
        super().__init__("there is no such target model")
        self.target_model_id = target_model_id


class BaseUrlInvalid(MarketError):
    """An address at which no target model can be asked."""

    def __init__(self, why: str) -> None:
        super().__init__(f"base_url {why}")
        self.field = "base_url"
