"""Which questions can be agreed on, how agreement is told, and what the judge may not do; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np

from market.verdicts.rules import Share, wilson
from matching.kappa import Agreement, Agreements, agreements_of, cohen
from matching.votes import Votes

CLOSED = ("model_failed", "attempt_fair", "accepted")
"""Questions on a claim of a stump: each has one answer, so that agreement says something."""

DRAWS = 200
MOST_VOTES = 20_000

LEAST_AGREEMENT = 0.95
"""What the lower end of the interval of the judge's agreement with people would have to reach
before anybody might think of letting it decide alone. Nothing lets it today: without votes a claim
is validated by nobody, and no stump.
"""

OPEN_REASON = "a question of judgement: people may honestly differ, so no agreement is computed"


@dataclass(frozen=True, slots=True)
class Pattern:
    """How many claims have had so many votes for yes and so many for no on one question."""

    yes: float
    no: float
    claims: int


@dataclass(frozen=True, slots=True)
class FieldAgreement:
    """How far people agree on one question of a queue; `off` says why nothing is computed."""

    domain: str
    field: str
    votes: int
    found: Agreements | None
    off: str | None


@dataclass(frozen=True, slots=True)
class JudgeStanding:
    """How the automatic judge agrees with people in a domain, against one target model.

    `caught` of the failures that people confirmed, and `spared` of the right answers, it read so.
    """

    domain: str
    target_model_id: UUID
    agreed: Share
    caught: Share
    spared: Share
    kappa: Agreement

    @property
    def could_stand_alone(self) -> bool:
        """Whether its agreement with people is beyond doubt high enough; advice to people."""
        return self.agreed.low >= LEAST_AGREEMENT


@dataclass(frozen=True, slots=True)
class Reading:
    """A claim that people decided, as the judge read it: two figures, never made into one.

    Units: `judge` share of samples that it read as failures; `belief` what people's votes come to,
        a probability, where it is known.
    """

    submission_id: UUID
    project_id: UUID
    domain: str
    target_model_id: UUID
    decided_at: datetime
    judge: float
    is_validated: bool
    belief: float | None

    @property
    def says_failed(self) -> bool:
        """Whether the judge reads most samples as failures."""
        return self.judge > 0.5


def agreement_on(domain: str, field: str, patterns: Sequence[Pattern]) -> FieldAgreement:
    """Several coefficients, corrected for chance, with nine-tenths intervals."""
    counts = np.array([(one.no, one.yes) for one in patterns], np.float64)
    claims = np.array([one.claims for one in patterns], np.float64)
    votes = round(float(counts.sum(axis=1) @ claims))
    return FieldAgreement(domain, field, votes, agreements_of(counts, claims, draws=DRAWS), None)


def judge_standing(domain: str, model_id: UUID, read: Sequence[Reading]) -> JudgeStanding:
    """The judge beside people on the claims of one domain and model."""
    yes = [one for one in read if one.is_validated]
    no = [one for one in read if not one.is_validated]
    caught = sum(one.says_failed for one in yes)
    spared = sum(not one.says_failed for one in no)
    count = len(read)
    votes = _votes(
        [*range(count), *range(count)],
        [0] * count + [1] * count,
        [one.says_failed for one in read] + [one.is_validated for one in read],
        items=count,
        reviewers=2,
    )
    return JudgeStanding(
        domain,
        model_id,
        wilson(caught + spared, count),
        wilson(caught, len(yes)),
        wilson(spared, len(no)),
        cohen(votes, 0, 1, draws=DRAWS),
    )


def standings_of(read: Sequence[Reading]) -> list[JudgeStanding]:
    """How the judge agrees with people, by domain and target model."""
    by_cell: dict[tuple[str, UUID], list[Reading]] = {}
    for one in read:
        by_cell.setdefault((one.domain, one.target_model_id), []).append(one)
    return [judge_standing(*cell, those) for cell, those in sorted(by_cell.items())]


def differing(read: Sequence[Reading]) -> list[Reading]:
    """The claims on which the judge and people differ, in the order in which they were read."""
    return [one for one in read if one.says_failed != one.is_validated]


def _votes(
    item: Sequence[int], reviewer: Sequence[int], yes: Sequence[bool], *, items: int, reviewers: int
) -> Votes:
    return Votes(
        np.array(item, np.int64),
        np.array(reviewer, np.int64),
        np.array(yes, np.int64),
        items=items,
        reviewers=reviewers,
        classes=2,
    )
