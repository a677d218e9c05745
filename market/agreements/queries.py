"""Reads of votes as they agree, and of the judge beside people. They run as the platform."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.agreements.rules import (
    MOST_VOTES,
    OPEN_REASON,
    FieldAgreement,
    Grade,
    GradedWork,
    JudgeStanding,
    Pattern,
    Reading,
    agreement_on,
    differing,
    graded_work,
    standings_of,
)
from market.verdicts.rules import REVIEWED

# The latest votes, counted by claim and question, and the claims by what was counted of them.
# Whoever judged a claim in several rounds counts once. Votes on open questions are only counted.
_SAID = text(
    """
    with said as materialized (
        select t.domain, r.submission_id, r.reviewer_id, r.has_attempt,
            r.verdict in ('accept', 'accept_share') as accepted, r.model_failed, r.attempt_fair
        from market.review r join market.submission s on s.id = r.submission_id
        join market.task t on t.id = s.task_id
        where r.kind = 'vote' and r.voted_at > :since and r.voted_at <= :until
            and (cast(:project_id as uuid) is null or r.project_id = :project_id)
            and (cast(:domain as text) is null or t.domain = :domain)
        order by r.voted_at desc, r.id limit :most
    )
    select domain, field, yes, no, count(*) as claims from (
        select domain, field, sum(part) as yes, sum(1 - part) as no from (
            select d.domain, q.field, d.submission_id,
                avg(cast(q.yes as integer))::float8 as part
            from said d cross join lateral (values ('model_failed', d.model_failed),
                ('attempt_fair', d.attempt_fair), ('accepted', d.accepted)) q (field, yes)
            where d.has_attempt and q.yes is not null
            group by d.domain, q.field, d.submission_id, d.reviewer_id) by_reviewer
        group by domain, field, submission_id) counted
    group by domain, field, yes, no
    union all
    select domain, null, count(*), 0, 0 from said where not has_attempt group by domain
    order by domain, field nulls last, yes, no
    """
).bindparams(bindparam("project_id", type_=Uuid()))

_READ = text(
    """
    select v.submission_id, v.project_id, t.domain, a.target_model_id, v.decided_at,
        a.judge_missed::float8 / n.samples as judge, v.is_validated, b.belief
    from market.verdict v join market.submission s on s.id = v.submission_id
    join market.attempt a on a.id = s.attempt_id
    join market.task t on t.id = v.task_id
    join lateral (select count(*) as samples from market.attempt_response r
        where r.attempt_id = a.id) n on n.samples > 0
    left join market.item_belief b on b.submission_id = v.submission_id
    where v.is_tested and v.basis = any(:reviewed) and a.judge_missed is not null
        and coalesce(a.stump_rule, 'target') = 'target'
        and v.decided_at > :since
        and (cast(:domain as text) is null or t.domain = :domain)
    order by v.decided_at desc limit :most
    """
)


# The last round of each piece of open work; what was sent back is not graded.
_GRADED = text(
    """
    select r.submission_id, s.task_id, r.reviewer_id, case r.verdict when 'accept' then 100
        when 'reject' then 0 else r.share end::float8 as share
    from market.review r join market.submission s on s.id = r.submission_id
    where r.project_id = :project_id and not r.has_attempt and r.kind = 'vote'
        and r.state <> 'recused' and r.round = s.round
        and r.verdict in ('accept', 'accept_share', 'reject')
    order by r.voted_at desc, r.id limit :most
    """
)


def graded_works(session: Session, project_id: UUID) -> list[GradedWork]:
    """The open work of a project as its reviewers grade it, task by task, the best first."""
    rows = session.execute(_GRADED, {"project_id": project_id, "most": MOST_VOTES})
    return graded_work([Grade(*row) for row in rows])


def agreement_by_field(
    session: Session,
    *,
    since: datetime,
    until: datetime,
    project_id: UUID | None = None,
    domain: str | None = None,
) -> list[FieldAgreement]:
    """How far people agree, queue by queue and question by question; off where it means nothing."""
    given = {
        "since": since,
        "until": until,
        "project_id": project_id,
        "domain": domain,
        "most": MOST_VOTES,
    }
    closed: dict[tuple[str, str], list[Pattern]] = {}
    open_: list[FieldAgreement] = []
    for row in session.execute(_SAID, given):
        if row.field is None:
            open_.append(FieldAgreement(row.domain, "accepted", int(row.yes), None, OPEN_REASON))
        else:
            one = Pattern(row.yes, row.no, row.claims)
            closed.setdefault((row.domain, row.field), []).append(one)
    return [agreement_on(*key, seen) for key, seen in sorted(closed.items())] + open_


def readings(
    session: Session, *, since: datetime, domain: str | None = None, limit: int = MOST_VOTES
) -> list[Reading]:
    """Claims that people decided, as the judge read them, the latest first."""
    given = {"since": since, "domain": domain, "reviewed": list(REVIEWED), "most": limit}
    return [Reading(*row) for row in session.execute(_READ, given)]


def judge_standings(
    session: Session, *, since: datetime, domain: str | None = None
) -> list[JudgeStanding]:
    """How the judge agrees with people, by domain and target model."""
    return standings_of(readings(session, since=since, domain=domain))


def disagreements(
    session: Session, *, since: datetime, domain: str | None = None, limit: int = 200
) -> list[Reading]:
    """Claims on which the judge and people differ, the latest first: somebody should look."""
    return differing(readings(session, since=since, domain=domain))[:limit]
