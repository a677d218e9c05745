"""Reads of what runs saw, and of what keeps an expert from a task now."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import TextClause, Uuid, select, text
from sqlalchemy.orm import Session

from market.eligibility.queries import eligibilities_of, steps_of, widening_of
from market.eligibility.rules import FIRST_STEP
from market.experts.rules import DOMAINS_MEET, LEVELS, WORKING
from market.explanations.models import RunSnapshot
from market.explanations.rules import (
    Recorded,
    RunNotOver,
    RunPrices,
    prices_in,
    unpacked,
)
from market.expressions.queries import explained_people
from market.offers.queries import monday_before
from market.offers.rules import GONE, LIVE

LEVEL_RANK = (
    "case {column} "
    + " ".join(f"when '{level}' then {rank}" for rank, level in enumerate(LEVELS, 1))
    + " end"
)


def listed(states: tuple[str, ...]) -> str:
    """Words as a list in SQL; they are ours, and hold no quote."""
    return ", ".join(f"'{state}'" for state in states)


STANDS = """
    select p.id as project_id, p.state as project_state, t.state as task_state, e.state as standing,
        e.max_concurrent, e.weekly_hours, {minimum_level} as minimum_level,
        (select count(*) from market.task_slot s where s.task_id = t.id and s.state = 'open')
            as open_seats,
        o.seats, o.hours,
        (select max({level}) from market.expert_domain d
         where d.expert_id = e.id and {meets}) as level,
        coalesce(p.rate_minor_per_hour, (
            select r.rate_minor_per_hour from market.tier_assignment a
            join market.pay_tier r on r.name = a.tier and r.currency = p.currency
            where a.expert_id = e.id and a.during @> :at and r.during @> :at)) as rate,
        exists (select from market.offer o where o.task_id = t.id and o.expert_id = e.id
            and o.state not in ({gone})) as is_taken,
        exists (select from market.membership m where m.person_id = e.id
            and m.organisation_id = p.organisation_id) as is_member,
        p.require_interest and not exists (select from market.interest i
            where i.task_id = t.id and i.expert_id = e.id) as wants_interest
    from market.task t
    join market.project p on p.id = t.project_id
    join market.expert e on e.id = :expert
    cross join lateral (
        select count(*) filter (where state in ({live})) as seats,
            coalesce(sum(expected_s) filter (where state in ({live})
                or (state = 'completed' and ended_at >= :monday)), 0) / 3600.0 as hours
        from market.offer where expert_id = e.id
    ) o
    where t.id = :task
    """

_STANDS = text(
    STANDS.format(
        live=listed(LIVE),
        gone=listed(GONE),
        level=LEVEL_RANK.format(column="d.level"),
        minimum_level=LEVEL_RANK.format(column="p.minimum_level"),
        meets=DOMAINS_MEET.format(one="t.domain", other="d.domain"),
    )
)


@dataclass(frozen=True, slots=True)
class Availability:
    """How much open work fits an expert, and why none is offered: codes with their words."""

    fitting_tasks: int
    reasons: tuple[tuple[str, str], ...]


def recorded(session: Session, run_id: UUID) -> Recorded:
    """What a run that succeeded saw and answered.

    Raises:
        RunNotOver.
    """
    file = session.scalar(select(RunSnapshot.arrays).where(RunSnapshot.run_id == run_id))
    if file is None:
        raise RunNotOver()
    return unpacked(file)


def prices_of(session: Session, run_id: UUID) -> RunPrices | None:
    """What a run paid for money and time; none, where that was not kept."""
    file = session.scalar(select(RunSnapshot.arrays).where(RunSnapshot.run_id == run_id))
    return None if file is None else prices_in(file)


def hindrances(
    session: Session, task_id: UUID, expert_id: UUID, *, at: datetime
) -> list[str] | None:
    """The conditions that keep an expert from being offered a task now, in words; none of either
    may be unknown, in which case there is no answer.
    """
    row = session.execute(
        _STANDS, {"task": task_id, "expert": expert_id, "at": at, "monday": monday_before(at)}
    ).one_or_none()
    if row is None:
        return None
    rules = (
        (row.project_state != "live", f"the project is {row.project_state}"),
        (row.task_state not in ("queued", "active"), f"the task is {row.task_state}"),
        (row.open_seats == 0, "the task has no open seat"),
        (row.standing not in WORKING, f"the expert's standing is {row.standing}"),
        (row.seats >= row.max_concurrent, "the expert holds all the tasks it can"),
        (row.hours >= row.weekly_hours, "the expert has no hours left this week"),
        (row.level is None, "none of the expert's domains meets the task's"),
        (
            row.level is not None and row.level < row.minimum_level,
            "the expert has not shown the domain at the level that the project asks for",
        ),
        (row.rate is None, "no rate is in force for the expert in the project's currency"),
        (row.is_taken, "the expert has had this task already"),
        (row.is_member, "the expert belongs to the lab"),
        (row.wants_interest, "the project takes experts who said that they want the task"),
    )
    return [
        *(words for holds, words in rules if holds),
        *(
            f"the project takes whoever fulfils {condition}; known is {known or 'nothing'}"
            for condition, known in _barring(session, row.project_id, task_id, expert_id, at)
        ),
    ]


def _barring(
    session: Session, project_id: UUID, task_id: UUID, expert_id: UUID, at: datetime
) -> tuple[tuple[str, str | None], ...]:
    """The conditions of a task's step of eligibility that an expert fails, and what is known."""
    found = eligibilities_of(session, [project_id]).get(project_id)
    if found is None:
        return ()
    timer = widening_of(session, task_id, found.id)
    step = steps_of(found)[(FIRST_STEP if timer is None else timer.step) - FIRST_STEP]
    people = explained_people(session, step.expression.tree, [expert_id], at=at)
    return tuple(condition for one in people for condition in one.conditions)


OPEN_FOR = """
    with open_task as (
        select t.id, t.domain, t.project_id, p.require_interest, p.organisation_id,
            {minimum_level} as minimum_level
        from market.task t join market.project p on p.id = t.project_id
        where p.state = 'live' and t.state in ('queued', 'active')
            and exists (select from market.task_slot s
                where s.task_id = t.id and s.state = 'open')
            and not exists (select from market.membership m
                where m.person_id = :expert and m.organisation_id = p.organisation_id)
    ), seen as (
        select o.*,
            (select max({level}) from market.expert_domain d
             where d.expert_id = :expert and {meets}) as level,
            exists (select from market.offer f where f.task_id = o.id
                and f.expert_id = :expert and f.state not in ({gone})) as is_taken,
            o.require_interest and not exists (select from market.interest i
                where i.task_id = o.id and i.expert_id = :expert) as wants_interest
        from open_task o
    )
    {wanted}
    """

COUNTED = """
    select e.state as standing, e.max_concurrent, e.weekly_hours,
        (select count(*) from market.offer f
            where f.expert_id = e.id and f.state in ({live})) as seats,
        (select coalesce(sum(f.expected_s), 0) / 3600.0 from market.offer f
            where f.expert_id = e.id and (f.state in ({live})
                or (f.state = 'completed' and f.ended_at >= :monday))) as hours,
        (select count(*) from seen) as open_tasks,
        (select count(*) from seen where level is not null) as in_domain,
        (select count(*) from seen where level >= minimum_level) as at_level,
        (select count(*) from seen where level >= minimum_level and not is_taken) as untried,
        (select count(*) from seen
            where level >= minimum_level and not is_taken and not wants_interest) as fitting
    from market.expert e where e.id = :expert
    """

BY_STEP = """
    select s.project_id, coalesce(w.step, 1) as step, count(*) as tasks
    from seen s
    join (select distinct on (project_id) project_id, id from market.eligibility
          order by project_id, version desc) g on g.project_id = s.project_id
    left join market.widening w on w.task_id = s.id and w.eligibility_id = g.id
    where s.level >= s.minimum_level and not s.is_taken and not s.wants_interest
    group by 1, 2 order by 1, 2
    """


def _open_for(wanted: str) -> TextClause:
    return text(
        OPEN_FOR.format(
            wanted=wanted.format(live=listed(LIVE)),
            gone=listed(GONE),
            level=LEVEL_RANK.format(column="d.level"),
            minimum_level=LEVEL_RANK.format(column="p.minimum_level"),
            meets=DOMAINS_MEET.format(one="o.domain", other="d.domain"),
        )
    )


_OPEN_FOR = _open_for(COUNTED)
_OPEN_BY_STEP = _open_for(BY_STEP)


def _barred(session: Session, expert_id: UUID, at: datetime) -> tuple[int, dict[str, int]]:
    """How many tasks that fit an expert otherwise do not take it, and how many of them for which
    condition.
    """
    barred, conditions = 0, dict[str, int]()
    rows = session.execute(_OPEN_BY_STEP.columns(project_id=Uuid()), {"expert": expert_id}).all()
    found = eligibilities_of(session, [row.project_id for row in rows])
    for row in rows:
        step = steps_of(found[row.project_id])[row.step - FIRST_STEP]
        people = explained_people(session, step.expression.tree, [expert_id], at=at)
        failed = [condition for one in people for condition, _ in one.conditions]
        barred += row.tasks if failed else 0
        for condition in failed:
            conditions[condition] = conditions.get(condition, 0) + row.tasks
    return barred, conditions


def work_for(session: Session, expert_id: UUID, *, at: datetime) -> Availability | None:
    """How much open work fits an expert now, and every reason why none is offered; None for a
    person without an expert's profile.

    Runs as the platform, since it counts work that the expert may not see.
    """
    row = session.execute(
        _OPEN_FOR, {"expert": expert_id, "monday": monday_before(at)}
    ).one_or_none()
    if row is None:
        return None
    barred, conditions = _barred(session, expert_id, at)
    told = "; ".join(f"{condition} for {tasks}" for condition, tasks in conditions.items())
    rules = (
        (row.standing not in WORKING, "standing", f"your standing is {row.standing}"),
        (
            row.seats >= row.max_concurrent,
            "at_capacity",
            f"you hold {row.seats} tasks, which is as many as your profile allows",
        ),
        (
            row.hours >= row.weekly_hours,
            "no_hours_left",
            f"your {row.weekly_hours} hours of this week are taken",
        ),
        (row.open_tasks == 0, "no_open_task", "no live project has an open seat"),
        (
            row.open_tasks > 0 and row.in_domain == 0,
            "no_domain_match",
            f"{row.open_tasks} tasks are open, none in your domains",
        ),
        (
            row.in_domain > 0 and row.at_level == 0,
            "level_not_shown",
            f"{row.in_domain} open tasks of your domains ask for a level that is not shown yet",
        ),
        (
            row.at_level > 0 and row.untried == 0,
            "all_had_before",
            f"you have had all {row.at_level} open tasks that fit you",
        ),
        (
            row.untried > 0 and row.fitting == 0,
            "interest_needed",
            f"{row.untried} open tasks go to experts who said that they want them",
        ),
        (
            row.fitting > 0 and barred == row.fitting,
            "not_eligible",
            f"{barred} open tasks take other experts for now; you do not fulfil {told}",
        ),
    )
    reasons = tuple((code, words) for holds, code, words in rules if holds)
    if not reasons:
        left = row.fitting - barred
        words = f"{left} open tasks fit you; the next matching run decides who gets them"
        reasons = (("next_run", words),)
    return Availability(fitting_tasks=int(row.fitting) - barred, reasons=reasons)
