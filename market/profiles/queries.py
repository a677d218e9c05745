"""Reads of how people's work and votes went, and of time in stage. They run as the platform."""

from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.profiles.rules import (
    ExpertProfile,
    ModelProfile,
    Period,
    ReviewerProfile,
    Stage,
    TaskPath,
)
from market.verdicts.rules import REVIEWED, wilson

_EXPERTS = text(
    """
    with done as (
        select v.expert_id, v.is_accepted, v.is_tested, v.is_stump, s.round, t.expected_s,
            extract(epoch from v.decided_at - s.submitted_at)::float8 as waited,
            (select sum(w.paid_s + w.capped_s) from market.work_session w
                where w.offer_id = s.offer_id)::float8 as worked,
            v.version > 1 and v.is_accepted and v.basis = 'appeal' as overturned
        from market.verdict v join market.submission s on s.id = v.submission_id
        join market.task t on t.id = v.task_id
        where v.basis = any(:reviewed) and v.decided_at > :since and v.decided_at <= :until
            and (cast(:person_id as uuid) is null or v.expert_id = :person_id)
            and (cast(:domain as text) is null or t.domain = :domain)
    )
    select expert_id, count(*) as decided, count(*) filter (where is_accepted) as accepted,
        count(*) filter (where is_accepted and round = 1) as at_first,
        count(*) filter (where is_tested) as tested, count(*) filter (where is_stump) as stumps,
        avg(round)::float8 as rounds,
        percentile_cont(0.5) within group (order by worked) as median_work_s,
        (sum(worked) / nullif(sum(expected_s) filter (where worked is not null), 0))::float8
            as pace,
        percentile_cont(0.5) within group (order by waited) as median_verdict_s,
        (select count(*) from market.offer o where o.expert_id = done.expert_id
            and o.state = 'abandoned' and o.ended_at > :since and o.ended_at <= :until)
            as abandoned,
        count(*) filter (where overturned) as overturned
    from done group by expert_id order by count(*) desc, expert_id limit :most
    """
).bindparams(bindparam("person_id", type_=Uuid()))

# What was decided is read from the verdicts on work that a question went with, and never from how
# often a model was asked.
_MODELS = text(
    """
    with asked as (
        select a.target_model_id, a.state, h.state as head_state, a.judge_missed, n.*,
            v.submission_id is not null and a.state in ('verified', 'refuted', 'not_stumped')
                as is_decided
        from market.attempt a
        join market.attempt h on h.id = coalesce(a.panel_of, a.id)
        left join market.submission s on s.attempt_id = h.id
        left join market.verdict v on v.submission_id = s.id
        left join lateral (
            select count(*) as samples, sum(r.cost_minor) as cost,
                percentile_cont(0.5) within group (order by r.latency_ms) as ms
            from market.attempt_response r where r.attempt_id = a.id
        ) n on true
        where a.project_id = :project_id
    )
    select m.id, m.name, m.model, m.id = p.target_model_id as is_target,
        count(a.state) as asked, count(*) filter (where a.state = 'failed') as failed,
        count(*) filter (where a.is_decided) as decided,
        count(*) filter (where a.is_decided and a.state = 'verified') as stumps,
        count(*) filter (where a.is_decided and a.head_state = 'verified') as of_target,
        count(*) filter (where a.is_decided and a.head_state = 'verified'
            and a.state = 'verified') as shared,
        coalesce(sum(a.judge_missed), 0) as missed,
        coalesce(sum(a.samples) filter (where a.judge_missed is not null), 0) as judged,
        coalesce(sum(a.cost), 0) as cost,
        percentile_cont(0.5) within group (order by a.ms) as median_ms
    from market.project p
    join market.target_model m on m.id = p.target_model_id
        or exists (select from market.panel_model q
            where q.project_id = p.id and q.target_model_id = m.id)
        or exists (select from asked b where b.target_model_id = m.id)
    left join asked a on a.target_model_id = m.id
    where p.id = :project_id
    group by m.id, p.target_model_id
    order by m.id <> p.target_model_id, m.id
    """
).bindparams(bindparam("project_id", type_=Uuid()))

_REVIEWERS = text(
    """
    with cast_ as (
        select r.id, r.submission_id, r.reviewer_id, r.state, r.seconds,
            (r.verdict = 'reject')::int as rejects,
            (r.verdict in ('accept', 'accept_share')) = v.is_accepted as agreed
        from market.review r join market.verdict v on v.submission_id = r.submission_id
        join market.task t on t.id = v.task_id
        where r.kind = 'vote' and r.verdict <> 'rework' and r.voted_at > :since
            and r.voted_at <= :until and (cast(:domain as text) is null or t.domain = :domain)
    ), beside as (
        select c.*, (sum(rejects) over work - rejects)::float8
            / nullif(count(*) over work - 1, 0) as fellows
        from cast_ c window work as (partition by submission_id)
    )
    select reviewer_id, count(*) as votes, count(*) filter (where agreed) as agreed,
        count(*) filter (where state = 'overturned') as overturned,
        (avg(rejects) filter (where fellows is not null))::float8
            - avg(fellows) as severity,
        percentile_cont(0.5) within group (order by seconds) as median_s
    from beside where cast(:person_id as uuid) is null or reviewer_id = :person_id
    group by reviewer_id order by count(*) desc, reviewer_id limit :most
    """
).bindparams(bindparam("person_id", type_=Uuid()))

_STAYS = """
    with subject as (
        select id, 'task' as machine, id as task_id, state, created_at
        from market.task where project_id = :project_id
        union all
        select id, 'submission', task_id, state, created_at
        from market.submission where project_id = :project_id
    ), moved as (
        select s.machine, s.task_id, s.id, c.from_state as state, c.at as left_at,
            coalesce(lag(c.at) over one, s.created_at) as came_at
        from subject s join market.state_change c
            on c.subject_id = s.id and c.machine = s.machine and c.from_state <> ''
        window one as (partition by s.id order by c.id)
    ), stay as (
        select machine, task_id, state, came_at, left_at from moved
        union all
        select s.machine, s.task_id, s.state, coalesce((select max(c.at)
            from market.state_change c where c.subject_id = s.id and c.machine = s.machine),
            s.created_at), null
        from subject s
    )
"""

_STAGES = """
    {stays}
    select machine, state, count(*) as stays, count(*) filter (where left_at is null) as still,
        percentile_cont(0.5) within group (order by
            extract(epoch from coalesce(left_at, :at) - came_at))::float8 as half,
        percentile_cont(0.9) within group (order by
            extract(epoch from coalesce(left_at, :at) - came_at))::float8 as most
    from stay group by machine, state order by machine desc, state
    """

_PATHS = """
    {stays}, spent as (
        select task_id, state,
            sum(extract(epoch from coalesce(left_at, :at) - came_at))::float8 as seconds
        from stay where machine = 'task' group by task_id, state
    )
    select t.id, t.external_id, t.state,
        (select count(*) from market.submission s where s.task_id = t.id) as submissions,
        (select coalesce(sum(s.round), 0) from market.submission s
            where s.task_id = t.id) as rounds,
        (select count(*) from market.verdict v
            where v.task_id = t.id and not v.is_accepted) as rejections,
        (select jsonb_object_agg(p.state, p.seconds) from spent p
            where p.task_id = t.id) as stages
    from market.task t where t.project_id = :project_id order by t.id limit :most
    """


def expert_profiles(
    session: Session,
    over: Period,
    *,
    person_id: UUID | None = None,
    domain: str | None = None,
    limit: int = 1000,
) -> list[ExpertProfile]:
    """How the reviewed work of experts went, whoever has the most first."""
    given = {
        "reviewed": list(REVIEWED),
        "since": over.since,
        "until": over.until,
        "person_id": person_id,
        "domain": domain,
        "most": limit,
    }
    return [
        ExpertProfile(
            expert_id=row.expert_id,
            accepted=wilson(row.accepted, row.decided),
            first_pass=wilson(row.at_first, row.decided),
            stumps=wilson(row.stumps, row.tested),
            rounds=row.rounds,
            median_work_s=row.median_work_s,
            pace=row.pace,
            median_verdict_s=row.median_verdict_s,
            abandoned=row.abandoned,
            overturned=row.overturned,
        )
        for row in session.execute(_EXPERTS, given)
    ]


def model_profiles(session: Session, project_id: UUID) -> list[ModelProfile]:
    """How each model that a project's questions were put to stood up to them, the target first."""
    return [
        ModelProfile(
            target_model_id=row.id,
            name=row.name,
            model=row.model,
            is_target=bool(row.is_target),
            asked=row.asked,
            failed=row.failed,
            stumps=wilson(row.stumps, row.decided),
            shared=wilson(row.shared, row.of_target),
            judge_missed=wilson(int(row.missed), int(row.judged)),
            cost_minor=row.cost,
            median_ms=row.median_ms,
        )
        for row in session.execute(_MODELS, {"project_id": project_id})
    ]


def reviewer_profiles(
    session: Session,
    over: Period,
    *,
    person_id: UUID | None = None,
    domain: str | None = None,
    limit: int = 1000,
) -> list[ReviewerProfile]:
    """How the votes of reviewers held, whoever cast the most first."""
    given = {
        "since": over.since,
        "until": over.until,
        "person_id": person_id,
        "domain": domain,
        "most": limit,
    }
    return [
        ReviewerProfile(
            reviewer_id=row.reviewer_id,
            votes=row.votes,
            agreed=wilson(row.agreed, row.votes),
            overturned=wilson(row.overturned, row.votes),
            severity=row.severity,
            median_s=row.median_s,
        )
        for row in session.execute(_REVIEWERS, given)
    ]


def stages(session: Session, project_id: UUID, *, over: Period) -> list[Stage]:
    """How long the tasks and submissions of a project stayed in each state until a time."""
    rows = session.execute(
        text(_STAGES.format(stays=_STAYS)), {"project_id": project_id, "at": over.until}
    )
    return [Stage(*row) for row in rows]


def task_paths(
    session: Session, project_id: UUID, *, over: Period, limit: int = 100_000
) -> list[TaskPath]:
    """What each task of a project went through: hand-ins, rounds, rejections, time in stage."""
    given = {"project_id": project_id, "at": over.until, "most": limit}
    return [
        TaskPath(
            task_id=row.id,
            external_id=row.external_id,
            state=row.state,
            submissions=row.submissions,
            rounds=int(row.rounds),
            rejections=row.rejections,
            stages=row.stages or {},
        )
        for row in session.execute(text(_PATHS.format(stays=_STAYS)), given)
    ]
