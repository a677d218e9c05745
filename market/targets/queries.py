"""Reads of service targets, of what they are held against, and of how queues go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from market.db import first_id
from market.targets.models import ServiceTarget, TargetMiss
from market.targets.rules import (
    FEWEST,
    QUALITY_WINDOW,
    QUEUE_WINDOW,
    SPEED_WINDOW,
    BurnPoint,
    Goal,
    Seen,
    at_most,
    burn_down,
    share_seen,
    volume_seen,
)
from market.verdicts.rules import REVIEWED

# What waits counts with the time it has waited so far, or a halt would look like speed.
_SPEED = text(
    """
    select percentile_cont(0.5) within group (order by extract(epoch from
            coalesce(v.decided_at, :at) - s.submitted_at))::float8 as value, count(*) as cases
    from market.submission s left join market.verdict v on v.submission_id = s.id
    where s.project_id = :project_id and s.submitted_at <= :at
        and (v.decided_at > :since or (v.submission_id is null
            and s.state in ('awaiting_review', 'in_review')))
    """
)

_ACCEPTED = text(
    """
    select count(*) from market.verdict
    where project_id = :project_id and is_accepted and decided_at <= :at
    """
)

_QUALITY = text(
    """
    select count(*) filter (where is_accepted) as accepted, count(*) as reviewed
    from market.verdict where project_id = :project_id and basis = any(:reviewed)
        and decided_at > :since and decided_at <= :at
    """
)

_BY_DAY = text(
    """
    select date_bin('1 day', decided_at, :since) as day, count(*) as accepted
    from market.verdict where project_id = :project_id and is_accepted
        and decided_at >= :since and decided_at <= :at
    group by 1 order by 1
    """
)

_SEATS_WAITING = """
    select t.domain, count(*) as waiting,
        max(extract(epoch from :at - t.created_at))::float8 as oldest,
        percentile_cont(0.5) within group (order by extract(epoch from :at - t.created_at)) as half,
        percentile_cont(0.9) within group (order by extract(epoch from :at - t.created_at)) as most
    from market.task_slot s join market.task t on t.id = s.task_id
    join market.project p on p.id = t.project_id
    where s.state = 'open' and t.state in ('queued', 'active') and p.state = 'live'
    group by t.domain
"""

_SEATS_FLOW = """
    select t.domain, count(*) filter (where o.state <> 'pending') as asked,
        count(o.accepted_at) as taken, count(*) filter (where o.state = 'timed_out') as expired,
        percentile_cont(0.5) within group (order by extract(epoch from o.accepted_at
            - t.created_at)) filter (where o.accepted_at is not null) as half,
        percentile_cont(0.9) within group (order by extract(epoch from o.accepted_at
            - t.created_at)) filter (where o.accepted_at is not null) as most
    from market.offer o join market.task t on t.id = o.task_id
    where o.id > :floor and o.created_at > :since and o.created_at <= :at
    group by t.domain
"""

_REVIEWS_WAITING = """
    select t.domain, count(*) as waiting,
        max(extract(epoch from :at - r.queued_at))::float8 as oldest,
        percentile_cont(0.5) within group (order by extract(epoch from :at - r.queued_at)) as half,
        percentile_cont(0.9) within group (order by extract(epoch from :at - r.queued_at)) as most
    from market.review r join market.submission s on s.id = r.submission_id
    join market.task t on t.id = s.task_id
    where r.state = 'queued' group by t.domain
"""

_REVIEWS_FLOW = """
    select t.domain, count(*) filter (where r.state not in ('queued', 'claimed', 'in_progress'))
            as asked,
        count(r.voted_at) as taken, count(*) filter (where r.state = 'expired') as expired,
        percentile_cont(0.5) within group (order by extract(epoch from r.claimed_at - r.queued_at))
            filter (where r.claimed_at is not null) as half,
        percentile_cont(0.9) within group (order by extract(epoch from r.claimed_at - r.queued_at))
            filter (where r.claimed_at is not null) as most
    from market.review r join market.submission s on s.id = r.submission_id
    join market.task t on t.id = s.task_id
    where r.queued_at > :since and r.queued_at <= :at
    group by t.domain
"""

_WAITING = {"seats": text(_SEATS_WAITING), "reviews": text(_REVIEWS_WAITING)}
_FLOW = {
    "seats": text(_SEATS_FLOW).bindparams(bindparam("floor", type_=Uuid())),
    "reviews": text(_REVIEWS_FLOW),
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a queue now. Units: seconds since the task came in, or the review was asked."""

    count: int
    oldest_s: float
    half_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through a queue: asked for and over, taken, run out; how long the taken waited.

    Units: seconds, the middle and nine tenths.
    """

    asked: int = 0
    taken: int = 0
    expired: int = 0
    half_s: float | None = None
    most_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """One queue in one domain: now, lately, and since the beginning."""

    queue: str
    domain: str
    now: Waiting
    lately: Flow
    ever: Flow


def targets(session: Session, *, project_id: UUID | None = None) -> Sequence[ServiceTarget]:
    """The targets in force that the caller may see: of a project, or of all queues."""
    statement = select(ServiceTarget).where(ServiceTarget.ended_at.is_(None))
    if project_id is None:
        statement = statement.where(ServiceTarget.queue.is_not(None))
    else:
        statement = statement.where(ServiceTarget.project_id == project_id)
    return session.scalars(statement.order_by(ServiceTarget.id)).all()


def watched_targets(session: Session) -> list[UUID]:
    """Targets to look at: those of queues, and of projects on which anything can still happen."""
    rows = session.execute(
        text(
            """
            select t.id from market.service_target t
            left join market.project p on p.id = t.project_id
            where t.ended_at is null and (p.id is null or p.state in ('live', 'paused', 'draining'))
            order by t.id
            """
        ).columns(ServiceTarget.id)
    )
    return [row.id for row in rows]


def goal_of(target: ServiceTarget) -> Goal:
    """What a target wants."""
    return Goal(target.kind, target.goal, target.due_at)


def accepted_answers(session: Session, project_id: UUID, *, at: datetime) -> int:
    """Accepted answers of a project until a time."""
    return int(session.scalar(_ACCEPTED, {"project_id": project_id, "at": at}) or 0)


def seen(session: Session, target: ServiceTarget, *, at: datetime) -> Seen:
    """How a target stands. Of a queue's, runs as the platform."""
    goal = goal_of(target)
    if target.project_id is None:
        return _seen_of_queue(session, target, goal, at=at)
    given = {"project_id": target.project_id, "at": at}
    if target.kind == "speed":
        row = session.execute(_SPEED, {**given, "since": at - SPEED_WINDOW}).one()
        return at_most(goal, row.value, row.cases, fewest=FEWEST)
    if target.kind == "volume":
        done = accepted_answers(session, target.project_id, at=at) - target.baseline
        return volume_seen(goal, done, since=target.set_at, at=at)
    window = {**given, "since": at - QUALITY_WINDOW, "reviewed": list(REVIEWED)}
    row = session.execute(_QUALITY, window).one()
    return share_seen(goal, row.accepted, row.reviewed)


def _seen_of_queue(session: Session, target: ServiceTarget, goal: Goal, *, at: datetime) -> Seen:
    queue = str(target.queue)
    if target.kind == "age":
        rows = [
            row
            for row in session.execute(_WAITING[queue], {"at": at})
            if target.domain in (None, row.domain)
        ]
        oldest = max((float(row.oldest) for row in rows), default=None)
        return at_most(goal, oldest, sum(row.waiting for row in rows))
    found = [
        flow
        for domain, flow in _flows(session, queue, since=at - QUEUE_WINDOW, at=at).items()
        if target.domain in (None, domain)
    ]
    if target.kind == "wait":
        longest = max((one.most_s for one in found if one.most_s is not None), default=None)
        return at_most(goal, longest, sum(one.taken for one in found), fewest=FEWEST)
    asked = sum(one.asked for one in found)
    if target.kind == "acceptance":
        return share_seen(goal, min(asked, sum(one.taken for one in found)), asked)
    return share_seen(goal, sum(one.expired for one in found), asked, is_most=True)


def burned(session: Session, target: ServiceTarget, *, at: datetime) -> list[BurnPoint]:
    """What was left of a volume, day by day since it was set."""
    given = {"project_id": target.project_id, "since": target.set_at, "at": at}
    days = [(row.day, int(row.accepted)) for row in session.execute(_BY_DAY, given)]
    return burn_down(goal_of(target), days, since=target.set_at, at=at)


def misses(session: Session, target_ids: Sequence[UUID]) -> list[TargetMiss]:
    """The times that some targets were missed, the latest first."""
    return list(
        session.scalars(
            select(TargetMiss)
            .where(TargetMiss.target_id.in_(target_ids))
            .order_by(TargetMiss.opened_at.desc(), TargetMiss.id.desc())
            .limit(100)
        )
    )


def pools(session: Session, *, at: datetime, days: int) -> list[Pool]:
    """How every queue goes, domain by domain. Runs as the platform."""
    found: list[Pool] = []
    nothing = Waiting(0, 0.0, 0.0, 0.0)
    began = datetime(1970, 1, 1, tzinfo=at.tzinfo)
    for queue, statement in _WAITING.items():
        waiting = {
            row.domain: Waiting(row.waiting, row.oldest, float(row.half), float(row.most))
            for row in session.execute(statement, {"at": at})
        }
        lately = _flows(session, queue, since=at - timedelta(days=days), at=at)
        ever = _flows(session, queue, since=began, at=at)
        found += [
            Pool(
                queue,
                domain,
                waiting.get(domain, nothing),
                lately.get(domain, Flow()),
                ever.get(domain, Flow()),
            )
            for domain in sorted(waiting.keys() | ever.keys())
        ]
    return found


def _flows(session: Session, queue: str, *, since: datetime, at: datetime) -> dict[str, Flow]:
    return {
        row.domain: Flow(
            row.asked,
            row.taken,
            row.expired,
            None if row.half is None else float(row.half),
            None if row.most is None else float(row.most),
        )
        for row in session.execute(
            _FLOW[queue], {"since": since, "at": at, "floor": first_id(since)}
        )
    }
