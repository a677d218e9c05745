"""Gold tasks and hidden checks: how often, what counts as right, when an item is known; pure."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from market.attempts.rules import normal_answer
from market.errors import MarketError

STATES = ("active", "retired")
RETIRED_FOR = ("withdrawn", "exposed", "leak_suspected")

MOST_EXPOSURES = 50
"""People who are put an item before it is retired, because too many may know it."""

KEPT = timedelta(days=7)
"""How long a check waits to be taken by whom it was put to, before its task is cancelled."""

MAX_ROWS = 500
MAX_ANSWERS = 20

LEAST_SHARE, MOST_SHARE = 0.02, 0.2
"""Share of an expert's work that is a check: of one who is well known, and of one who is not."""

PRIOR_RIGHT, PRIOR_WRONG = 4.0, 1.0
"""What is believed of an expert who was never checked, as answers."""

LEAK_HALF = 8
"""Answers in each half of an item's record before the halves are compared."""

LEAK_P = 0.01
"""How unlikely the later half must be, if nobody knew the item, for it to be retired."""


@dataclass(frozen=True, slots=True)
class GoldRow:
    """A task whose answer is known, as it is sent in; `field` is where the payload of the work has
    the answer, and any of `answers` is right.

    Units: `expected_s` seconds of work.
    """

    external_id: str
    domain: str
    payload: Mapping[str, object]
    answers: Sequence[str]
    field: str = "answer"
    complexity: int = 1
    expected_s: int = 1800


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What became of one row; `code` says what to change where it was refused."""

    external_id: str
    verdict: str
    code: str | None = None
    detail: str | None = None


class GoldUnfit(MarketError):
    """Rows of gold that cannot be taken as they are."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class GoldUnproven(MarketError):
    """Work that no senior has accepted as it stands, so that its answer is not known."""

    def __init__(self) -> None:
        super().__init__(
            "gold is made of work that a senior accepted whole after its votes were split, whose"
            " task is sound and no gold yet"
        )


class GoldNotFound(MarketError):
    """No gold that the caller may see has this id."""

    def __init__(self, gold_id: UUID) -> None:
        super().__init__("there is no such gold task")
        self.gold_id = gold_id


def share_for(right: int, wrong: int) -> float:
    """The share of an expert's work that is to be a check: the less is known, the more.

    It follows the standard deviation of the Beta posterior of its accuracy on checks.
    """
    a, b = PRIOR_RIGHT + right, PRIOR_WRONG + wrong
    first = _deviation(PRIOR_RIGHT, PRIOR_WRONG)
    part = min(1.0, _deviation(a, b) / first)
    return LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * part


def accuracy(right: int, wrong: int) -> float:
    """The posterior mean of an expert's accuracy on checks."""
    return (PRIOR_RIGHT + right) / (PRIOR_RIGHT + PRIOR_WRONG + right + wrong)


def is_due(submission_id: UUID, share: float) -> bool:
    """Whether a check follows on a submission, by a number that anyone can make again."""
    digest = hashlib.sha256(f"check:{submission_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def is_right(payload: Mapping[str, object], field: str, answers: Sequence[str]) -> bool:
    """Whether work has a right answer where it belongs, read as the automatic judge reads."""
    given = payload.get(field)
    if not isinstance(given, str | int | float) or isinstance(given, bool):
        return False
    read = normal_answer(str(given))
    return any(read == normal_answer(one) for one in answers)


def is_leaked(record: Sequence[bool]) -> bool:
    """Whether the later half of those who were put an item did too well beside the earlier half.

    Fisher's exact test, one-sided; `record` is in the order of answering.
    Source: Fisher 1935, the hypergeometric tail.
    """
    half = len(record) // 2
    if half < LEAK_HALF:
        return False
    early, late = record[:half], record[half:]
    right = sum(record)
    whole = math.comb(len(record), right)
    most = min(right, len(late))
    tail = sum(
        math.comb(len(late), k) * math.comb(len(early), right - k)
        for k in range(sum(late), most + 1)
        if right - k <= len(early)
    )
    return tail / whole < LEAK_P


def named_like(sample: str, number: int) -> str:
    """A name for a task that looks as its neighbours' do: the last number in it is another one."""
    found = list(re.finditer(r"\d+", sample))
    if not found:
        return f"{sample}-{number}"
    last = found[-1]
    width = len(last.group())
    shown = f"{number % 10 ** max(width, 4):0{width}d}"
    return sample[: last.start()] + shown + sample[last.end() :]


def _deviation(a: float, b: float) -> float:
    return math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
