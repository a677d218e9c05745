"""Which questions can be agreed on, how agreement is told, and what the judge may not do; pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from uuid import UUID

import numpy as np

from market.verdicts.rules import Share, wilson
from matching.graded import GradedJudgement, Grades
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


# Open work ----------------------------------------------------------------------------------------

NORMAL_90 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Grade:
    """What one reviewer takes of one piece of open work. Units: `share` per cent, 0 to 100."""

    submission_id: UUID
    task_id: UUID
    reviewer_id: UUID
    share: float


@dataclass(frozen=True, slots=True)
class GradedWork:
    """A piece of open work as its reviewers grade it, their severity taken out, and its place among
    the answers to its task by those who saw several of them.

    Units: all of `share`, `low`, `high` and `plain` per cent, the interval nine tenths; `worth`
        logits about nought, none where nobody saw it beside another answer.
    """

    submission_id: UUID
    task_id: UUID
    grades: int
    plain: float
    share: float
    low: float
    high: float
    is_contested: bool
    comparisons: int
    worth: float | None
    worth_sd: float | None
    place: int | None


def graded_work(given: Sequence[Grade]) -> list[GradedWork]:
    """Open work by graded judgement and by pairs, task by task, the best first.

    A reviewer who is of another mind than the rest moves an item less than one of theirs, and has
    no mark of it: nothing here is told or kept of reviewers.
    """
    # Loads scipy, which only those who ask for this need.
    from matching.pairwise import TIE, Comparisons, PairwiseRanking

    items = {one: n for n, one in enumerate(dict.fromkeys(g.submission_id for g in given))}
    people = {one: n for n, one in enumerate(dict.fromkeys(g.reviewer_id for g in given))}
    at = np.array([items[one.submission_id] for one in given], np.int64)
    who = np.array([people[one.reviewer_id] for one in given], np.int64)
    share = np.array([one.share for one in given], np.float64)
    judged = GradedJudgement().fit(Grades(at, who, share, len(items), len(people)))
    seen: dict[tuple[UUID, UUID], list[int]] = {}
    for n, one in enumerate(given):
        seen.setdefault((one.reviewer_id, one.task_id), []).append(n)
    pairs = [
        (at[a], at[b], who[a], TIE if share[a] == share[b] else float(share[a] > share[b]))
        for both in seen.values()
        for a, b in combinations(both, 2)
        if at[a] != at[b]
    ]
    table = np.array(pairs, np.float64).reshape(-1, 4)
    left, right, by = (table[:, n].astype(np.int64) for n in range(3))
    ranked = PairwiseRanking().fit(
        Comparisons(left, right, by, table[:, 3], len(items), len(people))
    )
    compared = np.bincount(left, minlength=len(items)) + np.bincount(right, minlength=len(items))
    counted = np.bincount(at, minlength=len(items))
    plain = np.bincount(at, share, len(items)) / np.maximum(counted, 1)
    middle = judged.mean_ + judged.worth_
    spread = NORMAL_90 * judged.worth_sd_
    task_of = {one.submission_id: one.task_id for one in given}
    places: Counter[UUID] = Counter()
    found = []
    # Those who were seen beside others first, by their worth; then the others, by their grades.
    order = sorted(items.items(), key=lambda one: (
        task_of[one[0]], compared[one[1]] == 0,
        -ranked.worth_[one[1]] if compared[one[1]] else 0.0, -middle[one[1]],
    ))  # fmt: skip
    for submission_id, n in order:
        task_id = task_of[submission_id]
        is_ranked = bool(compared[n])
        places[task_id] += is_ranked
        found.append(
            GradedWork(
                submission_id=submission_id,
                task_id=task_id,
                grades=int(counted[n]),
                plain=float(plain[n]),
                share=float(np.clip(middle[n], 0, 100)),
                low=float(np.clip(middle[n] - spread[n], 0, 100)),
                high=float(np.clip(middle[n] + spread[n], 0, 100)),
                is_contested=bool(judged.contested_[n]),
                comparisons=int(compared[n]),
                worth=float(ranked.worth_[n]) if is_ranked else None,
                worth_sd=float(ranked.worth_sd_[n]) if is_ranked else None,
                place=places[task_id] if is_ranked else None,
            )
        )
    return found
