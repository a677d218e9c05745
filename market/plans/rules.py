"""A plan that is kept between runs: every move written down, so that it can be made again; pure."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import numpy as np

from market.candidates.rules import Candidates, Weighed, id_at
from market.explanations.rules import Recorded
from matching.problem import MICRO, Int64, ProblemInvalid

if TYPE_CHECKING:
    pass

LEASE = "plans"
"""The lease of the process that keeps the plans."""

LEASE_S = 3.0
"""How long a keeper that says nothing any more is waited for before another takes over."""

MANY = 500
"""Arrivals at once that are left to a whole run, which finds better prices for so many."""

CHANGES_AT_ONCE = 200
"""Changes that one step answers together."""


REBUILDS, REBUILD_WITHIN = 3, timedelta(hours=1)
"""How many lost plans of one scope a new run is asked for, and within what time."""


class PlanLost(RuntimeError):
    """A kept plan that cannot go on, and has to be made anew by a run."""

    def __init__(self, run_id: UUID, reason: str) -> None:
        super().__init__(f"the plan of run {run_id} cannot go on: {reason}")
        self.run_id = run_id
        self.reason = reason


class PlanDiffers(PlanLost):
    """A plan that was made again from its steps and is not what it was."""

    def __init__(self, run_id: UUID, number: int) -> None:
        super().__init__(run_id, f"it is another one after its step {number}")
        self.number = number


class MoveRefused(PlanLost):
    """A move that does not fit what the plan has become."""

    def __init__(self, run_id: UUID, move: "Move", refusal: ProblemInvalid) -> None:
        super().__init__(run_id, f"it refuses {type(move).__name__}: {refusal}")
        self.move = move


class Accepted(msgspec.Struct, frozen=True, tag="accept"):
    """A pair has an offer, and stays."""

    pair: int


class Declined(msgspec.Struct, frozen=True, tag="decline"):
    """A pair is out of the plan: said no to, timed out, given back, or not to be offered."""

    pair: int


class Demanded(msgspec.Struct, frozen=True, tag="demand"):
    """A task asks for so many seats, those that have an offer included."""

    task: int
    seats: int


class Held(msgspec.Struct, frozen=True, tag="capacity"):
    """An expert offers so many seats, those that have an offer included."""

    expert: int
    seats: int


class Retired(msgspec.Struct, frozen=True, tag="retire"):
    """A number of an expert keeps the offers that are out, and gets nothing else."""

    expert: int


class Budgeted(msgspec.Struct, frozen=True, tag="budget"):
    """A project may spend so much in all, on pairs that have an offer included."""

    project: int
    minor: int


class TaskCame(msgspec.Struct, frozen=True, tag="task"):
    """A task arrived with its pairs; `values`, `hours` and `costs` beside `experts`."""

    id: UUID
    project: int
    seats: int
    open_seat_price: float
    experts: tuple[int, ...]
    values: tuple[float, ...]
    hours: tuple[float, ...]
    costs: tuple[int, ...]


class ExpertCame(msgspec.Struct, frozen=True, tag="expert"):
    """An expert arrived, or again with another profile; `values` and so on beside `tasks`."""

    id: UUID
    seats: int
    hours_available: float
    tasks: tuple[int, ...]
    values: tuple[float, ...]
    hours: tuple[float, ...]
    costs: tuple[int, ...]


Move = Accepted | Declined | Demanded | Held | Retired | Budgeted | TaskCame | ExpertCame


def written(moves: Sequence[Move]) -> bytes:
    """Moves as they are kept."""
    return msgspec.msgpack.encode(list(moves))


def read(kept: bytes) -> list[Move]:
    """What `written` wrote."""
    return msgspec.msgpack.decode(kept, type=list[Move])


@dataclass(frozen=True, slots=True)
class Free:
    """A pair of the plan without an offer: to be offered.

    Units: prices in units of value.
    """

    pair: int
    task_id: UUID
    expert_id: UUID
    task_price: float
    expert_price: float


class KeptPlan:
    """A plan in memory under the ids of the market, and the moves made since they were last taken.

    An offer that is out is accepted in the plan's eyes: nobody is asked to give back what was
    offered because somebody else came. An expert whose profile changed gets a new number; the old
    one keeps what it has.
    """

    def __init__(
        self,
        run_id: UUID,
        project_id: UUID | None,
        recorded: Recorded,
        projects: Sequence[UUID],
    ) -> None:
        """Take over what a run answered, with no move made yet; `projects` beside its tasks."""
        # The solver takes long to load, and only a keeper needs it.
        from matching.incremental import Plan

        self.run_id, self.project_id = run_id, project_id
        self.plan: Plan = Plan(recorded.problem, recorded.assignment)
        self.steps = 0
        self._moves: list[Move] = []
        # Whoever let an offer time out is asked again by the next run, and not at once.
        self._tried: set[tuple[UUID, UUID]] = set()
        self._task_ids = [UUID(bytes=row.tobytes()) for row in recorded.task_ids]
        self._expert_ids = [UUID(bytes=row.tobytes()) for row in recorded.expert_ids]
        self._task = {found: n for n, found in enumerate(self._task_ids)}
        self._experts: dict[UUID, list[int]] = {
            found: [n] for n, found in enumerate(self._expert_ids)
        }
        # How many tasks each number of an expert has met: it may have no pair with later ones.
        self._met = [len(self._task_ids)] * len(self._expert_ids)
        self._project = recorded.problem.task_project().tolist()
        self.projects = dict(zip(projects, self._project, strict=True))
        """Number of each project that the plan knows."""

    def make(self, move: Move) -> None:
        """Make one move, and remember it.

        Raises:
            MoveRefused.
        """
        try:
            self._do(move)
        except ProblemInvalid as refusal:
            raise MoveRefused(self.run_id, move, refusal) from refusal
        self._moves.append(move)

    def settle(self, free: Sequence[Free], out: Container[tuple[UUID, UUID]]) -> None:
        """Keep those of the free pairs that have an offer, by task and expert; give the others up.

        All offers come first: a pair that is given up lets its expert take the place of another,
        and that may not be one who has an offer.

        Raises:
            MoveRefused.
        """
        given = [(one.task_id, one.expert_id) in out for one in free]
        for kept in (True, False):
            for one, is_out in zip(free, given, strict=True):
                if is_out is kept:
                    self.make(Accepted(one.pair) if kept else Declined(one.pair))

    def _do(self, move: Move) -> None:
        plan = self.plan
        match move:
            case Accepted(pair):
                plan.accept(pair)
            case Declined(pair):
                if plan.has_accepted(pair):
                    self._tried.add(self._ids_of(pair))
                plan.decline(pair)
            case Demanded(task, seats):
                plan.set_demand(task, seats)
            case Held(expert, seats):
                plan.set_capacity(expert, seats)
            case Retired(expert):
                self._retire(expert)
            case Budgeted(project, minor):
                plan.set_budget(project, minor)
            case TaskCame():
                self._task[move.id] = len(self._task_ids)
                self._task_ids.append(move.id)
                self._project.append(move.project)
                plan.add_task(
                    np.array(move.experts, np.int32),
                    np.array(move.values),
                    demand=move.seats,
                    open_seat_price=move.open_seat_price,
                    project=move.project,
                    hours=np.array(move.hours),
                    cost=np.array(move.costs, np.int64),
                )
            case ExpertCame():
                self._experts.setdefault(move.id, []).append(len(self._expert_ids))
                self._met.append(len(self._task_ids))
                self._expert_ids.append(move.id)
                plan.add_expert(
                    np.array(move.tasks, np.int32),
                    np.array(move.values),
                    capacity=move.seats,
                    hours_available=move.hours_available,
                    hours=np.array(move.hours),
                    cost=np.array(move.costs, np.int64),
                )

    def take_moves(self) -> list[Move]:
        """The moves since they were last taken; they are one step."""
        moves, self._moves = self._moves, []
        return moves

    def again(self, moves: Iterable[Move], digest: str, number: int) -> None:
        """Make the moves of a step once more.

        Raises:
            PlanDiffers, MoveRefused.
        """
        for move in moves:
            self.make(move)
        self.take_moves()
        self.steps = number
        if self.digest() != digest:
            raise PlanDiffers(self.run_id, number)

    def digest(self) -> str:
        """A SHA-256 of who is to do what, and at which prices."""
        network = self.plan.network
        found = hashlib.sha256(self.plan.chosen().tobytes())
        found.update(np.array(self.plan.accepted, np.int64).tobytes())
        found.update(network.task_cost[: network.tasks].tobytes())
        found.update(network.expert_cost[: network.experts].tobytes())
        return found.hexdigest()

    def knows_task(self, task_id: UUID) -> bool:
        """Whether the task is in the plan."""
        return task_id in self._task

    def task(self, task_id: UUID) -> int | None:
        """The task's number."""
        return self._task.get(task_id)

    def expert(self, expert_id: UUID) -> int | None:
        """The expert's newest number."""
        numbers = self._experts.get(expert_id)
        return None if numbers is None else numbers[-1]

    def tasks_of(self, project_id: UUID) -> list[UUID]:
        """The tasks of a project that the plan knows."""
        number = self.projects.get(project_id)
        return [
            found for found, one in zip(self._task_ids, self._project, strict=True) if one == number
        ]

    def offered(self, task_id: UUID, expert_id: UUID) -> int | None:
        """The pair of an offer that is out."""
        task, numbers = self._task.get(task_id), self._experts.get(expert_id, [])
        network = self.plan.network
        for pair in self.plan.accepted:
            if network.task[pair] == task and int(network.expert[pair]) in numbers:
                return pair
        return None

    def has_met_all(self, expert_id: UUID) -> bool:
        """Whether the expert's newest number came when all tasks of the plan were there."""
        number = self.expert(expert_id)
        return number is not None and self._met[number] == len(self._task_ids) > 0

    def with_room(self, expert_id: UUID, seats: int) -> Held | None:
        """The move that gives an expert so many free seats; none, when it has them."""
        number, network = self._experts[expert_id][-1], self.plan.network
        if int(network.capacity[number]) == seats:
            return None
        mine = network.pairs_of_expert(number).tolist()
        return Held(number, seats + sum(1 for pair in mine if self.plan.has_accepted(pair)))

    def held_by_task(self) -> Int64:
        """Seats of each task that have an offer, shape (tasks,)."""
        network = self.plan.network
        return np.bincount(
            network.task[np.array(self.plan.accepted, np.int64)], minlength=network.tasks
        )

    def spent(self, project: int) -> int:
        """What the offers of a project cost at worst. Units: minor units."""
        network, cost = self.plan.network, self.plan.costs()
        return sum(
            int(cost[pair])
            for pair in self.plan.accepted
            if self._project[int(network.task[pair])] == project
        )

    def free(self) -> list[Free]:
        """Pairs that the plan has chosen and that have no offer yet."""
        network = self.plan.network
        return [
            Free(
                pair,
                self._task_ids[int(network.task[pair])],
                self._expert_ids[int(network.expert[pair])],
                -float(network.task_cost[network.task[pair]]) / MICRO,
                float(network.expert_cost[network.expert[pair]]) / MICRO,
            )
            for pair in np.flatnonzero(network.used[: network.pairs]).tolist()
        ]

    def wants_money(self, project: int, minor: int) -> bool:
        """Whether a project was short of money, and so much more reaches for another answer."""
        plan, network = self.plan, self.plan.network
        open_tasks = network.filled[: network.tasks] < network.demand[: network.tasks]
        mine = open_tasks & (np.array(self._project) == project)
        cost = plan.costs()[mine[network.task[: network.pairs]]]
        is_short = plan.budget_price(project) > 0 or any(
            self._project[int(network.task[pair])] == project for pair in plan.held_back
        )
        return is_short and bool(len(cost)) and minor >= int(cost.min())

    def expert_came(self, seen: Candidates, weighed: Weighed | None, expert: int) -> ExpertCame:
        """The arrival of an expert among candidates, with its pairs or, unweighed, without."""
        found = id_at(seen.expert_ids, expert)
        pairs = np.flatnonzero(seen.pair_expert == expert).tolist() if weighed else []
        tasks = {pair: id_at(seen.task_ids, int(seen.pair_task[pair])) for pair in pairs}
        known = {
            pair: number
            for pair, task in tasks.items()
            if (number := self.task(task)) is not None and (task, found) not in self._tried
        }
        values, hours, costs = figures(weighed, list(known))
        return ExpertCame(
            id=found,
            seats=int(seen.expert_capacity[expert]),
            hours_available=float(seen.expert_hours[expert]),
            tasks=tuple(known.values()),
            values=values,
            hours=hours,
            costs=costs,
        )

    def task_came(
        self, seen: Candidates, weighed: Weighed, task: int, open_seat_price: float
    ) -> TaskCame:
        """The arrival of a task among candidates, whose experts the plan knows."""
        pairs = np.flatnonzero(seen.pair_task == task).tolist()
        experts = (id_at(seen.expert_ids, int(seen.pair_expert[pair])) for pair in pairs)
        values, hours, costs = figures(weighed, pairs)
        return TaskCame(
            id=id_at(seen.task_ids, task),
            project=self.projects[seen.projects[int(seen.task_project[task])].id],
            seats=int(seen.task_seats[task]),
            open_seat_price=open_seat_price,
            experts=tuple(self._experts[found][-1] for found in experts),
            values=values,
            hours=hours,
            costs=costs,
        )

    def _ids_of(self, pair: int) -> tuple[UUID, UUID]:
        network = self.plan.network
        return (
            self._task_ids[int(network.task[pair])],
            self._expert_ids[int(network.expert[pair])],
        )

    def _retire(self, expert: int) -> None:
        plan, network = self.plan, self.plan.network
        accepted = set(plan.accepted)
        mine = network.pairs_of_expert(expert).tolist()
        # Its pairs are gone, so that it has met none of the tasks any more.
        self._met[expert] = 0
        plan.set_capacity(expert, sum(1 for pair in mine if pair in accepted))
        for pair in mine:
            if pair not in accepted and plan.is_eligible(pair):
                plan.decline(pair)


def figures(
    weighed: Weighed | None, pairs: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """What pairs are worth, how many hours they take and what they cost."""
    if weighed is None or weighed.problem.hours is None or weighed.problem.cost is None:
        return (), (), ()
    problem, at = weighed.problem, np.array(pairs, np.int64)
    return (
        tuple(problem.value[at].tolist()),
        tuple(weighed.problem.hours[at].tolist()),
        tuple(weighed.problem.cost[at].tolist()),
    )
