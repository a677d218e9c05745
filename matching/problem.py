"""The matching problem as arrays: eligible pairs, seats, hours, money and the rules among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

MICRO = 1_000_000
"""Micro-units in a unit of value: values are compared to the sixth decimal and no further."""

VALUE_LIMIT = 1e6
"""Largest size of a value or a price, units: keeps costs times nodes inside 64 bits."""


class ProblemInvalid(ValueError):
    """An array of a problem breaks its contract; says which array, where, and how."""

    def __init__(self, array: str, index: int | None, reason: str) -> None:
        self.array = array
        self.index = index
        self.reason = reason
        where = array if index is None else f"{array}[{index}]"
        super().__init__(f"{where}: {reason}")


@dataclass(frozen=True, slots=True, eq=False)
class Quota:
    """How many seats of one project a group of experts takes, at least and at most.

    Shapes: members (experts in the group,) int32, indices of experts.
    Units: at_least, at_most in seats; price in units of value for each seat missing or in excess.
        Without a price the quota is hard.
    """

    project: int
    members: Int32
    at_least: int = 0
    at_most: int | None = None
    price: float | None = None
    name: str = "group"


@dataclass(frozen=True, eq=False)
class Problem:
    """Who may take which task, what each pair is worth, and every limit an assignment must keep.

    A pair that is not listed can never be chosen. Arrays are checked on entry and kept as
    read-only views, so that a problem cannot change under a solver.

    Shapes: expert, task, value, hours, cost, tie_break (pairs,); demand, project (tasks,);
        capacity, hours_available, min_load (experts,); budget (projects,); locked (any,) indices
        of pairs; conflicts (any, 2) indices of experts; open_seat_price (tasks,) or one number.
    Units: value, open_seat_price, min_load_price in units of value (kept to the sixth decimal);
        demand, capacity, min_load in seats; hours, hours_available in hours; cost, budget in
        minor units of one currency; share_cap a share of a project's demanded seats, at least
        one seat; tie_break any hash of the pair's ids, distinct for each pair.
    Raises: ProblemInvalid.
    """

    expert: Int32
    task: Int32
    value: Float64
    demand: Int32
    capacity: Int32
    hours: Float64 | None = None
    hours_available: Float64 | None = None
    cost: Int64 | None = None
    project: Int32 | None = None
    budget: Int64 | None = None
    locked: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    conflicts: Int32 = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    min_load: Int32 | None = None
    min_load_price: float | None = None
    share_cap: float | None = None
    quotas: tuple[Quota, ...] = ()
    open_seat_price: Float64 | float | None = None
    tie_break: UInt64 | None = None

    def __post_init__(self) -> None:
        pairs = np.asarray(self.expert).shape[0] if np.ndim(self.expert) == 1 else -1
        self._keep("demand", _whole("demand", self.demand, np.int32, None))
        self._keep("capacity", _whole("capacity", self.capacity, np.int32, None))
        tasks, experts = len(self.demand), len(self.capacity)
        self._keep("expert", _whole("expert", self.expert, np.int32, pairs, below=experts))
        self._keep("task", _whole("task", self.task, np.int32, pairs, below=tasks))
        self._keep("value", _real("value", self.value, pairs, low=-VALUE_LIMIT, high=VALUE_LIMIT))
        self._check_duplicates()
        if self.tie_break is not None:
            self._keep("tie_break", _hashes(self.tie_break, pairs))
        self._check_hours(pairs, experts)
        self._check_money(pairs, tasks)
        self._check_prices(tasks, experts)
        self._check_groups(experts)
        self._check_locked(pairs)

    @property
    def pairs(self) -> int:
        """Eligible pairs."""
        return len(self.expert)

    @property
    def tasks(self) -> int:
        """Tasks, open or not."""
        return len(self.demand)

    @property
    def experts(self) -> int:
        """Experts, idle or not."""
        return len(self.capacity)

    @property
    def projects(self) -> int:
        """Projects named by a task or a budget; one when neither is given."""
        if self.budget is not None:
            return len(self.budget)
        if self.project is None:
            return 1
        return int(self.project.max(initial=-1)) + 1

    def task_project(self) -> Int32:
        """The project of each task; the only one when none is given."""
        return np.zeros(self.tasks, np.int32) if self.project is None else self.project

    def seat_price(self) -> Float64:
        """What each task pays for a seat left open, units of value, shape (tasks,)."""
        price = 0.0 if self.open_seat_price is None else self.open_seat_price
        spread: Float64 = np.broadcast_to(np.asarray(price, np.float64), (self.tasks,))
        return spread

    def share_limit(self) -> Int64:
        """Seats that one expert may take in each project, shape (projects,).

        A share is rounded down, but never below one seat: a cap is not a ban.
        """
        seats = np.bincount(self.task_project(), self.demand, self.projects)
        share = seats if self.share_cap is None else np.floor(self.share_cap * seats + 1e-9)
        limit: Int64 = np.maximum(share, 1).astype(np.int64)
        return limit

    def with_changes(
        self,
        *,
        open_seat_price: Float64 | float | None = None,
        share_cap: float | None = None,
        min_load_price: float | None = None,
        quotas: Sequence[Quota] | None = None,
    ) -> Problem:
        """This problem under other prices, caps or quotas; the arrays are shared, not copied."""
        seat = self.open_seat_price if open_seat_price is None else open_seat_price
        return replace(
            self,
            open_seat_price=seat,
            share_cap=self.share_cap if share_cap is None else share_cap,
            min_load_price=self.min_load_price if min_load_price is None else min_load_price,
            quotas=self.quotas if quotas is None else tuple(quotas),
        )

    def _keep(self, name: str, values: NDArray[np.generic]) -> None:
        view = values.view()
        view.flags.writeable = False
        object.__setattr__(self, name, view)

    def _check_duplicates(self) -> None:
        key = self.task.astype(np.int64) * np.int64(max(self.experts, 1)) + self.expert
        if len(key) < 2 or bool((key[1:] > key[:-1]).all()):
            return
        order = np.argsort(key, kind="stable")
        again = np.flatnonzero(key[order[1:]] == key[order[:-1]])
        if len(again):
            index = int(order[again[0] + 1])
            first = int(order[again[0]])
            raise ProblemInvalid("expert", index, f"the same expert and task as pair {first}")

    def _check_hours(self, pairs: int, experts: int) -> None:
        if self.hours is not None:
            self._keep("hours", _real("hours", self.hours, pairs, low=0, high=1e6))
        if self.hours_available is not None:
            if self.hours is None:
                _refuse("hours", None, "hours_available is given, but no hours of pairs")
            available = _real("hours_available", self.hours_available, experts, low=0, high=1e9)
            self._keep("hours_available", available)

    def _check_money(self, pairs: int, tasks: int) -> None:
        if self.cost is not None:
            self._keep("cost", _whole("cost", self.cost, np.int64, pairs, below=1 << 50))
        if self.budget is not None:
            if self.cost is None:
                _refuse("cost", None, "budget is given, but no cost of pairs")
            if self.project is None and len(self.budget) != 1:
                _refuse("project", None, "budget is given, but no project of tasks")
            self._keep("budget", _whole("budget", self.budget, np.int64, None, below=1 << 60))
        if self.project is not None:
            below = None if self.budget is None else len(self.budget)
            self._keep("project", _whole("project", self.project, np.int32, tasks, below=below))

    def _check_prices(self, tasks: int, experts: int) -> None:
        if self.open_seat_price is not None:
            if np.ndim(self.open_seat_price) == 0:
                price = _real("open_seat_price", [self.open_seat_price], 1, low=0, high=VALUE_LIMIT)
                object.__setattr__(self, "open_seat_price", float(price[0]))
            else:
                seat = self.open_seat_price
                checked = _real("open_seat_price", seat, tasks, low=0, high=VALUE_LIMIT)
                self._keep("open_seat_price", checked)
        if self.min_load is not None:
            self._keep("min_load", _whole("min_load", self.min_load, np.int32, experts))
            over = np.flatnonzero(self.min_load > self.capacity)
            if len(over):
                at = int(over[0])
                _refuse("min_load", at, f"asks for more seats than capacity[{at}]")
        if self.min_load_price is not None:
            _real("min_load_price", [self.min_load_price], 1, low=0, high=VALUE_LIMIT)
        if self.share_cap is not None and not 0 < self.share_cap <= 1:
            _refuse("share_cap", None, "is not a share above 0 and up to 1")

    def _check_groups(self, experts: int) -> None:
        conflicts = np.asarray(self.conflicts)
        if conflicts.size == 0:
            conflicts = np.zeros((0, 2), np.int32)
        if conflicts.ndim != 2 or conflicts.shape[1] != 2:
            _refuse("conflicts", None, f"has shape {conflicts.shape}, not (any, 2)")
        flat = _whole("conflicts", conflicts.reshape(-1), np.int32, None, below=experts, per=2)
        self._keep("conflicts", flat.reshape(-1, 2))
        same = np.flatnonzero(self.conflicts[:, 0] == self.conflicts[:, 1])
        if len(same):
            _refuse("conflicts", int(same[0]), "an expert cannot conflict with themselves")
        for index, quota in enumerate(self.quotas):
            if not 0 <= quota.project < max(self.projects, 1):
                _refuse("quotas", index, f"project {quota.project} does not exist")
            if quota.at_least < 0 or (quota.at_most is not None and quota.at_most < quota.at_least):
                _refuse("quotas", index, "at_least and at_most leave no number of seats")
            if quota.price is not None and not 0 <= quota.price <= VALUE_LIMIT:
                _refuse("quotas", index, f"price is not between 0 and {VALUE_LIMIT:g}")
            try:
                _whole("members", quota.members, np.int32, None, below=experts)
            except ProblemInvalid as refusal:
                raise ProblemInvalid("quotas", index, str(refusal)) from refusal

    def _check_locked(self, pairs: int) -> None:
        self._keep("locked", _whole("locked", self.locked, np.int64, None, below=pairs))
        if not len(self.locked):
            return
        order = np.argsort(self.locked, kind="stable")
        again = np.flatnonzero(np.diff(self.locked[order]) == 0)
        if len(again):
            _refuse("locked", int(order[again[0] + 1]), "the same pair is locked twice")
        task, expert = self.task[self.locked], self.expert[self.locked]
        project = self.task_project()[task]
        self._locked_within("demand", task, self.demand)
        self._locked_within("capacity", expert, self.capacity)
        if self.hours is not None and self.hours_available is not None:
            spent = self.hours[self.locked]
            self._locked_within("hours_available", expert, self.hours_available + 1e-9, spent)
        if self.budget is not None and self.cost is not None:
            self._locked_within("budget", project, self.budget, self.cost[self.locked])
        if self.share_cap is not None:
            key, groups = np.unique(expert.astype(np.int64) << 32 | project, return_inverse=True)
            limit = self.share_limit()[(key & 0xFFFFFFFF).astype(np.int64)]
            self._locked_within("share_cap", groups, limit)
        self._check_locked_groups(task, expert, project)

    def _locked_within(
        self,
        rule: str,
        group: NDArray[np.integer],
        limit: NDArray[np.integer] | Float64,
        weight: NDArray[np.integer] | Float64 | None = None,
    ) -> None:
        one = np.ones(len(group)) if weight is None else weight.astype(np.float64)
        used = np.bincount(group, one, len(limit))
        over = used > limit
        if over.any():
            last = int(np.flatnonzero(over[group])[-1])
            at = int(group[last])
            _refuse("locked", last, f"locked pairs already exceed {rule}[{at}]")

    def _check_locked_groups(self, task: Int32, expert: Int32, project: Int32) -> None:
        held = set(zip(task.tolist(), expert.tolist(), strict=True))
        by_expert: dict[int, list[int]] = {}
        if len(self.conflicts):
            for seat, j in enumerate(expert.tolist()):
                by_expert.setdefault(j, []).append(seat)
        for index, (first, second) in enumerate(self.conflicts.tolist()):
            for seat in by_expert.get(first, ()):
                if (int(task[seat]), second) in held:
                    reason = f"locked pairs seat both experts of conflicts[{index}] on one task"
                    _refuse("locked", seat, reason)
        for index, quota in enumerate(self.quotas):
            if quota.at_most is None or quota.price is not None:
                continue
            inside = np.flatnonzero((project == quota.project) & np.isin(expert, quota.members))
            if len(inside) > quota.at_most:
                reason = f"locked pairs already exceed at_most of quotas[{index}]"
                _refuse("locked", int(inside[quota.at_most]), reason)


def newcomer_quotas(
    problem: Problem, newcomers: Bool, share: float, price: float | None
) -> tuple[Quota, ...]:
    """One quota a project, so that newcomers hold at least a share of its demanded seats.

    The share is rounded down, and never asks for more seats than newcomers are eligible for, so
    that a project without newcomers is not made infeasible by a wish.

    Shapes: newcomers (experts,) bool.
    Units: share from 0 to 1; price in units of value a missing seat, None for a hard quota.
    Raises: ProblemInvalid.
    """
    if newcomers.shape != (problem.experts,):
        _refuse("newcomers", None, f"has shape {newcomers.shape}, not ({problem.experts},)")
    if not 0 <= share <= 1:
        _refuse("share", None, "is not between 0 and 1")
    project = problem.task_project()
    seats = np.bincount(project, problem.demand, problem.projects)
    on = newcomers[problem.expert]
    reach = np.bincount(problem.task[on], minlength=problem.tasks)
    most = np.bincount(project, np.minimum(reach, problem.demand), problem.projects)
    members = np.flatnonzero(newcomers).astype(np.int32)
    wanted = np.minimum(np.floor(share * seats + 1e-9), most).astype(np.int64)
    return tuple(
        Quota(project=int(at), members=members, at_least=int(n), price=price, name="newcomers")
        for at, n in enumerate(wanted.tolist())
        if n > 0
    )


def _refuse(array: str, index: int | None, reason: str) -> NoReturn:
    raise ProblemInvalid(array, index, reason)


def _column(name: str, given: object, size: int | None) -> NDArray[np.generic]:
    values: NDArray[np.generic] = np.asarray(given)
    if values.ndim != 1:
        _refuse(name, None, f"has {values.ndim} dimensions, not one")
    if size is not None and len(values) != size:
        _refuse(name, None, f"has {len(values)} entries, not {max(size, 0)}")
    return values


def _whole(
    name: str,
    given: object,
    kind: type[np.int32] | type[np.int64],
    size: int | None,
    *,
    below: int | None = None,
    per: int = 1,
) -> NDArray[np.signedinteger]:
    values = _column(name, given, size)
    if len(values) and values.dtype.kind not in "iu":
        _refuse(name, None, f"holds {values.dtype}, not whole numbers")
    top = int(np.iinfo(kind).max) if below is None else below - 1
    # Unsigned numbers beyond int64 would wrap round to negative ones, and are refused as such.
    whole = values.astype(np.int64, copy=False)
    if len(whole) and (int(whole.min()) < 0 or int(whole.max()) > top):
        at = int(np.flatnonzero((whole < 0) | (whole > top))[0])
        said = "is negative" if whole[at] < 0 else f"is above {top}"
        _refuse(name, at // per, f"{int(whole[at])} {said}")
    return whole.astype(kind, copy=False)


def _real(name: str, given: object, size: int, *, low: float, high: float) -> Float64:
    values = _column(name, given, size)
    if len(values) and values.dtype.kind not in "iuf":
        _refuse(name, None, f"holds {values.dtype}, not numbers")
    real = values.astype(np.float64, copy=False)
    # One comparison refuses NaN and infinity as well, for NaN is in no range.
    inside = (real >= low) & (real <= high)
    if not inside.all():
        at = int(np.flatnonzero(~inside)[0])
        _refuse(name, at, f"{real[at]} is not a number from {low:g} to {high:g}")
    return real


def _hashes(given: object, size: int) -> UInt64:
    values = _column("tie_break", given, size)
    if len(values) and values.dtype != np.uint64:
        _refuse("tie_break", None, f"holds {values.dtype}, not uint64")
    return values.astype(np.uint64, copy=False)
