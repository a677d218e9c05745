"""What an evaluation set must be, how answers are judged, what is refused; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from market.attempts.rules import is_missed
from market.errors import MarketError

LEAST_ITEMS, MOST_ITEMS = 20, 500
MOST_EXPERTS = 50
LEAST_S, MOST_S = 10, 4 * 3600
MOST_PROMPT = 20_000
MOST_ANSWER = 2_000
MOST_KEYS = 10

GRACE = timedelta(seconds=5)
"""How much later than its limit an answer may arrive, for the way that it takes."""

MODEL_STATES = ("asking", "done", "failed")
STANDINGS = ("human", "unclear", "saturated", "thin")

FORM = "\n\nEnd with one line: `Answer:` and your answer, nothing else."
"""What a model is told beside the item, so that the same judge can read both."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item as a lab writes it; every answer in `key` is right."""

    prompt: str
    key: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Design:
    """What is to be compared on what, under which rules.

    Units: `limit_s` seconds for one item, of anybody's; `complexity` 1 to 10.
    """

    name: str
    domain: str
    complexity: int
    limit_s: int
    experts: int
    items: tuple[Item, ...]


class EvalSetNotFound(MarketError):
    """No evaluation set that the caller may see, or may answer, has this id."""

    def __init__(self, set_id: UUID) -> None:
        super().__init__("there is no such evaluation set, or it is not open to you")
        self.set_id = set_id


class EvalSetUnfit(MarketError):
    """An evaluation set that could tell nothing, or whose terms are out of bounds."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
        self.wanted = wanted


class EvalSetFull(MarketError):
    """One expert more than an evaluation set asked for."""

    def __init__(self, experts: int) -> None:
        super().__init__(f"{experts} experts have begun this set, as many as were asked for")
        self.experts = experts


class EvalItemClosed(MarketError):
    """An answer to an item that is not open, or not any more; ask for the next one."""

    def __init__(self, number: int) -> None:
        super().__init__(f"item {number} is not open; ask for the next one")
        self.number = number


class EvalAnswerUnfit(MarketError):
    """An answer that is too long, or none of the choices."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"answer must be {wanted}")
        self.wanted = wanted


def check_design(design: Design) -> None:
    """Refuse a set that nothing could be told by.

    Raises:
        EvalSetUnfit.
    """
    bounds: Sequence[tuple[str, int, int, int]] = (
        ("complexity", design.complexity, 1, 10),
        ("limit_s", design.limit_s, LEAST_S, MOST_S),
        ("experts", design.experts, 3, MOST_EXPERTS),
        ("items", len(design.items), LEAST_ITEMS, MOST_ITEMS),
    )
    for field, value, least, most in bounds:
        if not least <= value <= most:
            raise EvalSetUnfit(field, f"{least} to {most}")
    if not 1 <= len(design.name.strip()) <= 200:
        raise EvalSetUnfit("name", "1 to 200 characters")
    for n, item in enumerate(design.items):
        if not 0 < len(item.prompt.strip()) <= MOST_PROMPT or "\x00" in item.prompt:
            raise EvalSetUnfit(f"items/{n}/prompt", f"1 to {MOST_PROMPT} characters")
        if not 1 <= len(item.key) <= MOST_KEYS or any(
            not 0 < len(one.strip()) <= MOST_ANSWER or "\x00" in one for one in item.key
        ):
            raise EvalSetUnfit(f"items/{n}/key", f"1 to {MOST_KEYS} answers that are not blank")
        if item.choices and not set(item.key) <= set(item.choices):
            raise EvalSetUnfit(f"items/{n}/key", "some of the item's choices, word for word")


def is_right(answer: str, key: Sequence[str]) -> bool:
    """Whether an answer is one of the right ones: one judge for people and models."""
    return any(not is_missed(answer, one) for one in key)


def asked_of_model(prompt: str, choices: Sequence[str]) -> str:
    """An item as a model is asked it: what people see, and how the answer is to be written."""
    listed = "".join(f"\n- {one}" for one in choices)
    return f"{prompt}{listed}{FORM}"


def is_late(due_at: datetime, at: datetime) -> bool:
    """Whether an answer comes after its time."""
    return at > due_at + GRACE


def proposal_of(complexity: int | None) -> str:
    """What is proposed for a project at whose rung nobody is above the model."""
    if complexity is None:
        return "Close the project, or begin a rung that was not tried: no level left would do."
    return f"Close the project, or begin a new rung at complexity {complexity}."
