"""Reads of who could take what now: pairs are found and checked by the database, and come as one
binary stream; nothing is done in Python for a single pair.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from market.availability.queries import Openings
from market.candidates.rules import Candidates, ProjectFacts, id_at
from market.columns import Columns
from market.experiments.queries import raises_for
from market.experiments.rules import Raise
from market.explanations.rules import Ids
from market.policies.rules import RunPolicy
from market.shortlists.queries import HELD_SEATS, MET, PAIRS, WORDS, make_shortlists
from market.shortlists.rules import TELLING_WORDS, shared_words
from matching.problem import Float64, Int32, Int64
from payouts.chart import project_budget
from payouts.ledger import balances


def candidates(
    session: Session,
    policy: RunPolicy,
    *,
    project_id: UUID | None,
    at: datetime,
    tasks: Sequence[UUID] | None = None,
    experts: Sequence[UUID] | None = None,
    with_filled: bool = False,
) -> Candidates:
    """Who could take what now, in all live projects or in one of them; of some tasks or experts
    alone, where they are given; of tasks without an open seat too, if wished.

    A task whose domain few experts meet has all of them as candidates. Another has those who said
    that they want it, the best by measured skill, the nearest by what their profiles say, and some
    in turn: never every task with every expert.
    """
    found = make_shortlists(
        session,
        policy,
        project_id=project_id,
        at=at,
        tasks=tasks,
        experts=experts,
        with_filled=with_filled,
    )
    projects = _project_facts(session, at)
    tasks_seen = Columns(
        session,
        "select t.id, t.project_n, t.seats, t.expected_s,"
        " t.value_weight * coalesce(k.priority, 1), t.complexity, t.age_h, t.domain_n,"
        " t.model_n"
        " from run_task t left join run_task_rule k on k.task_n = t.n order by t.n",
        ("id", "i4", "i4", "i8", "f8", "i4", "i4", "i4", "i4"),
    )
    experts_seen = Columns(
        session,
        "select id, capacity, hours, is_new::int, live_s from run_expert order by n",
        ("id", "i4", "f8", "i4", "i8"),
    )
    fits = Columns(
        session, "select rank, ability, nearness from run_fit order by n", ("i4", "f8", "f8")
    )
    pairs = Columns(session, PAIRS.format(**WORDS), ("i4", "i4", "i4", "f8"))
    held = Columns(session, HELD_SEATS.format(**WORDS), ("i8", "i8"))
    rates = Columns(
        session,
        "select r.expert_n, c.n, r.now, r.top from run_rate r join (select currency,"
        " (row_number() over (order by currency) - 1)::int as n"
        " from (select distinct currency from run_project)) c using (currency)",
        ("i4", "i4", "i8", "i8"),
    )
    currencies = tuple(sorted({p.currency for p in projects}))
    now = np.zeros((experts_seen.rows, len(currencies)), np.int64)
    top = now.copy()
    now[rates.int32(0), rates.int32(1)] = rates.int64(2)
    top[rates.int32(0), rates.int32(1)] = rates.int64(3)
    # The database streams pairs in the order in which it finds them.
    order = np.lexsort((pairs.int32(0), pairs.int32(1)))
    kind = {one: n for n, one in enumerate(found.kinds)}
    room = _rooms(found.opened, experts_seen.ids(0), len(found.kinds))
    of_project = np.array([kind[p.offer_ttl_s, p.work_ttl_s] for p in projects], np.int32)
    expert, task = pairs.int32(0)[order], pairs.int32(1)[order]
    holds = room[expert, of_project[tasks_seen.int32(1)[task]]] >= tasks_seen.int64(3)[task]
    order, expert, task = order[holds], expert[holds], task[holds]
    # What an expert holds already has to lie in its hours too.
    open_h = np.maximum(room.max(axis=1, initial=0) - experts_seen.int64(4), 0) / 3600.0
    named = text("select domain from run_task group by domain_n, domain order by domain_n")
    tested = text("select model_id from run_task group by model_n, model_id order by model_n")
    return Candidates(
        projects=projects,
        currencies=currencies,
        task_ids=tasks_seen.ids(0),
        task_project=tasks_seen.int32(1),
        task_seats=tasks_seen.int32(2),
        task_expected_s=tasks_seen.int64(3),
        task_weight=tasks_seen.float64(4),
        task_complexity=tasks_seen.int32(5),
        task_age_h=np.maximum(tasks_seen.int32(6), 0),
        task_domain=tasks_seen.int32(7),
        domains=tuple(session.scalars(named)),
        task_model=tasks_seen.int32(8),
        models=tuple(session.scalars(tested)),
        expert_ids=experts_seen.ids(0),
        expert_capacity=experts_seen.int32(1),
        expert_hours=np.minimum(experts_seen.float64(2), open_h),
        expert_is_new=experts_seen.int32(3) > 0,
        rate_now=now,
        rate_top=top,
        fit_level=fits.int32(0),
        fit_ability=fits.float64(1),
        fit_nearness=fits.float64(2),
        pair_expert=expert,
        pair_task=task,
        pair_fit=pairs.int32(2)[order],
        pair_interest=pairs.float64(3)[order],
        pair_likeness=_likeness(session, task, expert, tasks_seen.rows),
        held_key=held.int64(0),
        held_seats=held.int64(1),
        met=int(session.scalar(text(MET)) or 0),
    )


def _rooms(opened: Openings, ids: Ids, kinds: int) -> Int64:
    """How much work each kind of offer can ask of each expert; a year of who keeps no hours.

    Shapes: (experts, kinds).
    Units: seconds.
    """
    room = np.full((len(ids), kinds), 366 * 24 * 3600, np.int64)
    if opened.room_s:
        for n in range(len(ids)):
            found = opened.room_s.get(id_at(ids, n))
            if found is not None:
                room[n] = found
    return room


def _likeness(session: Session, task: Int32, expert: Int32, tasks: int) -> Float64:
    """How much of what a task's words tell is in a profile: of eight words, or of all if fewer.

    Shapes: task, expert, and what is returned (pairs,).
    """
    said = Columns(session, "select task_n, word_n::int from run_said", ("i4", "i4"))
    if not said.rows:
        return np.full(len(task), np.nan)
    told = np.bincount(said.int32(0), minlength=tasks)
    held = Columns(session, "select expert_n, word_n::int from run_word", ("i4", "i4"))
    shared = shared_words(
        task, expert, (said.int32(0), said.int32(1)), (held.int32(0), held.int32(1))
    )
    asked = np.minimum(told[task], TELLING_WORDS)
    likeness: Float64 = np.minimum(shared / np.maximum(asked, 1), 1.0)
    return np.where(asked == 0, np.nan, likeness)


def _project_facts(session: Session, at: datetime) -> tuple[ProjectFacts, ...]:
    rows = session.execute(text("select * from run_project order by n")).all()
    escrows = [project_budget(row.id, row.organisation_id, row.currency) for row in rows]
    free = balances(session, escrows)
    raises = raises_for(session, [row.id for row in rows], at=at)
    facts = []
    for row, escrow in zip(rows, escrows, strict=True):
        tried = raises.get(row.id, Raise(0, ()))
        one = ProjectFacts(
            id=row.id,
            organisation_id=row.organisation_id,
            currency=row.currency,
            rate_minor_per_hour=row.rate,
            cap_s=row.cap_s,
            fee_basis_points=row.fee_basis_points,
            offer_ttl_s=row.offer_ttl_s,
            work_ttl_s=row.work_ttl_s,
            tops_up=row.pay_basis == "deliverable",
            free_minor=max(free[escrow].available_minor, 0),
            seats=row.seats,
            raise_basis_points=tried.basis_points,
            trials=tried.arms,
        )
        facts.append(
            one.paying(
                deliverable_minor=row.deliverable,
                attempt_fee_minor=row.attempt_fee,
                attempt_fees_max=row.attempt_fees_max,
                impact_bonus_minor=row.impact_bonus,
                overtime_basis_points=row.overtime,
            )
        )
    return tuple(facts)
