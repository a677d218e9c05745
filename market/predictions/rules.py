"""What is believed of pairs, and from which counts; pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np

from market.errors import MarketError
from market.explanations.rules import Ids
from matching.attempts import Attempts
from matching.problem import Float64, Int32

PRIOR_ABILITY = (0.0, 0.5)
"""What is believed of an expert without evidence, by level (claimed, qualified), in logits."""

PRIOR_SD = 1.0
"""How unsure that belief is, in logits."""

MIDDLE_COMPLEXITY = 5.0
COMPLEXITY_STEP = 0.5
"""A task of the middle complexity has difficulty 0, each step more half a logit; this stands until
difficulties have been estimated from verdicts."""

PRIOR_VERDICTS = 4.0
"""Verdicts that the market's own share of accepted work counts as, beside an expert's."""

BESIDE = "panel"
"""What a verdict says of a model that was asked beside the target model."""

KINDS = ("verdict", "offer", "release", BESIDE)
"""What the stump model learns from: verdicts, offers that came to nothing, new models, and what a
panel's other models made of a question."""

FIT_STATES = ("waiting", "running", "succeeded", "failed")

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""Day nought of the stump model."""

LEAST_ROWS = 30
"""Outcomes that a version must have been fitted on before matching goes by it."""

MIDDLE_LEVEL = int(MIDDLE_COMPLEXITY) - 1
"""The level at which abilities are told."""

FIT_LEASE = timedelta(minutes=30)
"""How long a refit may go without a sign of life before another worker takes it up."""


class Slice(NamedTuple):
    """A part of a project whose tasks are alike before anybody has tried them: of one domain and
    complexity, put to one target model.
    """

    project_id: UUID
    domain: str
    complexity: int
    target_model_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Pairs of experts and tasks to say something of, by what is known of both.

    Shapes: expert_ids (experts, 16); expert, level, ability, complexity, slice (pairs,).
    Units: level 1 claimed, 2 qualified; ability in logits, NaN before evidence; slice, an index
        of `slices`.
    """

    expert_ids: Ids
    slices: tuple[Slice, ...]
    expert: Int32
    level: Int32
    ability: Float64
    complexity: Int32
    slice: Int32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """What was decided before: of each expert, of each expert in each slice's domain, and of each
    slice.

    Shapes: decided, accepted (experts,); key, decided_here (any,), key = expert * slices + slice,
        in ascending order; stumps (slices,).
    Units: verdicts; accepted_share a share of all verdicts of the market.
    """

    decided: Float64
    accepted: Float64
    accepted_share: float
    key: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    decided_here: Float64
    stumps: Float64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What is believed of each pair, in the units of `matching.value.PART_KINDS`.

    Shapes: every array (pairs,).
    """

    stump: Float64
    stump_sd: Float64
    quality: Float64
    learning: Float64
    novelty: Float64


def predicted(asked: Asked, record: Record) -> Predictions:
    """What follows of pairs from a record.

    The chance of a stump follows the one-parameter logistic model, from the expert's ability in the
    domain, or what is believed before there is evidence, and from the task's complexity. Quality is
    the share of accepted work, shrunk to the market's own by the weight of four verdicts. An
    outcome teaches the less, the more verdicts of the expert in that domain there are. A stump is
    the less new, the more stumps of its slice are there: its worth falls with the square root.

    Source: G. Rasch, Probabilistic Models for Some Intelligence and Attainment Tests, 1960; the
        average over a normal belief by MacKay's approximation, Neural Computation 4, 1992, eq. 10.
    """
    is_unknown = np.isnan(asked.ability)
    believed = np.array(PRIOR_ABILITY)[asked.level - 1]
    difficulty = (asked.complexity - MIDDLE_COMPLEXITY) * COMPLEXITY_STEP
    logit = np.where(is_unknown, believed, asked.ability) - difficulty
    spread = np.where(is_unknown, PRIOR_SD, 0.0)
    stump = 1 / (1 + np.exp(-logit / np.sqrt(1 + np.pi * spread**2 / 8)))
    shrunk = (record.accepted + PRIOR_VERDICTS * record.accepted_share) / (
        record.decided + PRIOR_VERDICTS
    )
    here = np.zeros(len(asked.expert))
    if len(record.key):
        key = asked.expert.astype(np.int64) * len(asked.slices) + asked.slice
        at = np.minimum(np.searchsorted(record.key, key), len(record.key) - 1)
        here = np.where(record.key[at] == key, record.decided_here[at], 0.0)
    return Predictions(
        stump=stump,
        # The slope of the logistic carries the spread of ability over to the probability.
        stump_sd=np.minimum(spread * stump * (1 - stump), 0.5),
        quality=shrunk[asked.expert],
        learning=1 / (1 + here),
        novelty=1 / np.sqrt(1 + record.stumps[asked.slice]),
    )


class FitHeld(MarketError):
    """A refit that another worker is busy with; the job comes back."""

    def __init__(self, fit_id: UUID) -> None:
        super().__init__("another worker is refitting the stump model")
        self.fit_id = fit_id


class ObservationNotFound(MarketError):
    """No observation has this number."""

    def __init__(self, seq: int) -> None:
        super().__init__("there is no such observation, or nothing was predicted for it")
        self.seq = seq


class VersionUnreadable(MarketError):
    """A version of the stump model that this software cannot read, such as a newer one's."""

    def __init__(self, version_id: UUID) -> None:
        super().__init__("this software cannot read that version of the stump model; refit it")
        self.version_id = version_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an offer or of what was handed in, as the stump model learns it.

    Units: outcomes 0 to 1, None where not reached; `level` steps of complexity from nought; `years`
        of practice; `qualified` 0 or 1; `tested` in standard deviations of what a test measures.
    """

    kind: str
    subject_id: UUID
    version: int
    project_id: UUID
    task_id: UUID
    expert_id: UUID
    domain: str
    target_model_id: UUID | None
    level: int
    at: datetime
    start: float | None = None
    fooled: float | None = None
    valid: float | None = None
    valid_weight: float = 1.0
    years: float | None = None
    qualified: float | None = None
    tested: float | None = None


@dataclass(frozen=True, slots=True)
class ToldRelease:
    """What was told of a new target model. Units: effect in logits, variance their square."""

    target_model_id: UUID
    at: datetime
    effect: float
    variance: float


def code_of(one: UUID | None) -> int:
    """The model's name for something with an id, the same in every version; -1 for nothing.

    Of the random half of the id, since the other half is a time that many share.
    """
    return -1 if one is None else int.from_bytes(one.bytes[8:], "big") >> 1


def code_of_domain(domain: str | None) -> int:
    """The model's name for a domain; -1 for none."""
    if domain is None:
        return -1
    return int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], "big") >> 1


def day_of(at: datetime) -> float:
    """A time as the model counts it. Units: days."""
    return (at - EPOCH) / timedelta(days=1)


def attempts_of(outcomes: Sequence[Outcome]) -> Attempts:
    """Outcomes as the model takes them."""
    return Attempts(
        expert=np.array([code_of(one.expert_id) for one in outcomes], np.int64),
        task=np.array([code_of(one.task_id) for one in outcomes], np.int64),
        domain=np.array([code_of_domain(one.domain) for one in outcomes], np.int64),
        model=np.array([code_of(one.target_model_id) for one in outcomes], np.int64),
        level=np.array([one.level for one in outcomes], np.int64),
        day=np.array([day_of(one.at) for one in outcomes], np.float64),
        start=_numbers([one.start for one in outcomes]),
        fooled=_numbers([one.fooled for one in outcomes]),
        valid=_numbers([one.valid for one in outcomes]),
        valid_weight=_numbers([one.valid_weight for one in outcomes]),
        covariates=np.column_stack(
            [
                _numbers([one.years for one in outcomes]),
                _numbers([one.qualified for one in outcomes]),
                _numbers([one.tested for one in outcomes]),
            ]
        ),
    )


def pairs_at(
    experts: Sequence[UUID | None],
    domains: Sequence[str],
    models: Sequence[UUID | None],
    levels: Sequence[int],
    covariates: Float64,
    *,
    at: datetime,
    tasks: Sequence[UUID] | None = None,
) -> Attempts:
    """Pairs to predict for at one time, of tasks that nobody has tried unless they are named.

    Shapes: covariates (pairs, 3), NaN where unknown.
    """
    nothing = np.full(len(experts), np.nan)
    nobody = np.full(len(experts), -1, np.int64)
    named = nobody if tasks is None else np.array([code_of(one) for one in tasks], np.int64)
    return Attempts(
        expert=np.array([code_of(one) for one in experts], np.int64),
        task=named,
        domain=np.array([code_of_domain(one) for one in domains], np.int64),
        model=np.array([code_of(one) for one in models], np.int64),
        level=np.array(levels, np.int64),
        day=np.full(len(experts), day_of(at)),
        start=nothing,
        fooled=nothing,
        valid=nothing,
        valid_weight=np.ones(len(experts)),
        covariates=covariates,
    )


def _numbers(values: Sequence[float | None]) -> Float64:
    return np.array([np.nan if value is None else value for value in values], np.float64)
