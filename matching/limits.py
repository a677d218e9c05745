"""What a living plan uses of every hard limit beyond seats, pair by pair."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from matching.assignment import member_mask, totals
from matching.facts import SPARE, Column, Facts
from matching.problem import Bool, Int64, Problem

ROUNDING = 1e-7
"""Hours beyond a limit that count as rounding."""


class Limits:
    """Counts of budgets, hours, share caps, conflicts and hard ceilings of quotas."""

    def __init__(self, problem: Problem, facts: Facts) -> None:
        self.facts = facts
        self.budget = None if problem.budget is None else problem.budget.copy()
        self._watches_hours = problem.hours_available is not None and problem.hours is not None
        self._share = None if problem.share_cap is None else problem.share_limit()
        self._against: dict[int, set[int]] = defaultdict(set)
        for first, second in problem.conflicts.tolist():
            self._against[first].add(second)
            self._against[second].add(first)
        self._quotas = [
            (quota.project, member_mask(problem, quota.members), quota.at_most)
            for quota in problem.quotas
            if quota.price is None and quota.at_most is not None
        ]
        self.none = not (
            self.budget is not None
            or self._watches_hours
            or self._share is not None
            or self._against
            or problem.quotas
        )
        self._spent = np.zeros(problem.projects, np.int64)
        self._hours = Column(np.zeros(problem.experts))
        self._shares: Counter[tuple[int, int]] = Counter()
        self._seated: Counter[tuple[int, int]] = Counter()
        self._quota_held = [0] * len(self._quotas)

    def grow_expert(self) -> None:
        """One more expert, who holds nothing yet."""
        self._hours.grow(np.zeros(1))

    def add(self, pairs: Int64) -> None:
        """Count pairs that the plan took up."""
        self._count(pairs, 1)

    def drop(self, pairs: Int64) -> None:
        """Count no longer pairs that the plan let go."""
        self._count(pairs, -1)

    def breaks(self, pair: int) -> bool:
        """Whether a limit that this pair of the plan uses is passed."""
        facts = self.facts
        task, expert = int(facts.task.all[pair]), int(facts.expert.all[pair])
        project = int(facts.project.all[task])
        if self.budget is not None and self._spent[project] > self.budget[project]:
            return True
        if self._watches_hours:
            used = float(self._hours.all[expert])
            if used > float(facts.hours_available.all[expert]) + ROUNDING:
                return True
        if self._share is not None and self._shares[expert, project] > self._share[project]:
            return True
        if any(self._seated[task, other] for other in self._against.get(expert, ())):
            return True
        return any(
            held > most and project == where and _is_member(members, expert)
            for (where, members, most), held in zip(self._quotas, self._quota_held, strict=True)
        )

    def _count(self, pairs: Int64, sign: int) -> None:
        if self.none or not len(pairs):
            return
        facts = self.facts
        task, expert = facts.task.all[pairs], facts.expert.all[pairs]
        project = facts.project.all[task]
        if self.budget is not None:
            np.add.at(self._spent, project, sign * facts.cost.all[pairs])
        if self._watches_hours:
            if len(pairs) > SPARE:
                hours = self._hours.all
                hours += sign * totals(expert, facts.hours.all[pairs], len(hours))
            else:
                np.add.at(self._hours.all, expert, sign * facts.hours.all[pairs])
        if self._share is not None:
            for key in zip(expert.tolist(), project.tolist(), strict=True):
                self._shares[key] += sign
        if self._against:
            for where, who in zip(task.tolist(), expert.tolist(), strict=True):
                if who in self._against:
                    self._seated[where, who] += sign
        for index, (where, members, _) in enumerate(self._quotas):
            mine = [_is_member(members, who) for who in expert[project == where].tolist()]
            self._quota_held[index] += sign * sum(mine)


def _is_member(members: Bool, expert: int) -> bool:
    """Whether an expert is in a group; who came later than the group is in none."""
    return expert < len(members) and bool(members[expert])
