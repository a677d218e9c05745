"""Seats kept optimal one unit at a time: shortest paths over reduced costs, prices kept valid."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matching.problem import Bool, Int32, Int64

NEVER = -(1 << 42)
"""A profit, micro-units, at which no pair is ever taken: one that is out of the plan for good."""

SPARE = 1024
"""Entries that an array grows by at least."""


@dataclass(slots=True)
class Moved:
    """Pairs that one event took up and let go; a pair in both is in neither."""

    added: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)

    def flip(self, pair: int, used: bool) -> None:
        """Note that a pair is used now, or no longer."""
        into, out = (self.added, self.removed) if used else (self.removed, self.added)
        if pair in out:
            out.discard(pair)
        else:
            into.add(pair)


class Network:
    """Tasks, experts and pairs with a best plan and prices that prove it.

    A node is a task i >= 0 or an expert coded as ~j. `task_cost` and `expert_cost` are distances
    to the sink: every residual arc u -> v keeps cost + d(v) - d(u) >= 0, which is what makes a
    plan the best one. An expert's distance is their price; minus a task's is the task's price.

    Shapes: task, expert (pairs,) int32; profit (pairs,) int64; used (pairs,) bool; demand, filled,
        open_cost, task_cost (tasks,) int64; capacity, load, floor, expert_cost (experts,) int64.
    Units: profit, costs and bonus (for a seat of the floor) in micro-units.
    Source: successive shortest paths with potentials; Ahuja, Magnanti, Orlin, Network Flows 9.7.
    """

    def __init__(
        self,
        *,
        task: Int32,
        expert: Int32,
        profit: Int64,
        used: Bool,
        demand: Int64,
        capacity: Int64,
        open_cost: Int64,
        floor: Int64,
        bonus: int,
        task_cost: Int64,
        expert_cost: Int64,
    ) -> None:
        self.task, self.expert = task.copy(), expert.copy()
        self.profit, self.used = profit.copy(), used.copy()
        self.demand, self.capacity = demand.copy(), capacity.copy()
        self.open_cost, self.floor, self.bonus = open_cost.copy(), floor.copy(), bonus
        self.task_cost, self.expert_cost = task_cost.copy(), expert_cost.copy()
        self.filled = np.bincount(task[used], minlength=len(demand)).astype(np.int64)
        self.load = np.bincount(expert[used], minlength=len(capacity)).astype(np.int64)
        self.pairs, self.tasks, self.experts = len(task), len(demand), len(capacity)
        self._task_start = np.searchsorted(task, np.arange(self.tasks + 1))
        self._by_expert = np.argsort(expert, kind="stable").astype(np.int32)
        sorted_expert = expert[self._by_expert]
        self._expert_start = np.searchsorted(sorted_expert, np.arange(self.experts + 1))
        # Pairs that came later than the arrays, by their task and by their expert.
        self._late_task: dict[int, Int64] = {}
        self._late_expert: dict[int, Int64] = {}

    def pairs_of_task(self, task: int) -> Int64:
        """Indices of the pairs of a task."""
        late = self._late_task.get(task)
        if task >= len(self._task_start) - 1:
            return np.zeros(0, np.int64) if late is None else late
        own = np.arange(self._task_start[task], self._task_start[task + 1])
        return own if late is None else np.concatenate([own, late])

    def pairs_of_expert(self, expert: int) -> Int64:
        """Indices of the pairs of an expert."""
        late = self._late_expert.get(expert)
        if expert >= len(self._expert_start) - 1:
            return np.zeros(0, np.int64) if late is None else late
        own = self._by_expert[self._expert_start[expert] : self._expert_start[expert + 1]]
        return own.astype(np.int64) if late is None else np.concatenate([own, late])

    def grow_task(self, open_cost: int) -> int:
        """A new task without seats or pairs; its number."""
        at = self.tasks
        for name in ("demand", "filled", "open_cost", "task_cost"):
            setattr(self, name, _with_room(getattr(self, name), at + 1))
        self.demand[at] = self.filled[at] = 0
        self.open_cost[at] = self.task_cost[at] = open_cost
        self.tasks += 1
        return at

    def grow_expert(self, floor: int) -> int:
        """A new expert without seats or pairs; their number."""
        at = self.experts
        for name in ("capacity", "load", "floor", "expert_cost"):
            setattr(self, name, _with_room(getattr(self, name), at + 1))
        self.capacity[at] = self.load[at] = self.expert_cost[at] = 0
        self.floor[at] = floor
        self.experts += 1
        return at

    def grow_pairs(self, task: Int32, expert: Int32, profit: Int64) -> Int64:
        """New pairs, of tasks and experts that are there; their numbers."""
        first, last = self.pairs, self.pairs + len(task)
        for name in ("task", "expert", "profit", "used"):
            setattr(self, name, _with_room(getattr(self, name), last))
        self.task[first:last], self.expert[first:last] = task, expert
        self.profit[first:last], self.used[first:last] = profit, False
        self.pairs = last
        numbers = np.arange(first, last)
        for late, group in ((self._late_task, task), (self._late_expert, expert)):
            for name in np.unique(group).tolist():
                mine = numbers[group == name]
                known = late.get(name)
                late[name] = mine if known is None else np.concatenate([known, mine])
        return numbers

    def idle_cost(self, expert: int) -> int:
        """The cost of the expert's next seat: nought, or less below the floor."""
        return -self.bonus if self.load[expert] < self.floor[expert] else 0

    def freed_cost(self, expert: int) -> int:
        """The cost of giving up the expert's last seat."""
        return self.bonus if self.load[expert] <= self.floor[expert] else 0

    def push(self, start: int, moved: Moved) -> None:
        """Find the cheapest way to the sink for one unit that waits at a node.

        At a task it is a seat to fill (or leave open), at an expert a seat they no longer have.
        The unit is counted already where it waits: nowhere at a task, and not in the load.
        """
        heap: list[tuple[int, int]] = [(0, start)]
        far: dict[int, int] = {start: 0}
        back: dict[int, tuple[int, int]] = {}
        done: list[int] = []
        best: int | None = None
        end = start
        while heap:
            here, node = heapq.heappop(heap)
            if best is not None and here >= best:
                break
            if here > far[node]:
                continue
            done.append(node)
            if node >= 0:
                out = here + int(self.open_cost[node] - self.task_cost[node])
                if best is None or out < best:
                    best, end = out, node
                pairs = self.pairs_of_task(node)
                experts = self.expert[pairs]
                ahead = here - int(self.task_cost[node]) - self.profit[pairs]
                ahead += self.expert_cost[experts]
                near = np.flatnonzero(
                    (ahead < best) & ~self.used[pairs] & (self.profit[pairs] > NEVER)
                )
                for at in near.tolist():
                    other, length = ~int(experts[at]), int(ahead[at])
                    # Somebody without seats is reached by no path; nobody could hold the unit.
                    if self.capacity[~other] and length < far.get(other, 1 << 62):
                        far[other] = length
                        back[other] = (node, int(pairs[at]))
                        heapq.heappush(heap, (length, other))
            else:
                expert = ~node
                if node != start and self.load[expert] < self.capacity[expert]:
                    out = here + self.idle_cost(expert) - int(self.expert_cost[expert])
                    if best is None or out < best:
                        best, end = out, node
                pairs = self.pairs_of_expert(expert)
                pairs = pairs[self.used[pairs]]
                tasks = self.task[pairs]
                ahead = here + self.profit[pairs] + self.task_cost[tasks]
                ahead -= self.expert_cost[expert]
                for pair, task, length in zip(
                    pairs.tolist(), tasks.tolist(), ahead.tolist(), strict=True
                ):
                    if (best is None or length < best) and length < far.get(task, 1 << 62):
                        far[task] = length
                        back[task] = (node, pair)
                        heapq.heappush(heap, (length, task))
        assert best is not None
        for node in done:
            if far[node] < best:
                self._raise(node, best - far[node])
        if end >= 0:
            self.filled[end] -= end != start
        else:
            self.load[~end] += 1
        if start >= 0 and end != start:
            self.filled[start] += 1
        self._turn(end, start, back, moved)

    def pull(self, start: int, moved: Moved) -> None:
        """Put to use one unit that has come free at a node, where that is worth more than rest.

        At an expert it is a seat that is theirs again, at a task a seat that is no longer asked
        for. The unit is not yet counted: not in the load, and still in what is filled.
        """
        heap: list[tuple[int, int]] = [(0, start)]
        far: dict[int, int] = {start: 0}
        back: dict[int, tuple[int, int]] = {}
        done: list[int] = []
        # An expert's seat may as well stay idle; a seat that is not asked for has to go.
        best = 1 << 60
        if start < 0:
            best = int(self.expert_cost[~start]) - self.idle_cost(~start)
        if best <= 0:
            return
        end: int | None = None
        while heap:
            here, node = heapq.heappop(heap)
            if here >= best:
                break
            if here > far[node]:
                continue
            done.append(node)
            if node < 0:
                expert = ~node
                if node != start and self.load[expert] > 0:
                    out = here + int(self.expert_cost[expert]) + self.freed_cost(expert)
                    if out < best:
                        best, end = out, node
                pairs = self.pairs_of_expert(expert)
                tasks = self.task[pairs]
                ahead = here - self.profit[pairs] + int(self.expert_cost[expert])
                ahead -= self.task_cost[tasks]
                near = np.flatnonzero(
                    (ahead < best) & ~self.used[pairs] & (self.profit[pairs] > NEVER)
                )
                for at in near.tolist():
                    task, length = int(tasks[at]), int(ahead[at])
                    if self.demand[task] and length < far.get(task, 1 << 62):
                        far[task] = length
                        back[task] = (node, int(pairs[at]))
                        heapq.heappush(heap, (length, task))
            else:
                if node != start and self.filled[node] < self.demand[node]:
                    out = here + int(self.task_cost[node] - self.open_cost[node])
                    if out < best:
                        best, end = out, node
                pairs = self.pairs_of_task(node)
                pairs = pairs[self.used[pairs]]
                experts = self.expert[pairs]
                ahead = here + self.profit[pairs] + int(self.task_cost[node])
                ahead -= self.expert_cost[experts]
                for pair, expert, length in zip(
                    pairs.tolist(), experts.tolist(), ahead.tolist(), strict=True
                ):
                    if length < best and length < far.get(~expert, 1 << 62):
                        far[~expert] = length
                        back[~expert] = (node, pair)
                        heapq.heappush(heap, (length, ~expert))
        for node in done:
            if far[node] < best:
                self._raise(node, far[node] - best)
        if end is None:
            return
        if end < 0:
            self.load[~end] -= 1
        else:
            self.filled[end] += 1
        if start < 0:
            self.load[~start] += 1
        else:
            self.filled[start] -= 1
        self._turn(end, start, back, moved)

    def settle_task(self, task: int) -> None:
        """The largest price of a task without seats at which its pairs are still in order."""
        pairs = self.pairs_of_task(task)
        pairs = pairs[(self.profit[pairs] > NEVER) & (self.capacity[self.expert[pairs]] > 0)]
        ways = self.expert_cost[self.expert[pairs]] - self.profit[pairs]
        self.task_cost[task] = min(int(self.open_cost[task]), int(ways.min(initial=1 << 60)))

    def settle_expert(self, expert: int) -> None:
        """The least price of an expert without seats at which their pairs are still in order."""
        pairs = self.pairs_of_expert(expert)
        pairs = pairs[(self.profit[pairs] > NEVER) & (self.demand[self.task[pairs]] > 0)]
        worth = self.task_cost[self.task[pairs]] + self.profit[pairs]
        least = -self.bonus if self.floor[expert] > 0 else 0
        self.expert_cost[expert] = max(least, int(worth.max(initial=-(1 << 60))))

    def _raise(self, node: int, by: int) -> None:
        if node >= 0:
            self.task_cost[node] += by
        else:
            self.expert_cost[~node] += by

    def _turn(self, end: int, start: int, back: dict[int, tuple[int, int]], moved: Moved) -> None:
        node = end
        while node != start:
            node, pair = back[node]
            self.used[pair] = not self.used[pair]
            moved.flip(pair, bool(self.used[pair]))


def _with_room(values: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """The same values in an array that holds at least so many, grown by an eighth at a time."""
    if len(values) >= size:
        return values
    grown = np.zeros(max(size + SPARE, len(values) * 9 // 8), values.dtype)
    grown[: len(values)] = values
    return grown
