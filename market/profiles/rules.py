"""What a profile holds and how it is told as CSV; pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from market.verdicts.rules import Share


@dataclass(frozen=True, slots=True)
class ExpertProfile:
    """How an expert's reviewed work went: quality, speed, and how much passed at first.

    Units: `median_work_s`, `median_verdict_s` seconds; `pace` worked seconds for each expected one;
        `rounds` hand-ins a submission.
    """

    expert_id: UUID
    accepted: Share
    first_pass: Share
    stumps: Share
    rounds: float | None
    median_work_s: float | None
    pace: float | None
    median_verdict_s: float | None
    abandoned: int
    overturned: int
    """Verdicts against it that an appeal turned."""


@dataclass(frozen=True, slots=True)
class ReviewerProfile:
    """How a reviewer's votes held, and how severe it is beside those who saw the same work.

    Units: `severity` the share it rejects less the share that its fellows on the same work reject;
        `median_s` seconds a vote.
    """

    reviewer_id: UUID
    votes: int
    agreed: Share
    overturned: Share
    severity: float | None
    median_s: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """How long a project's tasks or submissions stayed in one state. Units: seconds."""

    machine: str
    state: str
    stays: int
    still_there: int
    half_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class TaskPath:
    """What one task went through. Units: `stages` seconds in each state so far."""

    task_id: UUID
    external_id: str
    state: str
    submissions: int
    rounds: int
    rejections: int
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How a model of a project's panel stood up to the questions that were put to it.

    `shared` is, of the stumps of the target model whose question it answered too, how many stump
    it as well: on the target itself all of them. Units: `cost_minor` minor units of USD;
    `median_ms` milliseconds an answer.
    """

    target_model_id: UUID
    name: str
    model: str
    is_target: bool
    asked: int
    failed: int
    stumps: Share
    """Attempts that stump it, of those that went with decided work."""
    shared: Share
    judge_missed: Share
    """Answers that the automatic judge reads as wrong, of those that it read; advice."""
    cost_minor: Decimal
    median_ms: float | None


@dataclass(frozen=True, slots=True)
class Period:
    """The time that profiles are counted over, by when a verdict was."""

    since: datetime
    until: datetime


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; what is not known is left empty."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\r\n").writerow
    write(names)
    for row in rows:
        write(["" if cell is None else cell for cell in row])
    return text.getvalue()
