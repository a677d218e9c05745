"""How a matching run is asked for, begins, ends, and what it leaves: offers and open seats."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Uuid, bindparam, func, insert, select, text
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, change_state, emit
from market.experts.queries import tiers_of
from market.explanations.actions import keep_snapshot
from market.explanations.rules import Recorded, margins, parts_of, why_chosen, why_open
from market.offers.actions import make_offers
from market.offers.models import Offer
from market.offers.rules import (
    LIVE,
    RECORDING,
    ProjectNotLive,
    Terms,
    reservation_key,
    terms_digest,
)
from market.operations import Operation, cancel_operation, end_operation, open_operation
from market.policies.queries import default_policy, policy
from market.projects.models import Project
from market.projects.queries import project
from market.runs.models import MatchingRun, OpenSeat
from market.runs.queries import room_of, run, taken_pairs
from market.runs.rules import (
    ENDED,
    RUN,
    Candidates,
    ProjectFacts,
    SeedOutOfRange,
    Weighed,
    id_at,
    worst_costs,
)
from market.tasks.models import Task
from matching.assignment import Assignment
from matching.problem import Problem
from payouts.chart import owed_to, platform_fee, project_budget
from payouts.errors import FloorBreached
from payouts.ledger import Line, reserve
from payouts.pay import pay_minor

_RECORD_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 7))")

_FREE_SLOTS = text(
    """
    select s.id, s.task_id from market.task_slot s
    join market.task t on t.id = s.task_id and t.state in ('queued', 'active')
    join market.project p on p.id = t.project_id and p.state = 'live'
    where s.task_id = any(:tasks) and s.state = 'open'
    order by s.task_id, s.number for no key update of s skip locked
    """
).bindparams(bindparam("tasks", type_=ARRAY(Uuid())))


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a run saw, what the matcher made of it, and how long each stage took.

    Units: seconds by stage.
    """

    candidates: Candidates
    problem: Problem
    weighed: Weighed
    assignment: Assignment
    digest: str
    seconds: Mapping[str, float]


def request_run(
    session: Session,
    *,
    project_id: UUID | None = None,
    policy_id: UUID | None = None,
    seed: int | None = None,
    requested_by: UUID | None = None,
    at: datetime,
) -> tuple[MatchingRun, Operation]:
    """Ask for a run over one project or all live ones; a job does it.

    It obeys the policy named, else the project's own, else the default. Without a seed it takes one
    from its own id, and keeps it.

    Raises:
        ProjectNotFound, ProjectNotLive, PolicyNotFound, SeedOutOfRange.
    """
    if seed is not None and not 0 <= seed < 2**63:
        raise SeedOutOfRange(seed)
    organisation_id = None
    if project_id is not None:
        named = project(session, project_id)
        if named.state != "live":
            raise ProjectNotLive(named.state)
        organisation_id, policy_id = named.organisation_id, policy_id or named.policy_id
    obeyed = policy(session, policy_id or default_policy(session).policy_id)
    run_id = new_id()
    wanted = MatchingRun(
        id=run_id,
        policy_id=obeyed.id,
        seed=run_id.int % 2**31 if seed is None else seed,
        requested_at=at,
        requested_by=requested_by,
        organisation_id=organisation_id,
        project_id=project_id,
    )
    session.add(wanted)
    session.flush()
    operation = open_operation(
        session, "matching_run", wanted.id, at=at, organisation_id=organisation_id
    )
    emit(
        session,
        Event.RUN_REQUESTED,
        wanted.id,
        at=at,
        organisation_id=organisation_id,
        actor_id=requested_by,
    )
    return wanted, operation


def start_run(session: Session, run_id: UUID, *, at: datetime) -> MatchingRun | None:
    """Begin a run, or begin again one that died half way; none, when it is over.

    Raises:
        RunNotFound.
    """
    found = run(session, run_id, locked=True)
    if found.state in ENDED:
        return None
    if found.state == "pending":
        found.started_at = at
        change_state(session, RUN, found, "start", at=at)
    return found


def cancel_run(
    session: Session, run_id: UUID, *, at: datetime, actor_id: UUID | None = None
) -> MatchingRun:
    """Stop a run; it leaves no offers. Cancelling twice changes nothing.

    Raises:
        RunNotFound, StateConflict: it has ended otherwise.
    """
    found = run(session, run_id, locked=True)
    if found.state == "cancelled":
        return found
    RUN.target(found.state, "cancel")
    found.ended_at = at
    change_state(session, RUN, found, "cancel", at=at, event=Event.RUN_FINISHED, actor_id=actor_id)
    cancel_operation(session, run_id, at=at)
    return found


def fail_run(session: Session, run_id: UUID, *, code: str, detail: str, at: datetime) -> None:
    """Say that a run cannot be done; one that has ended stays as it ended.

    Raises:
        RunNotFound.
    """
    found = run(session, run_id, locked=True)
    if found.state in ENDED:
        return
    found.ended_at = at
    found.failure = detail
    change_state(session, RUN, found, "fail", at=at, event=Event.RUN_FINISHED, reason_code=code)
    end_operation(session, run_id, at=at, problem={"code": code, "detail": detail})


def record_run(session: Session, run_id: UUID, answer: Answer, *, at: datetime) -> int:
    """Make the offers that a run chose, as far as seats, experts and money are still there; how
    many it made. A run that is over, or was cancelled, makes none.

    Runs record one at a time, so that what two of them chose together breaks no limit of an expert.

    Raises:
        RunNotFound.
    """
    found = run(session, run_id, locked=True)
    if found.state != "running":
        return 0
    session.execute(_RECORD_ONE_AT_A_TIME, {"name": RECORDING})
    left: Counter[tuple[int, str]] = Counter()
    drafts = _drafts(session, answer, left, at=at)
    offers = _reserved(session, found, answer, drafts, left, at=at)
    make_offers(session, offers, at=at)
    open_tasks = answer.assignment.open_seats
    for task, seats, rule in zip(
        open_tasks.task.tolist(), open_tasks.seats.tolist(), open_tasks.rule, strict=True
    ):
        left[task, rule] += seats
    _write_open_seats(session, found, answer, left)
    seen = answer.candidates
    kept = Recorded(
        seen.task_ids, seen.expert_ids, answer.problem, answer.weighed.value, answer.assignment
    )
    keep_snapshot(session, run_id, kept)
    found.input_digest = answer.digest
    found.tasks, found.experts = answer.problem.tasks, answer.problem.experts
    found.pairs, found.offers = answer.problem.pairs, len(offers)
    found.open_seats = sum(left.values())
    found.objective, found.bound = answer.assignment.objective, answer.assignment.bound
    found.gap = answer.assignment.gap
    found.seconds = dict(answer.seconds)
    found.ended_at = at
    change_state(session, RUN, found, "finish", at=at, event=Event.RUN_FINISHED)
    result: Json = {
        "offers": found.offers,
        "open_seats": found.open_seats,
        "objective": found.objective,
        "gap": found.gap,
    }
    end_operation(session, run_id, at=at, result=result)
    return len(offers)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A chosen pair and the slot that it gets."""

    pair: int
    nth: int
    task: int
    task_id: UUID
    expert_id: UUID
    slot_id: UUID
    project: ProjectFacts


def _drafts(
    session: Session, answer: Answer, left: Counter[tuple[int, str]], *, at: datetime
) -> list[_Draft]:
    seen, chosen = answer.candidates, answer.assignment.chosen
    pairs = [
        (nth, pair, int(seen.pair_task[pair]), int(seen.pair_expert[pair]))
        for nth, pair in enumerate(chosen.tolist())
    ]
    task_id = {task: id_at(seen.task_ids, task) for _, _, task, _ in pairs}
    expert_id = {expert: id_at(seen.expert_ids, expert) for _, _, _, expert in pairs}
    free: dict[UUID, list[UUID]] = {}
    for row in session.execute(_FREE_SLOTS, {"tasks": list(task_id.values())}):
        free.setdefault(row.task_id, []).append(row.id)
    room = room_of(session, list(expert_id.values()), at=at)
    taken = taken_pairs(session, list(task_id.values()))
    drafts = []
    for nth, pair, task, expert in pairs:
        who, what = expert_id[expert], task_id[task]
        seconds = int(seen.task_expected_s[task])
        seats, time_s = room.get(who, (0, 0))
        if not free.get(what) or seats < 1 or time_s < seconds or (what, who) in taken:
            left[task, "taken"] += 1
            continue
        room[who] = (seats - 1, time_s - seconds)
        slot = free[what].pop(0)
        facts = seen.projects[int(seen.task_project[task])]
        drafts.append(_Draft(pair, nth, task, what, who, slot, facts))
    return drafts


def _reserved(
    session: Session,
    found: MatchingRun,
    answer: Answer,
    drafts: Sequence[_Draft],
    left: Counter[tuple[int, str]],
    *,
    at: datetime,
) -> list[Offer]:
    if not drafts:
        return []
    told = _Told(session, answer.candidates, drafts, at=at)
    rate, top = answer.candidates.pair_rates()
    margin = margins(answer.problem, answer.assignment, answer.assignment.chosen)
    value = answer.problem.value
    # The most valuable first, so that a budget that falls short goes to them.
    ranked = sorted(drafts, key=lambda draft: (-value[draft.pair], draft.pair))
    pairs = np.array([draft.pair for draft in ranked])
    seats = np.arange(len(ranked))
    most_pay, most_fee = worst_costs([draft.project for draft in ranked], seats, top[pairs])
    offers = []
    for draft, pay, fee in zip(ranked, most_pay.tolist(), most_fee.tolist(), strict=True):
        facts, offer_id = draft.project, new_id()
        escrow = project_budget(facts.id, facts.organisation_id, facts.currency)
        lines = [Line(escrow, owed_to(draft.expert_id, facts.currency), pay)]
        if fee:
            lines.append(Line(escrow, platform_fee(facts.currency), fee))
        try:
            reserve(
                session, key=reservation_key(offer_id), kind="J3", lines=lines, at=at, memo="offer"
            )
        except FloorBreached:
            left[draft.task, "budget"] += 1
            continue
        terms = told.terms(draft, int(rate[draft.pair]), pay, at=at).to_dict()
        worth, parts = float(value[draft.pair]), parts_of(answer.weighed.value, draft.pair)
        offers.append(
            Offer(
                id=offer_id,
                organisation_id=facts.organisation_id,
                project_id=facts.id,
                task_id=draft.task_id,
                slot_id=draft.slot_id,
                expert_id=draft.expert_id,
                run_id=found.id,
                value=worth,
                parts=parts,
                explanation=why_chosen(worth, parts, float(margin[draft.nth])),
                probability=float(answer.assignment.probability[draft.nth]),
                task_price=float(answer.assignment.prices.task[draft.task]),
                expert_price=float(
                    answer.assignment.prices.expert[answer.problem.expert[draft.pair]]
                ),
                terms=terms,
                terms_digest=terms_digest(terms),
                currency=facts.currency,
                expected_s=int(answer.candidates.task_expected_s[draft.task]),
                reserved_minor=pay + fee,
                created_at=at,
                expires_at=at + timedelta(seconds=facts.offer_ttl_s),
            )
        )
    return offers


class _Told:
    """What terms say beside the pair itself, read once for all drafts."""

    def __init__(
        self, session: Session, seen: Candidates, drafts: Sequence[_Draft], *, at: datetime
    ) -> None:
        self._seen = seen
        projects = {draft.project.id for draft in drafts}
        experts = list({draft.expert_id for draft in drafts})
        self._projects = {
            row.id: row for row in session.scalars(select(Project).where(Project.id.in_(projects)))
        }
        tasks = {draft.task_id for draft in drafts}
        named = session.execute(select(Task.id, Task.domain).where(Task.id.in_(tasks)))
        self._domains = {row.id: row.domain for row in named}
        self._tiers = tiers_of(session, experts, at)
        self._week = {
            (who, currency): (int(seconds), int(pay))
            for who, currency, seconds, pay in session.execute(
                select(
                    Offer.expert_id,
                    Offer.currency,
                    func.sum(Offer.expected_s),
                    func.sum(Offer.terms["expected_pay_minor"].as_integer()),
                )
                .where(Offer.expert_id.in_(experts), Offer.state.in_(LIVE))
                .group_by(Offer.expert_id, Offer.currency)
            )
        }
        self._open = Counter[UUID]()
        for at_project, seats in zip(
            seen.task_project.tolist(), seen.task_seats.tolist(), strict=True
        ):
            self._open[seen.projects[at_project].id] += seats

    def terms(self, draft: _Draft, rate: int, most_pay_minor: int, *, at: datetime) -> Terms:
        """The terms of one offer; its expert's week grows by it."""
        facts, named = draft.project, self._projects[draft.project.id]
        expected_s = int(self._seen.task_expected_s[draft.task])
        expected_pay = pay_minor(min(expected_s, facts.cap_s), rate)
        week = (draft.expert_id, facts.currency)
        seconds, pay = self._week.get(week, (0, 0))
        self._week[week] = (seconds + expected_s, pay + expected_pay)
        of_tier = facts.rate_minor_per_hour is None
        return Terms(
            project_id=str(named.id),
            project_name=named.name,
            project_version=named.version,
            round=named.round,
            domain=self._domains[draft.task_id],
            complexity=int(self._seen.task_complexity[draft.task]),
            currency=facts.currency,
            rate_minor_per_hour=rate,
            rate_from="tier" if of_tier else "project",
            tier=self._tiers.get(draft.expert_id) if of_tier else None,
            cap_s=facts.cap_s,
            fee_basis_points=facts.fee_basis_points,
            expected_s=expected_s,
            expected_pay_minor=expected_pay,
            most_pay_minor=most_pay_minor,
            expected_week_s=seconds + expected_s,
            expected_week_pay_minor=pay + expected_pay,
            open_seats=self._open[named.id],
            review_within_s=named.review_ttl_s,
            reviews_per_submission=named.reviews_per_submission,
            work_ttl_s=facts.work_ttl_s,
            binding_at=at.isoformat(),
            pay_basis="deliverable" if facts.tops_up else "hourly",
            deliverable_minor=named.deliverable_minor,
            attempt_fee_minor=named.attempt_fee_minor,
            attempt_fees_max=named.attempt_fees_max,
            weekly_cap_s=named.weekly_cap_s,
        )


def _write_open_seats(
    session: Session, found: MatchingRun, answer: Answer, left: Counter[tuple[int, str]]
) -> None:
    seen = answer.candidates
    rows = []
    for (task, rule), seats in sorted(left.items()):
        facts = seen.projects[int(seen.task_project[task])]
        rows.append(
            {
                "id": new_id(),
                "run_id": found.id,
                "task_id": id_at(seen.task_ids, task),
                "organisation_id": facts.organisation_id,
                "project_id": facts.id,
                "seats": seats,
                "rule": rule,
                "sentence": why_open(rule, seats, int(seen.task_seats[task])),
            }
        )
    if rows:
        session.execute(insert(OpenSeat), rows)
