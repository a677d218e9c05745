"""One event at a time: keeps a plan and its prices in memory, as good as solving anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assign import Assignment, finished
from matching.assignment import Prices, micro_price, micro_value
from matching.bound import left_after_locked, price_bound
from matching.facts import Facts, padded
from matching.limits import Limits
from matching.paths import NEVER, Moved
from matching.problem import (
    MICRO,
    Float64,
    Int32,
    Int64,
    Problem,
    ProblemInvalid,
)
from matching.takeover import network_of


@dataclass(frozen=True, slots=True)
class Change:
    """What an event did to the plan: pairs taken up and let go, by their numbers in the plan."""

    added: tuple[int, ...]
    removed: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The plan as it stands: a problem that could be solved anew, and the plan for it.

    Shapes: pair (pairs of the problem,) int64, the number that each has in the plan.
    """

    problem: Problem
    assignment: Assignment
    pair: Int64


class Plan:
    """A plan that answers events: who comes, who leaves, what is accepted, declined or changed.

    Pairs, experts and tasks keep the numbers they had in the problem; later ones get the next
    numbers. With seats alone the plan equals a fresh solve after every event. Under budgets,
    hours, share caps, conflicts and hard ceilings the prices of the last batch are kept and each
    event is the best one at those prices; a pair that would break a limit is held back until the
    next batch. Hard
    floors of quotas are not restored when somebody leaves: `Snapshot` and `verify` tell, and the
    next batch mends. One thread at a time may use a plan.
    """

    def __init__(self, problem: Problem, assignment: Assignment) -> None:
        """Take over the plan and the prices of a batch, without solving anything.

        Where side rules made the batch's plan differ from what its prices alone would choose, the
        pairs concerned are valued as the plan has them, so that it is the best one to start from.

        Raises: ProblemInvalid, when the pairs of the problem are not in order of task.
        """
        if problem.pairs and bool((problem.task[1:] < problem.task[:-1]).any()):
            raise ProblemInvalid("task", None, "pairs have to be in order of task for a plan")
        self._start = problem
        self._prices = assignment.prices
        left = left_after_locked(problem)
        self._locked: dict[int, None] = dict.fromkeys(problem.locked.tolist())
        self._held_back: set[int] = set()
        used = np.zeros(problem.pairs, np.bool_)
        used[assignment.chosen] = True
        used[problem.locked] = False
        self._facts = Facts(problem, micro_value(problem))
        self.limits = Limits(problem, self._facts)
        self.limits.add(assignment.chosen)
        self.network = network_of(problem, left, used, assignment.prices)

    @property
    def accepted(self) -> tuple[int, ...]:
        """The pairs that are accepted and stay, in the order in which they were."""
        return tuple(self._locked)

    def has_accepted(self, pair: int) -> bool:
        """Whether a pair is accepted and stays."""
        return pair in self._locked

    @property
    def held_back(self) -> tuple[int, ...]:
        """The pairs that a limit keeps out until the next batch."""
        return tuple(sorted(self._held_back))

    def is_eligible(self, pair: int) -> bool:
        """Whether a pair may be chosen, by this plan or by the next batch."""
        return bool(self.network.profit[pair] > NEVER) or pair in self._held_back

    def budget_price(self, project: int) -> float:
        """What a minor unit of a budget was worth to the last batch, in units of value."""
        return float(self._prices.budget[project])

    def costs(self) -> Int64:
        """What each pair costs, minor units, shape (pairs,); empty where the problem has none."""
        return self._facts.cost.all

    def chosen(self) -> Int64:
        """The pairs of the plan, accepted ones included, in ascending order."""
        used = np.flatnonzero(self.network.used[: self.network.pairs])
        return np.sort(np.concatenate([used, np.array(list(self._locked), np.int64)]))

    def add_task(
        self,
        experts: Int32,
        value: Float64,
        *,
        demand: int,
        open_seat_price: float = 0.0,
        project: int = 0,
        hours: Float64 | None = None,
        cost: Int64 | None = None,
    ) -> tuple[int, Int64, Change]:
        """A task arrives with its eligible pairs; its number, those of its pairs, what changed.

        Shapes: experts, value, hours, cost (new pairs,).
        Raises: ProblemInvalid.
        """
        self._facts.check_new("expert", experts, self.network.experts, value, hours, cost)
        if not 0 <= project < self._start.projects:
            raise ProblemInvalid("project", None, f"project {project} does not exist")
        task = self.network.grow_task(int(micro_price(open_seat_price)))
        self._facts.project.grow(np.array([project], np.int32))
        names = np.full(len(experts), task, np.int32)
        pairs = self._new_pairs(names, experts.astype(np.int32), value, hours, cost)
        return task, pairs, self.set_demand(task, demand)

    def add_expert(
        self,
        tasks: Int32,
        value: Float64,
        *,
        capacity: int,
        hours_available: float = float("inf"),
        min_load: int = 0,
        hours: Float64 | None = None,
        cost: Int64 | None = None,
    ) -> tuple[int, Int64, Change]:
        """An expert arrives with their eligible pairs; their number, the pairs', what changed.

        Raises: ProblemInvalid.
        """
        self._facts.check_new("task", tasks, self.network.tasks, value, hours, cost)
        floor = min(min_load, capacity) if self.network.bonus else 0
        expert = self.network.grow_expert(floor)
        self._facts.min_load.grow(np.array([min(min_load, capacity)], np.int32))
        self._facts.hours_available.grow(np.array([hours_available]))
        self.limits.grow_expert()
        names = np.full(len(tasks), expert, np.int32)
        pairs = self._new_pairs(tasks.astype(np.int32), names, value, hours, cost)
        return expert, pairs, self.set_capacity(expert, capacity)

    def remove_task(self, task: int) -> Change:
        """A task is cancelled: its seats go, and those who held them are free for others."""
        network, moved = self.network, Moved()
        mine = network.pairs_of_task(task)
        # Without seats nobody is sent there while those who leave look for other tasks.
        network.demand[task] = 0
        for pair in mine[network.used[mine]].tolist():
            expert = int(network.expert[pair])
            self._drop(pair, moved)
            network.pull(~expert, moved)
        for pair in [pair for pair in self._locked if network.task[pair] == task]:
            self._unlock(pair, moved)
            network.pull(~int(network.expert[pair]), moved)
        network.profit[mine] = NEVER
        return self._settled(moved)

    def remove_expert(self, expert: int) -> Change:
        """An expert leaves: their seats, accepted ones too, are open for others."""
        network, moved = self.network, Moved()
        mine = network.pairs_of_expert(expert)
        network.capacity[expert] = 0
        waiting = mine[network.used[mine]].tolist()
        for pair in waiting:
            task = int(network.task[pair])
            self._drop(pair, moved)
            network.push(task, moved)
        for pair in [pair for pair in self._locked if network.expert[pair] == expert]:
            self._unlock(pair, moved)
            network.capacity[expert] = 0
            self._seat_again(int(network.task[pair]), moved)
        network.capacity[expert] = network.floor[expert] = 0
        self._facts.min_load.all[expert] = 0
        network.profit[mine] = NEVER
        return self._settled(moved)

    def set_capacity(self, expert: int, capacity: int) -> Change:
        """An expert offers another number of seats, those already accepted included.

        Raises: ProblemInvalid, when more seats are accepted than that.
        """
        network, moved = self.network, Moved()
        held = sum(1 for pair in self._locked if network.expert[pair] == expert)
        if capacity < held:
            raise ProblemInvalid("capacity", expert, f"{held} seats are accepted already")
        if network.capacity[expert] == 0:
            network.settle_expert(expert)
        while network.capacity[expert] < capacity - held:
            network.capacity[expert] += 1
            network.pull(~expert, moved)
        while network.capacity[expert] > capacity - held:
            network.capacity[expert] -= 1
            network.floor[expert] = min(network.floor[expert], network.capacity[expert])
            if network.load[expert] > network.capacity[expert]:
                network.load[expert] -= 1
                network.push(~expert, moved)
        self._facts.min_load.all[expert] = min(int(self._facts.min_load.all[expert]), capacity)
        return self._settled(moved)

    def set_demand(self, task: int, demand: int) -> Change:
        """A task asks for another number of seats, those already accepted included.

        Raises: ProblemInvalid, when more seats are accepted than that.
        """
        network, moved = self.network, Moved()
        held = sum(1 for pair in self._locked if network.task[pair] == task)
        if demand < held:
            raise ProblemInvalid("demand", task, f"{held} seats are accepted already")
        while network.demand[task] < demand - held:
            self._seat_again(task, moved)
        while network.demand[task] > demand - held:
            network.demand[task] -= 1
            if network.filled[task] > network.demand[task]:
                network.pull(task, moved)
        return self._settled(moved)

    def set_budget(self, project: int, budget: int) -> Change:
        """A project has another budget; where it is spent already, the least worthwhile go."""
        moved = Moved()
        if self.limits.budget is None:
            raise ProblemInvalid("budget", project, "the problem has no budgets")
        self.limits.budget[project] = budget
        return self._settled(moved, project)

    def accept(self, pair: int) -> Change:
        """A chosen pair is accepted: it stays, whatever comes, until somebody leaves.

        Raises: ProblemInvalid, when the pair is not in the plan.
        """
        network = self.network
        if not 0 <= pair < network.pairs or not network.used[pair]:
            raise ProblemInvalid("pair", pair, "is not an open choice of the plan")
        task, expert = int(network.task[pair]), int(network.expert[pair])
        network.used[pair] = False
        network.profit[pair] = NEVER
        for name, at in (
            ("demand", task),
            ("filled", task),
            ("capacity", expert),
            ("load", expert),
        ):
            getattr(network, name)[at] -= 1
        network.floor[expert] = max(int(network.floor[expert]) - 1, 0)
        self._locked[pair] = None
        return Change((), ())

    def decline(self, pair: int) -> Change:
        """A pair is declined or timed out: it is eligible no more, and its seat is open again."""
        network, moved = self.network, Moved()
        if not 0 <= pair < network.pairs:
            raise ProblemInvalid("pair", pair, "does not exist")
        self._held_back.discard(pair)
        if pair in self._locked:
            self._unlock(pair, moved)
            network.pull(~int(network.expert[pair]), moved)
            self._seat_again(int(network.task[pair]), moved)
            return self._settled(moved)
        self._withdraw(pair, moved)
        return self._settled(moved)

    def snapshot(self) -> Snapshot:
        """The problem as events have made it, and the plan with its certified bound."""
        network = self.network
        eligible = network.profit[: network.pairs] > NEVER
        eligible[list(self._held_back)] = True
        eligible[list(self._locked)] = True
        pair = np.flatnonzero(eligible)
        order = np.lexsort((pair, network.task[pair]))
        pair = pair[order]
        place = np.full(network.pairs, -1)
        place[pair] = np.arange(len(pair))
        locked = np.array(list(self._locked), np.int64)
        task, expert = network.task[pair], network.expert[pair]
        held_task = np.bincount(network.task[locked], minlength=network.tasks)
        held_expert = np.bincount(network.expert[locked], minlength=network.experts)
        start, facts = self._start, self._facts
        problem = Problem(
            expert=expert,
            task=task,
            value=facts.value.all[pair] / MICRO,
            demand=(network.demand[: network.tasks] + held_task).astype(np.int32),
            capacity=(network.capacity[: network.experts] + held_expert).astype(np.int32),
            hours=facts.hours.all[pair] if facts.has_hours else None,
            hours_available=None
            if start.hours_available is None
            else np.minimum(facts.hours_available.all, 1e9),
            cost=facts.cost.all[pair] if facts.has_cost else None,
            project=None if start.project is None else facts.project.all,
            budget=self.limits.budget,
            locked=place[locked],
            conflicts=start.conflicts,
            min_load=None if start.min_load is None else facts.min_load.all,
            min_load_price=start.min_load_price,
            share_cap=start.share_cap,
            quotas=start.quotas,
            open_seat_price=network.open_cost[: network.tasks] / MICRO,
        )
        chosen = np.sort(place[self.chosen()])
        prices = Prices(
            task=-network.task_cost[: network.tasks] / MICRO,
            expert=network.expert_cost[: network.experts] / MICRO,
            budget=self._prices.budget,
            hour=padded(self._prices.hour, network.experts),
            quota=self._prices.quota,
            share_key=self._prices.share_key,
            share=self._prices.share,
            clash_key=self._prices.clash_key,
            clash=self._prices.clash,
        )
        proof = "flow" if self.limits.none else "prices"
        answer = finished(problem, chosen, prices, proof=proof, rounds=0, seed=0)
        return Snapshot(problem, answer, pair)

    def bound(self) -> float:
        """The most that any plan for the present problem can be worth, units of value."""
        taken = self.snapshot()
        return price_bound(taken.problem, taken.assignment.prices)

    def _new_pairs(
        self,
        task: Int32,
        expert: Int32,
        value: Float64,
        hours: Float64 | None,
        cost: Int64 | None,
    ) -> Int64:
        profit = self._facts.grow_pairs(task, expert, value, hours, cost, self._prices)
        return self.network.grow_pairs(task, expert, profit)

    def _seat_again(self, task: int, moved: Moved) -> None:
        network = self.network
        if network.demand[task] == 0:
            network.settle_task(task)
        network.demand[task] += 1
        network.push(task, moved)

    def _drop(self, pair: int, moved: Moved) -> None:
        """Take a used pair out of plan and counts; its unit waits at task and expert alike."""
        network = self.network
        network.used[pair] = False
        network.filled[network.task[pair]] -= 1
        network.load[network.expert[pair]] -= 1
        moved.flip(pair, used=False)

    def _unlock(self, pair: int, moved: Moved) -> None:
        network, expert = self.network, int(self.network.expert[pair])
        del self._locked[pair]
        moved.flip(pair, used=False)
        if network.capacity[expert] == 0:
            network.settle_expert(expert)
        network.capacity[expert] += 1
        if network.bonus:
            held = sum(1 for other in self._locked if network.expert[other] == expert)
            owed = max(int(self._facts.min_load.all[expert]) - held, 0)
            network.floor[expert] = min(owed, int(network.capacity[expert]))

    def _withdraw(self, pair: int, moved: Moved) -> None:
        """A pair is out: if it was used, expert and seat each look for something else."""
        network = self.network
        if not network.used[pair]:
            network.profit[pair] = NEVER
            return
        task, expert = int(network.task[pair]), int(network.expert[pair])
        self._drop(pair, moved)
        network.profit[pair] = NEVER
        network.demand[task] -= 1
        network.pull(~expert, moved)
        self._seat_again(task, moved)

    def _settled(self, moved: Moved, project: int | None = None) -> Change:
        """Mend the hard limits that the event would break, and tell the change."""
        self.limits.drop(np.array(sorted(moved.removed), np.int64))
        self.limits.add(np.array(sorted(moved.added), np.int64))
        suspects = sorted(moved.added)
        if project is not None:
            used = self.chosen()
            suspects = used[self._facts.project.all[self.network.task[used]] == project].tolist()
        # Each turn takes a pair out for good, so that there are only so many.
        while not self.limits.none:
            broken = [
                pair for pair in suspects if self.network.used[pair] and self.limits.breaks(pair)
            ]
            if not broken:
                break
            least = min(broken, key=lambda pair: (self._worth_beyond(pair), pair))
            more = Moved()
            self._withdraw(least, more)
            self._held_back.add(least)
            self.limits.drop(np.array(sorted(more.removed), np.int64))
            self.limits.add(np.array(sorted(more.added), np.int64))
            for pair in more.added:
                moved.flip(pair, used=True)
            for pair in more.removed:
                moved.flip(pair, used=False)
            suspects = sorted({*suspects, *more.added})
        return Change(tuple(sorted(moved.added)), tuple(sorted(moved.removed)))

    def _worth_beyond(self, pair: int) -> int:
        network = self.network
        seat = int(network.task_cost[network.task[pair]])
        return int(network.profit[pair]) + seat - int(network.expert_cost[network.expert[pair]])
