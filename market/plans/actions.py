"""How plans are kept: who may, how one begins, and how changes are answered with offers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from market.candidates.actions import Pick, offer_picks
from market.candidates.queries import candidates
from market.candidates.rules import Candidates, Weighed, asked_of, expert_ids, id_at, weigh
from market.db import new_id
from market.events import Event, EventRow
from market.experiments.queries import trial_for
from market.experts.actions import open_hours
from market.explanations.queries import recorded
from market.explanations.rules import parts_of
from market.lease import hold_lease
from market.offers.models import Offer
from market.offers.queries import room_of
from market.offers.rules import LIVE
from market.plans.models import KeptPlanRow, PlanChange, PlanStep
from market.plans.queries import (
    given_up,
    imported_subjects,
    new_tasks,
    open_plans,
    projects_of,
    standing_offers,
    steps_of,
    tasks_now,
    waiting_changes,
)
from market.plans.rules import (
    CHANGES_AT_ONCE,
    LEASE,
    LEASE_S,
    MANY,
    REBUILD_WITHIN,
    REBUILDS,
    Budgeted,
    Declined,
    Demanded,
    Free,
    KeptPlan,
    PlanLost,
    Retired,
    read,
    written,
)
from market.policies.queries import policy
from market.policies.rules import RunPolicy, read_policy
from market.predictions.queries import predictions_for
from market.projects.models import Project
from market.projects.queries import project
from market.runs.actions import request_run
from market.runs.models import MatchingRun
from matching.problem import ProblemInvalid
from payouts.chart import project_budget
from payouts.ledger import balances

KEPT = (*LIVE, "completed")
"""States of an offer in which its seat is not to be offered again."""

ROUNDS = 20
"""How often a step looks for others in the place of pairs that could not be offered."""

# Where nobody has kept plans for an hour, nothing waits for an answer.
_NOTE = text(
    """
    insert into market.plan_change (id, kind, subject_id, noted_at)
    select :id, :kind, :subject, :at from market.lease
    where name = :lease and held_until > clock_timestamp() - interval '1 hour'
    """
)

CHANGED = {
    Event.OFFER_DECLINED: "offer",
    Event.OFFER_TIMED_OUT: "offer",
    Event.OFFER_CANCELED: "offer",
    Event.OFFER_RELEASED: "offer",
    Event.OFFER_ABANDONED: "offer",
    Event.OFFER_COMPLETED: "offer",
    Event.EXPERT_CHANGED: "expert",
    Event.STANDING_CHANGED: "expert",
    Event.TASK_QUEUED: "task",
    Event.TASK_HELD: "task",
    Event.TASK_CANCELLED: "task",
    Event.PROJECT_LIVE: "project",
    Event.PROJECT_PAUSED: "project",
    Event.PROJECT_DRAINING: "project",
    Event.BUDGET_ALLOCATED: "project",
    Event.TASKS_IMPORTED: "import",
    Event.EXPERTS_IMPORTED: "import",
    Event.RUN_FINISHED: "run",
}
"""What plans answer, and what it is about."""


def keep_plans(session: Session, holder_id: UUID, fence: int) -> None:
    """Make sure that this transaction is the keeper's.

    Raises:
        LeaseTaken.
    """
    hold_lease(session, LEASE, holder_id, fence, lease_s=LEASE_S)


def note_change(session: Session, kind: str, subject_id: UUID, *, at: datetime) -> None:
    """Leave word for the keeper that something is not as it was."""
    session.execute(
        _NOTE, {"id": new_id(), "kind": kind, "subject": subject_id, "at": at, "lease": LEASE}
    )


def give_plan_up(session: Session, run_id: UUID, *, reason: str, at: datetime) -> None:
    """Close a plan that cannot go on, and leave its scope to a new run, which makes another.

    A plan that was lost while it began had closed no other, and those go on meanwhile. When plans
    of one scope are lost again and again, the next run is left to people.
    """
    lost = session.get_one(MatchingRun, run_id)
    row = {"run_id": run_id, "project_id": lost.project_id, "opened_at": at, "steps": 0}
    end = {"closed_at": at, "given_up": reason}
    session.execute(
        upsert(KeptPlanRow)
        .values(**row, **end)
        .on_conflict_do_update(index_elements=[KeptPlanRow.run_id], set_=end)
    )
    # Else it would begin once more, in the same way.
    session.execute(
        delete(PlanChange).where(PlanChange.kind == "run", PlanChange.subject_id == run_id)
    )
    if given_up(session, lost.project_id, since=at - REBUILD_WITHIN) <= REBUILDS:
        _ask_for_run(session, lost.project_id, at=at)


def _ask_for_run(session: Session, project_id: UUID | None, *, at: datetime) -> None:
    """Leave a project, or everything, to a run, unless one is on its way: what a run misses while
    it solves is looked at again when its plan begins. A project that is not live waits until it is.
    """
    if project_id is not None and project(session, project_id).state != "live":
        return
    coming = exists().where(
        MatchingRun.project_id.is_not_distinct_from(project_id),
        MatchingRun.state.in_(("pending", "running")),
    )
    if not session.scalar(select(coming)):
        request_run(session, project_id=project_id, at=at)


def note_openings(session: Session, *, at: datetime, limit: int) -> int:
    """Leave word of experts whose hours have just begun, some at most; how many they are."""
    opened = open_hours(session, at=at, limit=limit)
    for expert_id in opened:
        note_change(session, "expert", expert_id, at=at)
    return len(opened)


@dataclass(slots=True)
class Changed:
    """What has to be looked at again."""

    runs: list[UUID] = field(default_factory=list)
    offers: set[UUID] = field(default_factory=set)
    experts: set[UUID] = field(default_factory=set)
    tasks: set[UUID] = field(default_factory=set)
    projects: set[UUID] = field(default_factory=set)

    def add(self, session: Session, kind: str, subject: UUID) -> None:
        """Take one change in; an import is the subjects that came with it."""
        if kind == "run":
            self.runs.append(subject)
        elif kind == "import":
            for one, found in imported_subjects(session, subject, limit=MANY):
                self.add(session, one, found)
        else:
            {
                "offer": self.offers,
                "expert": self.experts,
                "task": self.tasks,
                "project": self.projects,
            }[kind].add(subject)


class Plans:
    """All kept plans of the market, in the memory of their keeper."""

    def __init__(self, session: Session) -> None:
        """Restore each from the run that it began with and the steps made since.

        Raises:
            PlanLost.
        """
        self._plans: dict[UUID | None, KeptPlan] = {}
        self._policies: dict[UUID, RunPolicy] = {}
        for row in open_plans(session):
            plan = self._load(session, row.run_id, row.project_id)
            for step in steps_of(session, row.run_id):
                plan.again(read(step.moves), step.digest, step.number)
            self._plans[row.project_id] = plan

    def __len__(self) -> int:
        return len(self._plans)

    def kept(self) -> list[KeptPlan]:
        """The plans."""
        return list(self._plans.values())

    def answer(self, session: Session, holder_id: UUID, fence: int, *, at: datetime) -> int:
        """Answer what waits: plans change, offers go out, and the step is written down, all in the
        caller's transaction; how many changes that were.

        When it raises, what is in memory is not what is written, and has to be restored.

        Raises:
            LeaseTaken, PlanLost.
        """
        waiting = waiting_changes(session, limit=CHANGES_AT_ONCE)
        if not waiting:
            return 0
        keep_plans(session, holder_id, fence)
        changed = Changed()
        for one in waiting:
            changed.add(session, one.kind, one.subject_id)
        for run_id in changed.runs:
            self._open(session, run_id, changed, at=at)
        for plan in self.kept():
            answering = _Answering(session, self, plan, self._policies[plan.run_id], at=at)
            answering.take(changed)
            _write_step(session, plan, fence, at=at)
        session.execute(delete(PlanChange).where(PlanChange.id.in_([one.id for one in waiting])))
        # Once more, since a step may have taken longer than the lease lasts.
        keep_plans(session, holder_id, fence)
        return len(waiting)

    def is_owner(self, plan: KeptPlan, project_id: UUID) -> bool:
        """Whether a project is this plan's: one that has a plan of its own is no other's."""
        return self._plans.get(project_id, self._plans.get(None)) is plan

    def _open(self, session: Session, run_id: UUID, changed: Changed, *, at: datetime) -> None:
        found = session.get_one(MatchingRun, run_id)
        before = self._plans.get(found.project_id, self._plans.get(None))
        # Word of a run may come again when its plan has been closed long since.
        if found.state != "succeeded" or session.get(KeptPlanRow, run_id) is not None:
            return
        if before is not None and before.run_id > run_id:
            # What it offered took seats that the later plan may count on.
            changed.projects.update(before.projects)
            return
        # A run over everything takes the place of all plans.
        gone = [
            scope for scope in self._plans if found.project_id is None or scope == found.project_id
        ]
        closed = [self._plans.pop(scope).run_id for scope in gone]
        session.execute(
            update(KeptPlanRow).where(KeptPlanRow.run_id.in_(closed)).values(closed_at=at)
        )
        session.execute(
            insert(KeptPlanRow),
            {"run_id": run_id, "project_id": found.project_id, "opened_at": at, "steps": 0},
        )
        plan = self._load(session, run_id, found.project_id)
        self._plans[found.project_id] = plan
        free = plan.free()
        stands = standing_offers(session, [(one.task_id, one.expert_id) for one in free])
        plan.settle(free, {pair for pair, state in stands.items() if state in KEPT})
        # What happened while the run was solving: its id is as old as the wish for it.
        since = session.execute(
            select(EventRow.type, EventRow.subject_id).where(
                EventRow.id > run_id, EventRow.type.in_([one.value for one in CHANGED])
            )
        )
        for kind, subject in since.all():
            if Event(kind) is not Event.RUN_FINISHED:
                changed.add(session, CHANGED[Event(kind)], subject)
        changed.projects.update(plan.projects)

    def _load(self, session: Session, run_id: UUID, project_id: UUID | None) -> KeptPlan:
        found = session.get_one(MatchingRun, run_id)
        self._policies[run_id] = read_policy(policy(session, found.policy_id).document)
        file = recorded(session, run_id)
        return KeptPlan(run_id, project_id, file, projects_of(session, file.task_ids))


@dataclass(slots=True)
class _Answering:
    """One plan's answer to what has changed."""

    session: Session
    plans: Plans
    plan: KeptPlan
    policy: RunPolicy
    at: datetime

    def take(self, changed: Changed) -> None:
        """Bring the plan to what is so now, and offer what it chooses."""
        tasks = set(changed.tasks)
        freed, paid = self._offers(changed.offers, tasks)
        arrived = self._projects(changed.projects, tasks)
        self._budgets(changed.projects | paid)
        arrived |= self._seats(tasks)
        self._experts(changed.experts | self._room(freed - changed.experts))
        self._arrivals(arrived)
        for _ in range(ROUNDS):
            if not self._offer(self.plan.free()):
                return

    def _offers(self, offers: set[UUID], tasks: set[UUID]) -> tuple[set[UUID], set[UUID]]:
        """Give up pairs whose offers have ended; the experts that have time and the projects that
        have other money by it.
        """
        rows = self.session.execute(
            select(Offer.task_id, Offer.expert_id, Offer.project_id)
            .where(Offer.id.in_(offers))
            .order_by(Offer.id)
        ).all()
        mine = [row for row in rows if row.project_id in self.plan.projects]
        stands = standing_offers(self.session, [(row.task_id, row.expert_id) for row in mine])
        for row in mine:
            pair = self.plan.offered(row.task_id, row.expert_id)
            if pair is not None and stands[row.task_id, row.expert_id] not in KEPT:
                self.plan.make(Declined(pair))
            tasks.add(row.task_id)
        # Whoever gave something back elsewhere has time for this plan's tasks.
        return {row.expert_id for row in rows}, {row.project_id for row in mine}

    def _room(self, experts: set[UUID]) -> set[UUID]:
        """Seats of experts whose offers have ended; those who have to be looked at as if they had
        come just now, since there are tasks that they have not met.
        """
        room = room_of(self.session, sorted(experts), at=self.at)
        unmet: set[UUID] = set()
        for expert_id in sorted(experts):
            seats, _ = room.get(expert_id, (0, 0))
            if seats > 0 and not self.plan.has_met_all(expert_id):
                unmet.add(expert_id)
            elif self.plan.expert(expert_id) is not None:
                move = self.plan.with_room(expert_id, max(seats, 0))
                if move is not None:
                    self.plan.make(move)
        return unmet

    def _projects(self, projects: set[UUID], tasks: set[UUID]) -> set[UUID]:
        """Tasks of projects that the plan does not know yet; `tasks` gets the others."""
        rows = self.session.execute(
            select(Project.id, Project.state).where(Project.id.in_(projects)).order_by(Project.id)
        )
        arrived: set[UUID] = set()
        for project_id, state in rows.all():
            tasks.update(self.plan.tasks_of(project_id))
            if not self.plans.is_owner(self.plan, project_id) or state != "live":
                continue
            found = new_tasks(self.session, project_id, limit=MANY)
            unknown = [one for one in found if not self.plan.knows_task(one)]
            if unknown and (project_id not in self.plan.projects or len(unknown) == MANY):
                _ask_for_run(self.session, project_id, at=self.at)
            else:
                arrived.update(unknown)
        return arrived

    def _budgets(self, projects: set[UUID]) -> None:
        """What projects can spend. Where money was short and there is more now, a run finds out
        what to do with it, since the plan's prices are those of want.
        """
        budget = self.plan.plan.limits.budget
        known = sorted(projects & set(self.plan.projects))
        if budget is None or not known:
            return
        rows = self.session.scalars(select(Project).where(Project.id.in_(known))).all()
        escrows = {
            row.id: project_budget(row.id, row.organisation_id, row.currency) for row in rows
        }
        money = balances(self.session, list(escrows.values()))
        for project_id in known:
            number = self.plan.projects[project_id]
            free = max(money[escrows[project_id]].available_minor, 0)
            whole, before = free + self.plan.spent(number), int(budget[number])
            if whole != before:
                self.plan.make(Budgeted(number, whole))
            if whole > before and self.plan.wants_money(number, whole - before):
                _ask_for_run(self.session, project_id, at=self.at)

    def _seats(self, tasks: set[UUID]) -> set[UUID]:
        """Seats of the tasks that the plan knows; tasks that it does not know yet."""
        arrived: set[UUID] = set()
        held = self.plan.held_by_task()
        for task_id, now in sorted(tasks_now(self.session, sorted(tasks)).items()):
            is_mine = self.plans.is_owner(self.plan, now.project_id)
            seats = now.seats if is_mine else 0
            number = self.plan.task(task_id)
            if number is not None:
                if int(self.plan.plan.network.demand[number]) != seats:
                    self.plan.make(Demanded(number, int(held[number]) + seats))
            elif seats and now.project_id in self.plan.projects:
                arrived.add(task_id)
            elif seats:
                # A project that is new to the market needs a plan with its budget in it.
                _ask_for_run(self.session, now.project_id, at=self.at)
        return arrived

    def _experts(self, experts: set[UUID]) -> None:
        for expert_id in sorted(experts):
            number = self.plan.expert(expert_id)
            if number is not None:
                self.plan.make(Retired(number))
        if not experts:
            return
        seen, weighed = self._weighed(experts=sorted(experts))
        for expert in range(len(seen.expert_ids)):
            self.plan.make(self.plan.expert_came(seen, weighed, expert))

    def _arrivals(self, tasks: set[UUID]) -> None:
        if not tasks:
            return
        seen, weighed = self._weighed(tasks=sorted(tasks))
        for expert in range(len(seen.expert_ids)):
            if self.plan.expert(id_at(seen.expert_ids, expert)) is None:
                self.plan.make(self.plan.expert_came(seen, None, expert))
        price = self.policy.matcher.open_seat_price
        for task in range(len(seen.task_ids)):
            self.plan.make(self.plan.task_came(seen, weighed, task, price))

    def _offer(self, free: Sequence[Free]) -> bool:
        """Offer the pairs that the plan has chosen; whether there were any."""
        if not free:
            return False
        seen, weighed = self._weighed(
            tasks=sorted({one.task_id for one in free}),
            experts=sorted({one.expert_id for one in free}),
        )
        place = {
            (id_at(seen.task_ids, task), id_at(seen.expert_ids, expert)): pair
            for pair, (task, expert) in enumerate(
                zip(seen.pair_task.tolist(), seen.pair_expert.tolist(), strict=True)
            )
        }
        picks = []
        for one in free:
            pair = place.get((one.task_id, one.expert_id))
            if pair is None:
                continue
            value = float(weighed.problem.value[pair])
            picks.append(
                Pick(
                    pair=pair,
                    value=value,
                    parts=parts_of(weighed.value, pair),
                    probability=1.0,
                    task_price=one.task_price,
                    expert_price=one.expert_price,
                    margin=value - one.task_price - one.expert_price,
                )
            )
        left: Counter[tuple[int, str]] = Counter()
        made = offer_picks(self.session, self.plan.run_id, seen, picks, left, at=self.at)
        self.plan.settle(free, {(offer.task_id, offer.expert_id) for offer in made})
        return True

    def _weighed(
        self, *, tasks: Sequence[UUID] | None = None, experts: Sequence[UUID] | None = None
    ) -> tuple[Candidates, Weighed]:
        seen = candidates(
            self.session,
            self.policy,
            project_id=self.plan.project_id,
            at=self.at,
            tasks=tasks,
            experts=experts,
            # An offer may be declined later, and then its task is looking for somebody again.
            with_filled=tasks is None,
        )
        obeyed = self.session.get_one(MatchingRun, self.plan.run_id).policy_id
        trial = trial_for(
            self.session, obeyed, self.plan.project_id, expert_ids=expert_ids(seen), at=self.at
        )
        believed = predictions_for(self.session, asked_of(seen))
        try:
            return seen, weigh(seen, believed, self.policy, seed=0, trial=trial)
        except ProblemInvalid as refusal:
            raise PlanLost(self.plan.run_id, str(refusal)) from refusal


def _write_step(session: Session, plan: KeptPlan, fence: int, *, at: datetime) -> None:
    moves = plan.take_moves()
    if not moves:
        return
    plan.steps += 1
    session.execute(
        insert(PlanStep),
        {
            "run_id": plan.run_id,
            "number": plan.steps,
            "fence": fence,
            "at": at,
            "moves": written(moves),
            "digest": plan.digest(),
        },
    )
    session.execute(
        update(KeptPlanRow).where(KeptPlanRow.run_id == plan.run_id).values(steps=plan.steps)
    )
