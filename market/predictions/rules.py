"""What is believed of pairs, and from which counts; pure."""

from dataclasses import dataclass
from uuid import UUID

import numpy as np

from market.explanations.rules import Ids
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

Slice = tuple[UUID, str, int]
"""A part of a project whose stumps are alike: project, domain, complexity."""


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
