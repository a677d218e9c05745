"""How a matching run is asked for, begins, ends, and what it leaves: offers and open seats."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from market.candidates.actions import Pick, offer_picks
from market.candidates.rules import Candidates, Weighed, id_at, project_ids
from market.db import Json, new_id
from market.events import Event, change_state, emit
from market.explanations.actions import keep_snapshot
from market.explanations.rules import (
    Facts,
    Recorded,
    RunNotOver,
    answer_digest,
    margins,
    parts_of,
    why_open,
)
from market.offers.rules import ProjectNotLive
from market.operations import Operation, cancel_operation, end_operation, open_operation
from market.policies.queries import default_policy, policy
from market.projects.queries import project
from market.runs.models import MatchingRun, OpenSeat
from market.runs.queries import is_market_run_due, run
from market.runs.rules import ENDED, RUN, SeedOutOfRange
from matching.assignment import Assignment, Prices
from matching.problem import Problem

_ONE_CLOCK = text("select pg_advisory_xact_lock(hashtextextended('match the market', 0))")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a run saw, what the matcher made of it, and how long each stage took; the prices that
    it began with, and the run that they are of.

    Units: seconds by stage.
    """

    candidates: Candidates
    problem: Problem
    weighed: Weighed
    assignment: Assignment
    digest: str
    seconds: Mapping[str, float]
    start: Prices | None = None
    warm_run_id: UUID | None = None


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


def request_due_run(session: Session, *, every: timedelta, at: datetime) -> MatchingRun | None:
    """Ask for a run over everything when the last one is this long ago; nothing otherwise."""
    # Two ticks at once ask for one run.
    session.execute(_ONE_CLOCK)
    if not is_market_run_due(session, every=every, at=at):
        return None
    wanted, _ = request_run(session, at=at)
    return wanted


def request_check(
    session: Session, run_id: UUID, *, requested_by: UUID | None = None, at: datetime
) -> Operation:
    """Ask for a run to be solved once more from what it kept; a job says whether the answer is the
    same, bit by bit. Nothing is offered by it.

    Raises:
        RunNotFound, RunNotOver.
    """
    found = run(session, run_id)
    if found.state != "succeeded" or found.answer_digest is None:
        raise RunNotOver()
    operation = open_operation(
        session, "run_check", found.id, at=at, organisation_id=found.organisation_id
    )
    emit(
        session,
        Event.RUN_CHECK_REQUESTED,
        found.id,
        at=at,
        organisation_id=found.organisation_id,
        actor_id=requested_by,
    )
    return operation


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
    left: Counter[tuple[int, str]] = Counter()
    offers = offer_picks(session, run_id, answer.candidates, _picks(answer), left, at=at)
    open_tasks = answer.assignment.open_seats
    for task, seats, rule in zip(
        open_tasks.task.tolist(), open_tasks.seats.tolist(), open_tasks.rule, strict=True
    ):
        left[task, rule] += seats
    _write_open_seats(session, found, answer, left)
    seen = answer.candidates
    facts = Facts(
        parts=answer.weighed.parts,
        said=~np.isnan(seen.pair_interest),
        newcomer=seen.expert_is_new,
        task_domain=seen.task_domain,
        domains=seen.domains,
        project_ids=project_ids(seen),
    )
    kept = Recorded(
        seen.task_ids,
        seen.expert_ids,
        answer.problem,
        answer.weighed.value,
        answer.assignment,
        facts,
        answer.start,
    )
    keep_snapshot(session, run_id, kept)
    found.input_digest, found.warm_run_id = answer.digest, answer.warm_run_id
    found.tasks, found.experts = answer.problem.tasks, answer.problem.experts
    found.pairs, found.offers = answer.problem.pairs, len(offers)
    found.open_seats = sum(left.values())
    found.objective, found.bound = answer.assignment.objective, answer.assignment.bound
    found.gap = answer.assignment.gap
    found.seconds = dict(answer.seconds)
    found.answer_digest = answer_digest(answer.assignment)
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


def _picks(answer: Answer) -> list[Pick]:
    problem, assignment = answer.problem, answer.assignment
    margin = margins(problem, assignment, assignment.chosen)
    prices = assignment.prices
    return [
        Pick(
            pair=pair,
            value=float(problem.value[pair]),
            parts=parts_of(answer.weighed.value, pair),
            probability=float(assignment.probability[nth]),
            task_price=float(prices.task[problem.task[pair]]),
            expert_price=float(prices.expert[problem.expert[pair]]),
            margin=float(margin[nth]),
        )
        for nth, pair in enumerate(assignment.chosen.tolist())
    ]


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
