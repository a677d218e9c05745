"""Reads of what forecasts rest on: who could take work, what there is to do, and past pace."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from market.availability.queries import openings
from market.db import first_id
from market.eligibility.queries import eligibilities_of, steps_of, widening_of
from market.eligibility.rules import FIRST_STEP
from market.experts.rules import DOMAINS_MEET, EXPERT_FIELDS, LEVELS, LIMITED, WORKING
from market.explanations.queries import LEVEL_RANK, listed, recorded
from market.explanations.rules import open_seat_told, task_price
from market.expressions.queries import explained
from market.filters import compiled
from market.forecasts.rules import LOOKED_BACK_D, Interval, least_days, time_for
from market.language import Tree
from market.offers.queries import monday_before
from market.offers.rules import GONE, load_of
from market.projects.models import Project
from market.runs.models import MatchingRun
from market.tasks.models import Task
from market.tasks.queries import slot_counts
from market.tasks.rules import FILLED, OFFERABLE, OPEN, RETIRED
from payouts.pay import fee_minor, pay_minor

WORK = """
    select t.domain, t.expected_s, count(*) as seats
    from market.task t join market.task_slot s on s.task_id = t.id
    where t.project_id = :project and t.state in ({open}) and s.state not in ({ended})
    group by 1, 2
    """

# Those whom one step takes, of all who can work: by domain, level, rate and the step's expression.
POOL = """
    with pool as (
        select e.id, e.weekly_hours, coalesce(cast(:rate as bigint), (
            select r.rate_minor_per_hour from market.tier_assignment a
            join market.pay_tier r on r.name = a.tier and r.currency = :currency
            where a.expert_id = e.id and a.during @> :at and r.during @> :at)) as rate
        from market.expert e
        where e.state in ({working}) and {condition}
            and exists (select from market.expert_domain d
                join unnest(cast(:domains as text[])) w (domain) on {meets}
                where d.expert_id = e.id and {level} >= :minimum_rank and not {limited})
            and not exists (select from market.membership m
                where m.person_id = e.id and m.organisation_id = :organisation)
    )
    {wanted}
    """

COUNT = """
    select count(*) as experts, coalesce(sum(weekly_hours), 0)::bigint as weekly_hours,
        min(rate) as lowest, max(rate) as highest, avg(rate)::float8 as mean
    from pool where rate is not null
    """

# What was handed in, day by day: on the project itself, and by the pool on all projects.
PACE = """
    select floor(extract(epoch from cast(:at as timestamptz) - o.ended_at) / 86400)::int as day,
        o.project_id = :project as is_own, o.expert_id, count(*) as done
    from market.offer o join pool on pool.id = o.expert_id join market.task w on w.id = o.task_id
    where o.state = 'completed' and o.ended_at > :since and o.ended_at <= :at
        and exists (select from unnest(cast(:domains as text[])) d (domain) where {meets})
    group by 1, 2, 3
    """

OFFERED = """
    with mine as (select domain from market.expert_domain where expert_id = :expert),
    peers as (
        select count(distinct d.expert_id) as experts from market.expert_domain d
        join market.expert e on e.id = d.expert_id and e.state in ({working})
        where exists (select from mine w where {peer_meets})
    )
    select floor(extract(epoch from cast(:at as timestamptz) - o.created_at) / 86400)::int as day,
        count(*) as offers, (select experts from peers) as experts
    from market.offer o join market.task t on t.id = o.task_id
    where o.id > :floor and o.created_at > :since and o.created_at <= :at
        and exists (select from mine w where {task_meets})
    group by 1
    """

_WORK = text(WORK.format(open=listed((*OPEN, "held")), ended=listed((*FILLED, *RETIRED))))

_OFFERED = text(
    OFFERED.format(
        working=listed(WORKING),
        peer_meets=DOMAINS_MEET.format(one="w.domain", other="d.domain"),
        task_meets=DOMAINS_MEET.format(one="w.domain", other="t.domain"),
    )
).bindparams(bindparam("floor", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class StepForecast:
    """Whom one step takes, and what an hour of them costs.

    Units: `starts_after_s` seconds from the launch, if nobody claims before; hours a week; minor
        units an hour.
    """

    expression: str | None
    starts_after_s: int
    experts: int
    weekly_hours: int
    rate_lowest: int | None
    rate_mean: float | None
    rate_highest: int | None
    costliest: str | None


@dataclass(frozen=True, slots=True)
class Pace:
    """The record that a forecast of time rests on: answers of which kind, how many, by how many.

    `daily` begins with the oldest day.
    """

    kind: str
    daily: tuple[int, ...]
    answers: int
    experts: int


@dataclass(frozen=True, slots=True)
class ProjectForecast:
    """What is to be expected of a project as it stands now.

    Units: seconds of expected work; money in minor units of `currency`, with the fee.
    """

    seats: int
    work_s: int
    steps: tuple[StepForecast, ...]
    pace: Pace | None
    finish: Interval | None
    least_d: float | None
    currency: str
    expected_minor: int | None
    lowest_minor: int | None
    highest_minor: int | None


# Each count is of those whom the conditions before leave; closed hours are counted outside.
CHAIN = """
    with met as (
        select e.*, (select max({level}) from market.expert_domain d
                where d.expert_id = e.id and {meets}) as rank,
            {condition} as is_taken_in, {limited} as is_limited,
            exists (select from market.offer f where f.task_id = t.id and f.expert_id = e.id
                and f.state not in ({gone})) as has_had_it,
            exists (select from market.membership m where m.person_id = e.id
                and m.organisation_id = t.organisation_id) as is_member,
            exists (select from market.interest i
                where i.task_id = t.id and i.expert_id = e.id) as wants_it
        from market.task t cross join market.expert e
        where t.id = :task and e.state in ({working})
            and exists (select from market.expert_domain d where d.expert_id = e.id and {meets})
    ), staged as (
        select case
            when met.rank < :minimum_rank or met.is_limited then 1
            when not met.is_taken_in then 2
            when coalesce(cast(:rate as bigint), (
                select r.rate_minor_per_hour from market.tier_assignment a
                join market.pay_tier r on r.name = a.tier and r.currency = :currency
                where a.expert_id = met.id and a.during @> :at and r.during @> :at)) is null then 3
            when met.has_had_it or met.is_member then 4
            when :require_interest and not met.wants_it then 5
            when met.id = any(:closed) then 6
            when pace.at_once <= o.seats
                or met.weekly_hours * 3600 - o.seconds < :expected_s then 7
            else 8 end as stage
        from met {load}
    )
    select stage, count(*) as experts from staged group by 1
    """

STAGES = (
    ("domain", "no working expert has a domain that meets the task's"),
    ("level", "no expert has shown the domain at the level asked for, without a limit in it"),
    ("eligibility", "nobody fulfils the step of eligibility that the task is at"),
    ("rate", "no rate is in force for those who would fit"),
    ("had_before", "all who fit have had the task before"),
    ("interest", "nobody who fits has said that it wants the task"),
    ("hours", "the open hours of those who fit do not hold the work before it would be due"),
    ("capacity", "those who fit hold all the work that they can this week"),
)
"""What leaves out experts, in turn, and the words where it leaves nobody."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a task waits: the rule that binds it, and how many experts each condition leaves.

    The last run's part is None before a run has looked. Units: `price` in units of value.
    """

    open_seats: int
    offers_out: int
    rule: str
    sentence: str
    left: tuple[tuple[str, int], ...]
    run_id: UUID | None = None
    run_rule: str | None = None
    run_sentence: str | None = None
    run_candidates: int | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """When an expert's next offer may come, and the offers that this rests on."""

    offers: int
    experts: int
    interval: Interval


def project_forecast(session: Session, found: Project, *, at: datetime) -> ProjectForecast:
    """Who could do a project, how long it takes at the pace recorded, and what it costs.

    Runs as the platform, since it counts experts whom a lab cannot see.
    """
    rows = session.execute(_WORK, {"project": found.id}).all()
    domains = sorted({row.domain for row in rows}) or sorted(found.domains)
    eligibility = eligibilities_of(session, [found.id]).get(found.id)
    read = [] if eligibility is None else steps_of(eligibility)
    asked: list[tuple[str | None, Tree | None, int]] = [
        (one.expression.source, one.expression.tree, one.after_s or 0) for one in read
    ] or [(None, None, 0)]
    steps, starts = [], 0
    for source, tree, after_s in asked:
        steps.append(_step(session, found, domains, source, tree, starts, at))
        starts += after_s
    seats = sum(int(row.seats) for row in rows)
    work_s = sum(int(row.seats) * min(row.expected_s, found.cap_s) for row in rows)
    pace = _pace(session, found, domains, asked[-1][1], at)
    last = steps[-1]
    least_d = least_days(work_s, last.weekly_hours)
    costs = [
        _cost(found, [(row.expected_s, int(row.seats)) for row in rows], rate)
        for rate in (last.rate_lowest, last.rate_mean, last.rate_highest)
    ]
    return ProjectForecast(
        seats=seats,
        work_s=work_s,
        steps=tuple(steps),
        pace=pace,
        finish=None if pace is None else time_for(seats, pace.daily, least_d=least_d or 0.0),
        least_d=least_d,
        currency=found.currency,
        lowest_minor=costs[0],
        expected_minor=costs[1],
        highest_minor=costs[2],
    )


def waiting(session: Session, wanted: Task, *, at: datetime) -> Waiting:
    """Why nobody works on a task, or not enough do. Runs as the platform, as `project_forecast`."""
    found = session.get_one(Project, wanted.project_id)
    slots = slot_counts(session, [wanted.id])[wanted.id]
    open_seats, out = slots.get("open", 0), slots.get("offered", 0)
    left = _left(session, found, wanted, at)
    last = session.execute(
        select(MatchingRun.id)
        .where(
            MatchingRun.state == "succeeded",
            (MatchingRun.project_id == found.id) | MatchingRun.project_id.is_(None),
        )
        .order_by(MatchingRun.id.desc())
        .limit(1)
    ).scalar()
    file = None if last is None else recorded(session, last)
    told = None if file is None else open_seat_told(file, wanted.id)
    nobody = next((n for n, (_, experts) in enumerate(left) if not experts), None)
    if found.state != "live":
        rule, words = "project", f"the project is {found.state}"
    elif wanted.state not in OFFERABLE:
        rule, words = "task", f"the task is {wanted.state}"
    elif not open_seats:
        rule = "offered" if out else "filled"
        words = f"{out} offers wait for an answer" if out else "every seat has its expert"
    elif nobody is not None:
        rule, words = STAGES[nobody]
    else:
        rule, words = "next_run", f"{left[-1][1]} experts fit; the next run decides who gets it"
    return Waiting(
        open_seats=open_seats,
        offers_out=out,
        rule=rule,
        sentence=words,
        left=left,
        run_id=None if told is None else last,
        run_rule=None if told is None else told.rule,
        run_sentence=None if told is None else told.sentence,
        run_candidates=None if told is None else told.candidates,
        price=None if file is None else task_price(file, wanted.id),
    )


def _left(
    session: Session, found: Project, wanted: Task, at: datetime
) -> tuple[tuple[str, int], ...]:
    eligibility = eligibilities_of(session, [found.id]).get(found.id)
    made = None
    if eligibility is not None:
        timer = widening_of(session, wanted.id, eligibility.id)
        step = steps_of(eligibility)[(FIRST_STEP if timer is None else timer.step) - FIRST_STEP]
        made = compiled(step.expression.tree, EXPERT_FIELDS, row="e", at=at)
    kind = (found.offer_ttl_s, found.work_ttl_s)
    statement = CHAIN.format(
        level=LEVEL_RANK.format(column="d.level"),
        meets=DOMAINS_MEET.format(one="t.domain", other="d.domain"),
        condition="true" if made is None else f"({made.sql})",
        limited=LIMITED.format(expert="e.id", domain="t.domain"),
        gone=listed(GONE),
        load=load_of("met"),
        working=listed(WORKING),
    )
    rows = session.execute(
        text(statement).bindparams(bindparam("closed", type_=ARRAY(Uuid()))),
        {
            **({} if made is None else made.values),
            "task": wanted.id,
            "minimum_rank": LEVELS.index(found.minimum_level) + 1,
            "rate": found.rate_minor_per_hour,
            "currency": found.currency,
            "require_interest": found.require_interest,
            "expected_s": wanted.expected_s,
            "closed": openings(session, [kind], least_s=wanted.expected_s, at=at).closed,
            "at": at,
            "monday": monday_before(at),
        },
    )
    stages = {int(row.stage): int(row.experts) for row in rows}
    return tuple(
        (name, sum(count for stage, count in stages.items() if stage > n))
        for n, (name, _) in enumerate(STAGES)
    )


def next_offer(session: Session, expert_id: UUID, *, at: datetime) -> Wait | None:
    """When the next offer may come to an expert, at the pace at which work of its domains was
    offered to all who share them; None where none was. Runs as the platform.
    """
    since = at - timedelta(days=LOOKED_BACK_D)
    rows = session.execute(
        _OFFERED, {"expert": expert_id, "at": at, "since": since, "floor": first_id(since)}
    ).all()
    if not rows:
        return None
    daily = _by_day([(row.day, row.offers) for row in rows])
    experts = max(int(rows[0].experts), 1)
    # One in so many offers is this expert's, if all are as likely to get it.
    interval = time_for(1, daily, share=1 / experts)
    return None if interval is None else Wait(sum(daily), experts, interval)


def _step(
    session: Session,
    found: Project,
    domains: Sequence[str],
    source: str | None,
    tree: Tree | None,
    starts_after_s: int,
    at: datetime,
) -> StepForecast:
    row = _pooled(session, found, domains, tree, at, COUNT)[0]
    costly = None
    if tree is not None:
        counts = explained(session, tree, at=at)
        most = max(counts.conditions, key=lambda one: one.found_without, default=None)
        costly = most.written if most is not None and most.found_without > 0 else None
    return StepForecast(
        expression=source,
        starts_after_s=starts_after_s,
        experts=int(row.experts),
        weekly_hours=int(row.weekly_hours),
        rate_lowest=row.lowest,
        rate_mean=row.mean,
        rate_highest=row.highest,
        costliest=costly,
    )


def _pace(
    session: Session, found: Project, domains: Sequence[str], tree: Tree | None, at: datetime
) -> Pace | None:
    rows = _pooled(session, found, domains, tree, at, PACE)
    own = [row for row in rows if row.is_own]
    # A project that is under way is its own best witness.
    for kind, of in (("project", own), ("pool", rows)):
        if of:
            daily = _by_day([(row.day, row.done) for row in of])
            return Pace(kind, daily, sum(daily), len({row.expert_id for row in of}))
    return None


def _pooled(
    session: Session,
    found: Project,
    domains: Sequence[str],
    tree: Tree | None,
    at: datetime,
    wanted: str,
) -> list[Any]:
    made = None if tree is None else compiled(tree, EXPERT_FIELDS, row="e", at=at)
    values: dict[str, object] = {} if made is None else dict(made.values)
    statement = POOL.format(
        working=listed(WORKING),
        condition="true" if made is None else made.sql,
        meets=DOMAINS_MEET.format(one="w.domain", other="d.domain"),
        level=LEVEL_RANK.format(column="d.level"),
        limited=LIMITED.format(expert="e.id", domain="w.domain"),
        wanted=wanted.format(meets=DOMAINS_MEET.format(one="w.domain", other="d.domain")),
    )
    values |= {
        "project": found.id,
        "organisation": found.organisation_id,
        "rate": found.rate_minor_per_hour,
        "currency": found.currency,
        "domains": list(domains),
        "minimum_rank": LEVELS.index(found.minimum_level) + 1,
        "at": at,
        "since": at - timedelta(days=LOOKED_BACK_D),
    }
    return list(session.execute(text(statement), values).all())


def _by_day(counted: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    daily = [0] * LOOKED_BACK_D
    for day, count in counted:
        daily[LOOKED_BACK_D - 1 - min(max(int(day), 0), LOOKED_BACK_D - 1)] += int(count)
    return tuple(daily)


def _cost(found: Project, work: Sequence[tuple[int, int]], rate: float | None) -> int | None:
    if rate is None:
        return None
    total = 0
    for expected_s, seats in work:
        pay = pay_minor(min(expected_s, found.cap_s), round(rate))
        fixed = found.deliverable_minor or 0
        pay = max(pay, fixed) if found.pay_basis == "deliverable" else pay + fixed
        total += seats * (pay + fee_minor(pay, found.fee_basis_points))
    return total
