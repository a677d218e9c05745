"""Reads of what runs saw, and of what keeps an expert from a task now."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Uuid, select, text
from sqlalchemy.orm import Session

from market.availability.queries import calendar_of
from market.availability.rules import Calendar, room_s
from market.eligibility.queries import eligibilities_of, steps_of, widening_of
from market.eligibility.rules import FIRST_STEP
from market.experts.queries import Pace
from market.experts.rules import DOMAINS_MEET, LEVELS, LIMITED, WORKING
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
from market.offers.rules import GONE, load_of

LEVEL_RANK = (
    "case {column} "
    + " ".join(f"when '{level}' then {rank}" for rank, level in enumerate(LEVELS, 1))
    + " end"
)


def listed(states: tuple[str, ...]) -> str:
    """Words as a list in SQL; they are ours, and hold no quote."""
    return ", ".join(f"'{state}'" for state in states)


def _some(offers: int) -> str:
    return "1 offer" if offers == 1 else f"{offers} offers"


STANDS = """
    select p.id as project_id, p.state as project_state, t.state as task_state, e.state as standing,
        e.max_concurrent, pace.missed, pace.at_once, e.weekly_hours,
        {minimum_level} as minimum_level,
        (select count(*) from market.task_slot s where s.task_id = t.id and s.state = 'open')
            as open_seats,
        o.seats, o.seconds / 3600.0 as hours, p.offer_ttl_s, p.work_ttl_s, t.expected_s,
        {limited} as is_limited,
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
    join market.expert e on e.id = :expert {load}
    where t.id = :task
    """

_STANDS = text(
    STANDS.format(
        load=load_of("e"),
        gone=listed(GONE),
        level=LEVEL_RANK.format(column="d.level"),
        minimum_level=LEVEL_RANK.format(column="p.minimum_level"),
        meets=DOMAINS_MEET.format(one="t.domain", other="d.domain"),
        limited=LIMITED.format(expert="e.id", domain="t.domain"),
    )
)


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A live project that would take an expert but for one condition, and how many of its tasks.

    `until` is when the condition passes by itself, where it is known.
    """

    project_id: UUID
    name: str
    tasks: int
    code: str
    detail: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Availability:
    """How much open work fits an expert, and why none is offered: codes with their words; and the
    projects that only one condition keeps away. `pace` is how many tasks it may hold, and why.
    """

    pace: Pace
    fitting_tasks: int
    reasons: tuple[tuple[str, str], ...]
    near_misses: tuple[NearMiss, ...]


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
    calendar = calendar_of(session, expert_id) or Calendar()
    open_s = room_s(calendar, at, offer_ttl_s=row.offer_ttl_s, work_ttl_s=row.work_ttl_s)
    rules = (
        (row.project_state != "live", f"the project is {row.project_state}"),
        (row.task_state not in ("queued", "active"), f"the task is {row.task_state}"),
        (row.open_seats == 0, "the task has no open seat"),
        (row.standing not in WORKING, f"the expert's standing is {row.standing}"),
        (row.seats >= row.max_concurrent, "the expert holds all the tasks it can"),
        (
            row.at_once <= row.seats < row.max_concurrent,
            f"the expert left {_some(row.missed)} without an answer, and may hold {row.at_once} at"
            " once until it answers its next",
        ),
        (row.hours >= row.weekly_hours, "the expert has no hours left this week"),
        (
            open_s < row.expected_s,
            f"the expert's hours leave {open_s / 3600:.1f} of the {row.expected_s / 3600:.1f} hours"
            " that the task takes",
        ),
        (row.is_limited, "the expert's standing is limited in the task's domain"),
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
    with seen as (
        select t.id, p.id as project_id, p.name, p.offer_ttl_s, p.work_ttl_s, t.expected_s,
            {minimum_level} as minimum_level,
            coalesce(p.rate_minor_per_hour, (
                select r.rate_minor_per_hour from market.tier_assignment a
                join market.pay_tier r on r.name = a.tier and r.currency = p.currency
                where a.expert_id = :expert and a.during @> :at and r.during @> :at)) is not null
                as has_rate,
            (select max({level}) from market.expert_domain d
             where d.expert_id = :expert and {meets}) as level,
            {limited} as is_limited,
            exists (select from market.expert_domain d where d.expert_id = :expert
                and split_part(d.domain, '.', 1) = split_part(t.domain, '.', 1)) as is_related,
            exists (select from market.offer f where f.task_id = t.id
                and f.expert_id = :expert and f.state not in ({gone})) as is_taken,
            p.require_interest and not exists (select from market.interest i
                where i.task_id = t.id and i.expert_id = :expert) as wants_interest
        from market.task t join market.project p on p.id = t.project_id
        where p.state = 'live' and t.state in ('queued', 'active')
            and exists (select from market.task_slot s
                where s.task_id = t.id and s.state = 'open')
            and not exists (select from market.membership m
                where m.person_id = :expert and m.organisation_id = p.organisation_id)
    )
    select s.project_id, s.name, s.offer_ttl_s, s.work_ttl_s, g.id as eligibility_id,
        coalesce(w.step, 1) as step, s.has_rate, s.level is not null as in_domain,
        coalesce(s.level >= s.minimum_level, false) as at_level, s.is_limited, s.is_related,
        s.is_taken, s.wants_interest, count(*) as tasks, min(s.expected_s) as least_s,
        min(w.due_at) as widens_at
    from seen s
    left join (select distinct on (project_id) project_id, id from market.eligibility
          order by project_id, version desc) g on g.project_id = s.project_id
    left join market.widening w on w.task_id = s.id and w.eligibility_id = g.id
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 order by 1, 6
    """

HOLDS = """
    select e.state as standing, e.max_concurrent, e.weekly_hours, e.opens_at, o.seats,
        o.seconds / 3600.0 as hours, pace.missed, pace.at_once,
        (select min(m.until) from market.measure m where m.expert_id = e.id
            and m.step = 'limit' and m.ended_at is null) as limited_until
    from market.expert e {load} where e.id = :expert
    """

_OPEN_FOR = text(
    OPEN_FOR.format(
        gone=listed(GONE),
        level=LEVEL_RANK.format(column="d.level"),
        minimum_level=LEVEL_RANK.format(column="p.minimum_level"),
        meets=DOMAINS_MEET.format(one="t.domain", other="d.domain"),
        limited=LIMITED.format(expert=":expert", domain="t.domain"),
    )
).columns(project_id=Uuid(), eligibility_id=Uuid())

_HOLDS = text(HOLDS.format(load=load_of("e")))

MOST_NEAR = 50
"""Projects that one answer names as near misses, those with the most tasks first."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Open tasks of a project that stand alike to an expert, and what keeps them away: codes with
    their words and, where it is known, when they pass. `stage` counts what is passed on the way
    from a domain that meets to a condition of the project's own. Tasks of another trade than any of
    the expert's are not related, and no near miss.
    """

    project_id: UUID
    name: str
    tasks: int
    stage: int
    is_related: bool
    bars: tuple[tuple[str, str, datetime | None], ...]


def _groups(session: Session, expert_id: UUID, held: Row[Any], at: datetime) -> list[_Group]:
    rows = session.execute(_OPEN_FOR, {"expert": expert_id, "at": at}).all()
    eligibilities = eligibilities_of(session, list({row.project_id for row in rows}))
    calendar = calendar_of(session, expert_id) or Calendar()
    asked: dict[tuple[UUID, int], list[str]] = {}
    found = []
    for row in rows:
        open_s = room_s(calendar, at, offer_ttl_s=row.offer_ttl_s, work_ttl_s=row.work_ttl_s)
        steps = steps_of(eligibilities[row.project_id]) if row.eligibility_id else []
        step = (row.project_id, row.step)
        if steps and step not in asked:
            tree = steps[row.step - FIRST_STEP].expression.tree
            people = explained_people(session, tree, [expert_id], at=at)
            asked[step] = [condition for one in people for condition, _ in one.conditions]
        chain = (
            (not row.in_domain, "no_domain_match", "none of your domains meets its tasks", None),
            (
                row.in_domain and row.is_limited,
                "domain_limited",
                "your standing is limited in the domain",
                held.limited_until,
            ),
            (
                row.in_domain and not row.at_level,
                "level_not_shown",
                "it asks for a level that you have not shown yet",
                None,
            ),
            (row.is_taken, "all_had_before", "you have had its tasks before", None),
            (
                row.wants_interest,
                "interest_needed",
                "its tasks go to experts who said that they want them",
                None,
            ),
            (not row.has_rate, "no_rate", "no pay tier of yours pays in its currency", None),
            (
                open_s < row.least_s,
                "outside_hours",
                f"your hours leave {open_s / 3600:.1f} of the {row.least_s / 3600:.1f} hours that"
                " a task takes",
                held.opens_at,
            ),
        )
        bars = [(code, words, until) for holds, code, words, until in chain if holds]
        stage = next((n for n, (holds, *_) in enumerate(chain) if holds), len(chain))
        bars += [
            ("not_eligible", f"you do not fulfil {condition}", row.widens_at)
            for condition in asked.get(step, ())
        ]
        found.append(
            _Group(row.project_id, row.name, row.tasks, stage, row.is_related, tuple(bars))
        )
    return found


def _near_misses(
    groups: Sequence[_Group], own: Sequence[tuple[str, str, datetime | None]]
) -> tuple[NearMiss, ...]:
    best: dict[UUID, _Group] = {}
    for group in sorted(groups, key=lambda one: (len(one.bars), -one.tasks)):
        best.setdefault(group.project_id, group)
    found = [
        NearMiss(group.project_id, group.name, group.tasks, *(*own, *group.bars)[0])
        for group in best.values()
        if len(own) + len(group.bars) == 1 and group.is_related
    ]
    return tuple(sorted(found, key=lambda one: (-one.tasks, one.project_id))[:MOST_NEAR])


def work_for(session: Session, expert_id: UUID, *, at: datetime) -> Availability | None:
    """How much open work fits an expert now, every reason why none is offered, and the projects
    that one condition keeps away; None for a person without an expert's profile.

    Runs as the platform, since it counts work that the expert may not see.
    """
    row = session.execute(_HOLDS, {"expert": expert_id, "monday": monday_before(at)}).one_or_none()
    if row is None:
        return None
    groups = _groups(session, expert_id, row, at)
    # How many tasks pass each stage: the first counts all, the last those that fit but for what
    # the project's own expression asks.
    passed = [sum(one.tasks for one in groups if one.stage >= stage) for stage in range(8)]
    fitting = sum(one.tasks for one in groups if not one.bars)
    conditions = Counter[str]()
    for one in groups:
        for _code, words, _until in one.bars if one.stage == 7 else ():
            conditions[words.removeprefix("you do not fulfil ")] += one.tasks
    told = "; ".join(f"{condition} for {tasks}" for condition, tasks in conditions.items())
    next_monday = monday_before(at) + timedelta(days=7)
    own = (
        (row.standing not in WORKING, "standing", f"your standing is {row.standing}", None),
        (
            row.at_once <= row.seats < row.max_concurrent,
            "paced",
            f"you left {_some(row.missed)} without an answer, and may hold {row.at_once} at once"
            " for now; answer your next offer, yes or no, and you may hold"
            f" {row.max_concurrent} again",
            None,
        ),
        (
            row.seats >= row.max_concurrent,
            "at_capacity",
            f"you hold {row.seats} tasks, which is as many as your profile allows",
            None,
        ),
        (
            row.hours >= row.weekly_hours,
            "no_hours_left",
            f"your {row.weekly_hours} hours of this week are taken",
            next_monday if row.weekly_hours else None,
        ),
    )
    opens = f"; they open at {row.opens_at:%Y-%m-%dT%H:%M:%SZ}" if row.opens_at else ""
    stages = (
        (passed[0] == 0, "no_open_task", "no live project has an open seat"),
        (
            passed[0] > 0 and passed[1] == 0,
            "no_domain_match",
            f"{passed[0]} tasks are open, none in your domains",
        ),
        (
            passed[1] > 0 and passed[2] == 0,
            "domain_limited",
            f"your standing is limited in the domains of the {passed[1]} open tasks of yours",
        ),
        (
            passed[2] > 0 and passed[3] == 0,
            "level_not_shown",
            f"{passed[2]} open tasks of your domains ask for a level that is not shown yet",
        ),
        (
            passed[3] > 0 and passed[4] == 0,
            "all_had_before",
            f"you have had all {passed[3]} open tasks that fit you",
        ),
        (
            passed[4] > 0 and passed[5] == 0,
            "interest_needed",
            f"{passed[4]} open tasks go to experts who said that they want them",
        ),
        (
            passed[5] > 0 and passed[6] == 0,
            "no_rate",
            f"no pay tier of yours pays in the currency of the {passed[5]} open tasks",
        ),
        (
            passed[6] > 0 and passed[7] == 0,
            "outside_hours",
            f"{passed[6]} open tasks need more time than your hours leave{opens}",
        ),
        (
            passed[7] > 0 and fitting == 0,
            "not_eligible",
            f"{passed[7]} open tasks take other experts for now; you do not fulfil {told}",
        ),
    )
    mine = [(code, words, until) for holds, code, words, until in own if holds]
    reasons = tuple((code, words) for code, words, _ in mine)
    reasons += tuple((code, words) for holds, code, words in stages if holds)
    if not reasons:
        words = f"{fitting} open tasks fit you; the next matching run decides who gets them"
        reasons = (("next_run", words),)
    pace = Pace(row.missed, row.at_once)
    return Availability(pace, fitting, reasons, _near_misses(groups, mine))
