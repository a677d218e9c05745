"""Reads of quality: outcomes to learn, calibration, and what experts read of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Select, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.filters import narrowed
from market.predictions.models import Ability, Observation
from market.predictions.rules import Outcome
from market.quality.models import FrontierAlarm, ReviewerReliability
from market.quality.rules import STAGES, Calibration, calibration, weeks_of

# A claim of a stump is fooling; whether it holds is for the verdict. Work without an attempt says
# whether what is handed in holds, and nothing of a model. Where a panel was asked a stump may be
# one of another model: what is learned is of the target alone. Of a hidden check the
# truth is known.
_DECIDED = """
    select cast('verdict' as text) as kind, v.submission_id as subject_id, v.version,
        v.project_id, v.task_id, v.expert_id, t.domain, a.target_model_id,
        t.complexity - 1 as level, v.decided_at as at, 1.0::float8 as start,
        case when v.is_tested
            then (coalesce(a.claims_stump, false) or v.is_stump)::int end::float8 as fooled,
        case when not v.is_tested then coalesce(k.is_right, v.is_accepted)::int
            when a.stump_rule is not null and (a.claims_stump or v.is_stump)
            then (a.state = 'verified')::int
            when coalesce(a.claims_stump, false) or v.is_stump then v.is_stump::int
            end::float8 as valid
    from market.verdict v
    join market.submission s on s.id = v.submission_id
    join market.task t on t.id = v.task_id
    left join market.attempt a on a.id = s.attempt_id
    left join market.gold_check k on k.submission_id = v.submission_id
"""

_ENDED = """
    select cast('offer' as text) as kind, o.id as subject_id, 1::bigint as version,
        o.project_id, o.task_id, o.expert_id, t.domain,
        coalesce(t.target_model_id, p.target_model_id) as target_model_id,
        t.complexity - 1 as level, o.ended_at as at,
        (o.state in ('released', 'abandoned'))::int::float8 as start,
        case when exists (select from market.attempt a
            where a.offer_id = o.id and a.responded_at is not null)
            then 0.0 end::float8 as fooled,
        cast(null as float8) as valid
    from market.offer o
    join market.task t on t.id = o.task_id
    join market.project p on p.id = o.project_id
    where o.state in ('declined', 'released', 'abandoned') and o.ended_at is not null
        and not exists (select from market.verdict v join market.submission s
            on s.id = v.submission_id where s.offer_id = o.id)
"""

# Of another model of a panel: whether it failed, by the verdict, or by the votes where the work
# came to nothing. That somebody began, and whether the work holds, is learned of the target, once.
# Who concedes says nothing of models that need not fail, nor which of all that must.
_BESIDE = """
    select cast('panel' as text) as kind, b.id as subject_id, v.version,
        v.project_id, v.task_id, v.expert_id, t.domain, b.target_model_id,
        t.complexity - 1 as level, v.decided_at as at, cast(null as float8) as start,
        case b.state when 'verified' then 1.0 when 'not_stumped' then 0.0
            else (select avg(p.model_failed::int) from market.panel_vote p
                join market.review r on r.id = p.review_id
                where p.attempt_id = b.id and r.state <> 'recused') end::float8 as fooled,
        cast(null as float8) as valid
    from market.verdict v
    join market.submission s on s.id = v.submission_id
    join market.attempt a on a.id = s.attempt_id and a.stump_rule is not null
    join market.attempt b on b.panel_of = a.id and b.state <> 'failed'
        and (b.claims_stump or (b.claims_stump = false and a.stump_rule = 'any'))
    join market.task t on t.id = v.task_id
"""

_WITH_PROFILE = """
    select f.*, d.years::float8 as years, (d.level = 'qualified')::int::float8 as qualified, (
        select s.tested from market.sitting s
        where s.person_id = f.expert_id and s.domain = d.domain and s.tested is not null
            and s.ended_at <= f.at
        order by s.id desc limit 1) as tested
    from ({found}) f
    left join lateral (
        select domain, years, level from market.expert_domain d
        where d.expert_id = f.expert_id
            and (d.domain = f.domain or starts_with(f.domain, d.domain || '.'))
        order by length(d.domain) desc limit 1
    ) d on true
"""

_NEW = """
    where not exists (select from market.observation n where n.kind = f.kind
        and n.subject_id = f.subject_id and n.version >= f.version)
        and (f.kind <> 'panel' or f.fooled is not null)
    order by f.at, f.subject_id limit :limit
"""

_OF_VERDICT = text(
    _WITH_PROFILE.format(found=f"{_DECIDED} where v.submission_id = :subject_id")
).bindparams(bindparam("subject_id", type_=Uuid()))
_OF_OFFER = text(_WITH_PROFILE.format(found=f"{_ENDED} and o.id = :subject_id")).bindparams(
    bindparam("subject_id", type_=Uuid())
)
_BESIDE_VERDICT = text(
    _WITH_PROFILE.format(found=f"{_BESIDE} where v.submission_id = :subject_id")
    + " where f.fooled is not null order by f.subject_id"
).bindparams(bindparam("subject_id", type_=Uuid()))
_UNLEARNED = text(
    _WITH_PROFILE.format(found=f"{_DECIDED} union all {_ENDED} union all {_BESIDE}") + _NEW
)


def outcome_of_verdict(session: Session, submission_id: UUID) -> Outcome | None:
    """What a verdict has to teach."""
    row = session.execute(_OF_VERDICT, {"subject_id": submission_id}).one_or_none()
    return None if row is None else Outcome(**row._mapping)


def outcomes_beside(session: Session, submission_id: UUID) -> list[Outcome]:
    """What a verdict has to teach of the other models of the panel that its question was put to."""
    rows = session.execute(_BESIDE_VERDICT, {"subject_id": submission_id})
    return [Outcome(**row._mapping) for row in rows]


def outcome_of_offer(session: Session, offer_id: UUID) -> Outcome | None:
    """What an offer has to teach that came to nothing; none where something came of it."""
    row = session.execute(_OF_OFFER, {"subject_id": offer_id}).one_or_none()
    return None if row is None else Outcome(**row._mapping)


def unlearned(session: Session, *, limit: int) -> list[Outcome]:
    """What was never learned, in the order of its time: a lost job's, or an older record."""
    return [Outcome(**row._mapping) for row in session.execute(_UNLEARNED, {"limit": limit})]


# What is read of it -------------------------------------------------------------------------------


def abilities(*, expert_id: UUID | None = None, domain: str | None = None) -> Select[Ability]:
    """Abilities that the caller may see, as a statement to page through."""
    return narrowed(select(Ability), (Ability.expert_id, expert_id), (Ability.domain, domain))


_PREDICTED = text(
    """
    select expert_id, predicted_start, predicted_fooled, predicted_valid, predicted_stump,
        start, fooled, valid,
        case when start = 0 or fooled = 0 then 0.0 else start * fooled * valid end::float8 as stump
    from market.observation
    where predicted_stump is not null and replaced_at is null and at > :since
        and (cast(:domain as text) is null or domain = :domain)
    order by seq desc limit :latest
    """
)


def calibrations(
    session: Session,
    *,
    since: datetime,
    domain: str | None = None,
    stages: Sequence[str] = STAGES,
    latest: int = 200_000,
) -> dict[str, Calibration]:
    """How what was predicted of pairs agrees with what became of the latest of them, link by
    link.
    """
    given = {"since": since, "domain": domain, "latest": latest}
    rows = session.execute(_PREDICTED, given).all()
    found: dict[str, Calibration] = {}
    for stage in stages:
        known = [row for row in rows if getattr(row, stage) is not None]
        found[stage] = calibration(
            np.array([getattr(row, f"predicted_{stage}") for row in known], np.float64),
            np.array([getattr(row, stage) for row in known], np.float64),
            [row.expert_id for row in known],
        )
    return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of work that an ability rests on, with what was expected of it before."""

    domain: str
    task_id: UUID
    at: datetime
    expected: float | None
    came: float


_EVIDENCE = text(
    """
    select domain, task_id, at, predicted_fooled * predicted_valid as expected,
        case when fooled = 0 then 0.0 else fooled * valid end::float8 as came
    from market.observation
    where expert_id = :expert_id and replaced_at is null and kind in ('verdict', 'offer')
    order by seq desc limit :limit
    """
).bindparams(bindparam("expert_id", type_=Uuid()))


def evidence_of_ability(session: Session, expert_id: UUID, *, limit: int = 20) -> list[Evidence]:
    """The latest outcomes that moved an expert's ability, the newest first."""
    rows = session.execute(_EVIDENCE, {"expert_id": expert_id, "limit": limit})
    return [Evidence(*row) for row in rows if row.came is not None]


_TASKS = bindparam("tasks", type_=ARRAY(Uuid()))


def difficulties(session: Session, task_ids: Sequence[UUID]) -> dict[UUID, tuple[float, float]]:
    """Logit and standard deviation of some tasks' difficulty, of those that were worked on."""
    statement = text(
        "select task_id, logit, sd from market.difficulty where task_id = any(:tasks)"
    ).bindparams(_TASKS)
    rows = session.execute(statement, {"tasks": list(task_ids)})
    return {row.task_id: (row.logit, row.sd) for row in rows}


# Votes --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote, of one who voted on one submission; `gold` what is known of it, by a hidden
    check, by an appeal, or by what a senior decided of a claim.
    """

    review_id: UUID
    submission_id: UUID
    reviewer_id: UUID
    round: int
    says_yes: bool
    gold: bool | None


# With an attempt the question is closed: does the stump hold? Without one it is a judgement, on
# which a senior who decided between honest people proves nobody wrong; an appeal finds that the
# reasons of a rejection do not hold.
_BALLOTS = """
    select r.id as review_id, r.submission_id, r.reviewer_id, r.round,
        r.verdict in ('accept', 'accept_share')
            and coalesce(r.model_failed, true) and coalesce(r.attempt_fair, true) as says_yes,
        case when not v.is_tested and k.is_right is not null then k.is_right
            when v.basis = 'appeal' or (v.basis = 'adjudication' and v.is_tested)
            then case when v.is_tested then v.is_stump else v.is_accepted end end as gold
    from market.review r
    join market.submission s on s.id = r.submission_id
    join market.task t on t.id = s.task_id
    left join market.verdict v on v.submission_id = r.submission_id
    left join market.gold_check k on k.submission_id = r.submission_id
    where r.kind = 'vote' and r.voted_at is not null and r.verdict <> 'rework'
"""

_OF_QUEUE = text(
    _BALLOTS
    + """ and t.domain = :domain and (s.attempt_id is null) = :is_open
        and r.voted_at <= :until
    order by r.voted_at desc, r.id limit 50000"""
)
_OF_SUBMISSION = text(_BALLOTS + " and r.submission_id = :submission_id order by r.id").bindparams(
    bindparam("submission_id", type_=Uuid())
)


_KNOWN = """
    select b.reviewer_id, count(*) filter (where b.says_yes = b.gold) as right,
        count(*) filter (where b.says_yes <> b.gold) as wrong
    from ({ballots} and r.voted_at > :since) b
    where b.gold is not null group by b.reviewer_id order by b.reviewer_id
"""


def known_answers(session: Session, *, since: datetime) -> dict[UUID, tuple[int, int]]:
    """How many votes of each reviewer were right, and wrong, where the answer is known by now."""
    rows = session.execute(text(_KNOWN.format(ballots=_BALLOTS)), {"since": since})
    return {row.reviewer_id: (row.right, row.wrong) for row in rows}


def ballots_of_queue(
    session: Session, domain: str, *, is_open: bool, until: datetime
) -> list[Ballot]:
    """The latest votes of a queue: on claims of stumps in a domain, or on other work in it."""
    given = {"domain": domain, "is_open": is_open, "until": until}
    return [Ballot(*row) for row in session.execute(_OF_QUEUE, given)]


def ballots_of(session: Session, submission_id: UUID) -> list[Ballot]:
    """The votes on one submission."""
    rows = session.execute(_OF_SUBMISSION, {"submission_id": submission_id})
    return [Ballot(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a submission stands: what it is, and what was decided on it."""

    project_id: UUID
    expert_id: UUID
    domain: str
    complexity: int
    is_tested: bool
    is_accepted: bool
    is_stump: bool
    share: int
    basis: str
    text: str


_STANDING = text(
    """
    select v.project_id, v.expert_id, t.domain, t.complexity, v.is_tested, v.is_accepted,
        v.is_stump, v.share, v.basis, coalesce(a.prompt, s.payload::text) as text
    from market.verdict v
    join market.submission s on s.id = v.submission_id
    join market.task t on t.id = v.task_id
    left join market.attempt a on a.id = s.attempt_id
    where v.submission_id = :submission_id
    """
).bindparams(bindparam("submission_id", type_=Uuid()))


def standing(session: Session, submission_id: UUID) -> Standing | None:
    """What was decided on a submission, with what it was."""
    row = session.execute(_STANDING, {"submission_id": submission_id}).one_or_none()
    return None if row is None else Standing(*row)


def reliabilities(*, reviewer_id: UUID | None = None) -> Select[ReviewerReliability]:
    """Reliabilities that the caller may see, by reviewer and domain."""
    statement = select(ReviewerReliability)
    if reviewer_id is not None:
        statement = statement.where(ReviewerReliability.reviewer_id == reviewer_id)
    return statement.order_by(ReviewerReliability.reviewer_id, ReviewerReliability.domain)


# The frontier -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """A domain, a level and a target model: where a stump rate is followed."""

    domain: str
    level: int
    target_model_id: UUID


_OF_CELL = text(
    """
    select seq, at, expert_id, version,
        case when fooled = 0 then 0.0 else fooled * valid end::float8 as stump
    from market.observation
    where domain = :domain and level = :level and target_model_id = :target_model_id
        and kind = 'verdict' and replaced_at is null and seq > :after
    order by seq
    """
).bindparams(bindparam("target_model_id", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class Tried:
    """One piece of work of a cell; `version` tells whether it corrects what was said of it before.

    Units: `stump` a probability; none where the model was not asked, or nobody could say.
    """

    seq: int
    at: datetime
    expert_id: UUID
    version: int
    stump: float | None


def tried(session: Session, cell: Cell, *, after: int = 0) -> list[Tried]:
    """What was handed in and decided in a cell, in the order in which it was learned."""
    given = {
        "domain": cell.domain,
        "level": cell.level,
        "target_model_id": cell.target_model_id,
        "after": after,
    }
    return [Tried(*row) for row in session.execute(_OF_CELL, given)]


def claims(session: Session, cell: Cell) -> list[tuple[datetime, float]]:
    """When each claim or concession of a cell was, and how surely it is a stump, in their order."""
    return [(row.at, row.stump) for row in tried(session, cell) if row.stump is not None]


def last_alarm_seq(session: Session, cell: Cell) -> int:
    """The place in the log at which a cell was called dry last; 0 where it never was."""
    return (
        session.scalar(
            select(func.max(FrontierAlarm.seq)).where(
                FrontierAlarm.domain == cell.domain,
                FrontierAlarm.level == cell.level,
                FrontierAlarm.target_model_id == cell.target_model_id,
            )
        )
        or 0
    )


# Releases belong to a feature that stands later in a task's life; they are read as a table.
_OPENING_BEFORE = text(
    """
    select avg(stump)::float8 as rate, count(*) as claims from (
        select case when o.fooled = 0 then 0.0 else o.fooled * o.valid end as stump
        from market.model_release r
        join market.observation o on o.target_model_id = r.earlier_model_id
            and o.domain = :domain and o.level = :level and o.kind = 'verdict'
            and o.replaced_at is null and o.fooled is not null
            and (o.fooled = 0 or o.valid is not null)
        where r.target_model_id = :target_model_id and r.state <> 'withdrawn'
            and not exists (select from market.frontier_alarm f where f.domain = :domain
                and f.level = :level and f.target_model_id = :target_model_id)
        order by o.seq limit :first
    ) opening
    """
).bindparams(bindparam("target_model_id", type_=Uuid()))


def opening_before(session: Session, cell: Cell, *, first: int) -> float | None:
    """What a level opened with against the version before this one; none after an alarm, which is
    an opening of its own, nor where that version was not asked so often.
    """
    given = {
        "domain": cell.domain,
        "level": cell.level,
        "target_model_id": cell.target_model_id,
        "first": first,
    }
    row = session.execute(_OPENING_BEFORE, given).one()
    return float(row.rate) if row.claims >= first else None


def cell_of(session: Session, submission_id: UUID) -> Cell | None:
    """The cell that a verdict belongs to; none where no target model was asked."""
    row = session.execute(
        select(Observation.domain, Observation.level, Observation.target_model_id)
        .where(Observation.kind == "verdict", Observation.subject_id == submission_id)
        .order_by(Observation.version.desc())
        .limit(1)
    ).one_or_none()
    if row is None or row.domain is None or row.target_model_id is None:
        return None
    return Cell(row.domain, row.level, row.target_model_id)


def people_of(session: Session, cell: Cell) -> list[UUID]:
    """Experts who handed in anything in a domain against a target model."""
    return list(
        session.scalars(
            select(Observation.expert_id)
            .where(
                Observation.domain == cell.domain,
                Observation.target_model_id == cell.target_model_id,
                Observation.expert_id.is_not(None),
            )
            .distinct()
            .order_by(Observation.expert_id)
        )
    )


def highest_level(session: Session, cell: Cell) -> int:
    """The highest level that anybody tried in a domain against a target model."""
    found = session.scalar(
        select(func.max(Observation.level)).where(
            Observation.domain == cell.domain,
            Observation.target_model_id == cell.target_model_id,
        )
    )
    return int(found or 0)


def frontier_cells(
    session: Session, *, domain: str | None = None, limit: int | None = 200
) -> list[Cell]:
    """The cells in which anything was decided, or the first of them."""
    statement = (
        select(Observation.domain, Observation.level, Observation.target_model_id)
        .where(Observation.kind == "verdict", Observation.target_model_id.is_not(None))
        .distinct()
        .order_by(Observation.domain, Observation.level, Observation.target_model_id)
        .limit(limit)
    )
    if domain is not None:
        statement = statement.where(Observation.domain == domain)
    return [
        Cell(one, level, model)
        for one, level, model in session.execute(statement)
        if one is not None and model is not None
    ]


def frontier_alarms(session: Session, *, domain: str | None = None) -> Sequence[FrontierAlarm]:
    """Levels that ran dry, the latest first."""
    statement = select(FrontierAlarm).order_by(FrontierAlarm.seq.desc()).limit(200)
    if domain is not None:
        statement = statement.where(FrontierAlarm.domain == domain)
    return session.scalars(statement).all()


@dataclass(frozen=True, slots=True)
class Week:
    """A cell's stump rate at the end of a week, with a 90 % interval. Units: shares of claims."""

    week: datetime
    rate: float
    low: float
    high: float
    claims: int


def series(session: Session, cell: Cell) -> list[Week]:
    """How a cell's stump rate went, a point for each week in which anything was decided."""
    # Loads scipy, which only the address of the frontier needs.
    from matching.frontier import FrontierTracker

    follower, found = FrontierTracker(), list[Week]()
    rows = claims(session, cell)
    number = follower.open(at=weeks_of(rows[0][0])) if rows else 0
    for n, (at, stump) in enumerate(rows):
        follower.observe(number, stump, at=weeks_of(at))
        is_last = n + 1 == len(rows) or int(weeks_of(rows[n + 1][0])) > int(weeks_of(at))
        if is_last:
            rate = follower.rate(number, at=weeks_of(at))
            found.append(Week(at, rate.mean, rate.low, rate.high, n + 1))
    return found
