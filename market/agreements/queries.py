"""Reads of votes as they agree, and of the judge beside people. They run as the platform."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.agreements.rules import (
    CLOSED,
    MOST_VOTES,
    OPEN_REASON,
    FieldAgreement,
    JudgeStanding,
    Reading,
    Said,
    agreement_on,
    judge_standing,
)
from market.verdicts.rules import REVIEWED

_SAID = text(
    """
    select t.domain, r.submission_id, r.reviewer_id, r.has_attempt,
        r.verdict in ('accept', 'accept_share') as accepted, r.model_failed, r.attempt_fair
    from market.review r join market.submission s on s.id = r.submission_id
    join market.task t on t.id = s.task_id
    where r.kind = 'vote' and r.voted_at > :since and r.voted_at <= :until
        and (cast(:project_id as uuid) is null or r.project_id = :project_id)
        and (cast(:domain as text) is null or t.domain = :domain)
    order by r.voted_at desc, r.id limit :most
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
    closed: dict[tuple[str, str], list[Said]] = {}
    open_: dict[str, int] = {}
    for row in session.execute(_SAID, given):
        if not row.has_attempt:
            open_[row.domain] = open_.get(row.domain, 0) + 1
            continue
        for field in CLOSED:
            said = getattr(row, field)
            if said is not None:
                one = Said(row.submission_id, row.reviewer_id, said)
                closed.setdefault((row.domain, field), []).append(one)
    found = [agreement_on(*key, said) for key, said in sorted(closed.items())]
    found += [
        FieldAgreement(one, "accepted", votes, None, OPEN_REASON)
        for one, votes in sorted(open_.items())
    ]
    return found


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
    by_cell: dict[tuple[str, UUID], list[Reading]] = {}
    for one in readings(session, since=since, domain=domain):
        by_cell.setdefault((one.domain, one.target_model_id), []).append(one)
    return [judge_standing(*cell, read) for cell, read in sorted(by_cell.items())]


def disagreements(
    session: Session, *, since: datetime, domain: str | None = None, limit: int = 200
) -> list[Reading]:
    """Claims on which the judge and people differ, the latest first: somebody should look."""
    found = readings(session, since=since, domain=domain)
    return [one for one in found if one.says_failed != one.is_validated][:limit]
