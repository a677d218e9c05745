"""The lists that the database makes of whom to look at, as tables of one transaction: nobody is
looked at who does not fit, and no task has every expert on its list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, TextClause, Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.availability.queries import Openings, openings
from market.eligibility.queries import eligibilities_of, steps_of
from market.eligibility.rules import FIRST_STEP
from market.experts.rules import DOMAINS_MEET, EXPERT_FIELDS, LIMITED, WORKING
from market.explanations.queries import LEVEL_RANK, listed
from market.filters import compiled
from market.offers.queries import monday_before
from market.offers.rules import GONE, HELD, load_of
from market.policies.rules import RunPolicy
from market.predictions.rules import PRIOR_ABILITY
from market.shortlists.rules import BEST, NEAREST, SMALL_DOMAIN, SPREAD

# Numbered by id, so that the same rows have the same numbers; dropped with the transaction, and
# before, where several reads share one.
TABLES = (
    """
    create temporary table run_project on commit drop as
    select (row_number() over (order by p.id) - 1)::int as n, p.id, p.organisation_id, p.currency,
        p.rate_minor_per_hour as rate, p.require_interest,
        {minimum_level}::int as minimum_rank, p.cap_s, p.fee_basis_points,
        p.offer_ttl_s, p.work_ttl_s, p.pay_basis, coalesce(p.deliverable_minor, 0) as deliverable,
        p.target_model_id,
        coalesce(p.attempt_fee_minor, 0) as attempt_fee, p.attempt_fees_max,
        coalesce(p.impact_bonus_minor, 0) as impact_bonus,
        coalesce(p.overtime_basis_points, 10000) as overtime,
        (select count(*) from market.task t join market.task_slot s on s.task_id = t.id
         where t.project_id = p.id) as seats
    from market.project p
    where p.state = 'live' and (cast(:project_id as uuid) is null or p.id = :project_id)
        and (:tasks is null
            or p.id in (select project_id from market.task where id = any(:tasks)))
    """,
    """
    create temporary table run_task on commit drop as
    select (row_number() over (order by t.id) - 1)::int as n, t.id, p.n as project_n,
        (dense_rank() over (order by t.domain) - 1)::int as domain_n, t.domain,
        (dense_rank() over (order by coalesce(t.target_model_id, p.target_model_id)) - 1)::int
            as model_n,
        coalesce(t.target_model_id, p.target_model_id) as model_id,
        (row_number() over (partition by t.domain order by t.id) - 1)::int as turn,
        coalesce(open.seats, 0) as seats, t.expected_s, t.value_weight,
        t.complexity::int as complexity,
        floor(extract(epoch from cast(:at as timestamptz) - t.created_at) / 3600)::int as age_h
    from run_project p
    join market.task t on t.project_id = p.id and t.state in ('queued', 'active')
    left join (select task_id, count(*)::int as seats from market.task_slot
          where state = 'open' and (:tasks is null or task_id = any(:tasks))
          group by task_id) open on open.task_id = t.id
    where (:tasks is null or t.id = any(:tasks)) and (:with_filled or open.seats > 0)
        and (:experts is null or exists (select from market.expert_domain k
            where k.expert_id = any(:experts) and {task_meets}))
    """,
    """
    create temporary table run_met on commit drop as
    select w.domain_n, w.domain, k.domain as known,
        cardinality(string_to_array(w.domain, '.')) as depth,
        cardinality(string_to_array(k.domain, '.')) as known_depth
    from (select distinct domain_n, domain from run_task) w
    join (select distinct domain from market.expert_domain
          where :experts is null or expert_id = any(:experts)) k on {domains_meet}
    """,
    """
    create temporary table run_expert on commit drop as
    select (row_number() over (order by e.id) - 1)::int as n, e.id,
        (pace.at_once - o.seats)::int as capacity,
        (e.weekly_hours - o.seconds / 3600.0)::float8 as hours, o.held = 0 as is_new,
        o.live_s::bigint as live_s
    from market.expert e {load}
    where e.state in ({working}) and pace.at_once > o.seats
        and e.weekly_hours > o.seconds / 3600.0
        and (:experts is null or e.id = any(:experts)) and e.id <> all(:closed)
        and exists (select from market.expert_domain d join run_met m on m.known = d.domain
            where d.expert_id = e.id)
    """,
    # The best of a domain come first by what is measured and holds for all of its tasks.
    """
    create temporary table run_fit on commit drop as
    with fit as (
        select m.domain_n, e.n as expert_n, e.id as expert_id, e.is_new, max({level})::int as rank,
            coalesce((array_agg(d.ability order by m.known_depth desc, d.domain)
                filter (where d.ability is not null))[1], 'nan')::float8 as ability,
            max(least(m.depth, m.known_depth)::float8 / greatest(m.depth, m.known_depth))
                as nearness
        from run_met m
        join market.expert_domain d on d.domain = m.known
        join run_expert e on e.id = d.expert_id
        where not {limited}
        group by m.domain_n, e.n, e.id, e.is_new
    )
    select (row_number() over (order by domain_n, standing desc, expert_n) - 1)::int as n,
        (row_number() over (partition by domain_n order by standing desc, expert_n) - 1)::int
            as place,
        domain_n, expert_n, expert_id, rank, ability, nearness
    from (
        select fit.*, :stump / (1 + exp(-case when ability <> 'nan' then ability
                when rank > 1 then {qualified} else {claimed} end))
            + :affinity * nearness + case when ability = 'nan' then :learning else 0 end as standing
        from fit
    ) ranked
    """,
    """
    create temporary table run_domain on commit drop as
    select domain_n, min(n) as first, count(*)::int as fits from run_fit group by domain_n
    """,
    """
    create temporary table run_rate on commit drop as
    select e.n as expert_n, p.currency,
        max(p.rate_minor_per_hour) filter (where a.during @> :at and p.during @> :at) as now,
        max(p.rate_minor_per_hour) as top
    from run_expert e
    join market.tier_assignment a on a.expert_id = e.id and a.during && tstzrange(:at, :horizon)
    join market.pay_tier p on p.name = a.tier and p.during && tstzrange(:at, :horizon)
        and p.during && a.during and p.currency in (select currency from run_project)
    group by e.n, p.currency
    having bool_or(a.during @> cast(:at as timestamptz) and p.during @> cast(:at as timestamptz))
    """,
    # Words that more than one expert in fifty has tell nobody apart; a share of all experts, the
    # same each time, stands for all of them.
    """
    create temporary table run_common on commit drop as
    with sampled as (
        select words from market.expert
        where uuid_hash(id) & (select greatest(
            (1 << greatest(ceil(log(2, greatest(reltuples, 1)::numeric / 1000)), 0)::int) - 1, 0)
            from pg_class where oid = 'market.expert'::regclass) = 0
    )
    select lexeme from sampled cross join lateral unnest(words)
    group by lexeme having count(*) > greatest((select count(*) from sampled) / 50, 5)
    """,
    """
    create temporary table run_said on commit drop as
    select s.task_n, s.domain_n, s.lexeme, dense_rank() over (order by s.lexeme) - 1 as word_n
    from (
        select t.n as task_n, t.domain_n, w.lexeme
        from run_task t
        join run_domain d on d.domain_n = t.domain_n
        join market.task k on k.id = t.id
        cross join lateral unnest(jsonb_to_tsvector('english', k.payload, '["string"]')) w
    ) s
    where length(s.lexeme) between 3 and 60 and s.lexeme !~ '[\\s''\\\\&|!:()*<>-]'
        and not exists (select from run_common c where c.lexeme = s.lexeme)
    """,
    # For each word the experts who have it, by the index on words.
    """
    create temporary table run_word on commit drop as
    select w.word_n, e.n as expert_n
    from (
        select word_n, lexeme, lexeme::tsquery as query
        from (select distinct word_n, lexeme from run_said) each_word
        where :experts is null or lexeme in (
            select held.lexeme from market.expert x cross join lateral unnest(x.words) held
            where x.id = any(:experts))
    ) w
    join market.expert x on x.words @@ w.query
    join run_expert e on e.id = x.id
    """,
    """
    create temporary table run_near on commit drop as
    with listed as (
        select * from (
            select w.word_n, f.domain_n, f.n as fit_n, row_number() over (
                partition by f.domain_n, w.word_n order by f.place) as at
            from run_word w
            join run_fit f on f.expert_n = w.expert_n
            join run_domain d on d.domain_n = f.domain_n and d.fits > {small}
        ) every where at <= 4 * {nearest}
    ), shared as (
        select s.task_n, l.fit_n, row_number() over (
            partition by s.task_n order by count(*) desc, l.fit_n) as at
        from run_said s
        join listed l on l.word_n = s.word_n and l.domain_n = s.domain_n
        group by s.task_n, l.fit_n
    )
    select task_n, fit_n from shared where at <= {nearest}
    """,
)

RULES = (
    """
    create temporary table run_rule
        (n int, project_n int, eligibility_id uuid, step int, priority float8)
    on commit drop
    """,
    "create temporary table run_passes (rule_n int, expert_n int) on commit drop",
)

# The best and some in turn of those whom a task takes; fits of large domains only, since small ones
# are looked at whole.
RULED = (
    """
    create temporary table run_task_rule on commit drop as
    select t.n as task_n, r.n as rule_n, r.priority
    from run_task t
    join run_rule r on r.project_n = t.project_n
    left join market.widening w on w.task_id = t.id and w.eligibility_id = r.eligibility_id
    where r.step = coalesce(w.step, 1)
    """,
    """
    create temporary table run_taken on commit drop as
    select x.rule_n, f.domain_n, f.n as fit_n, (row_number() over (
        partition by x.rule_n, f.domain_n order by f.place) - 1)::int as place,
        (count(*) over (partition by x.rule_n, f.domain_n))::int as fits
    from run_passes x
    join run_fit f on f.expert_n = x.expert_n
    join run_domain d on d.domain_n = f.domain_n and d.fits > {small}
    """,
)

_NEW_RULE = text("insert into run_rule values (:n, :project_n, :eligibility_id, :step, :priority)")

PASSES = """
    insert into run_passes select :rule_n, r.n
    from run_expert r join market.expert e on e.id = r.id where {condition}
    """

PAIRS = """
    with picked as (
        select t.n as task_n, d.first + place as fit_n
        from run_task t join run_domain d on d.domain_n = t.domain_n
        cross join lateral generate_series(0,
            case when d.fits <= {small} then d.fits else {best} end - 1) place
        union
        select t.n, d.first + ((t.turn::bigint * {spread} + place) % d.fits)::int
        from run_task t join run_domain d on d.domain_n = t.domain_n and d.fits > {small}
        cross join lateral generate_series(0, {spread} - 1) place
        union
        select k.task_n, g.fit_n
        from run_task_rule k
        join run_task t on t.n = k.task_n
        join (select distinct rule_n, domain_n, fits from run_taken) c
            on c.rule_n = k.rule_n and c.domain_n = t.domain_n
        cross join lateral (
            select generate_series(0, least(c.fits, {best}) - 1) as place
            union
            select ((t.turn::bigint * {spread} + turn) % c.fits)::int
            from generate_series(0, least(c.fits, {spread}) - 1) turn
        ) wanted
        join run_taken g on g.rule_n = k.rule_n and g.domain_n = t.domain_n
            and g.place = wanted.place
        union
        select task_n, fit_n from run_near
        union
        select t.n, f.n
        from run_task t
        join market.interest i on i.task_id = t.id
        join run_fit f on f.domain_n = t.domain_n and f.expert_id = i.expert_id
        union
        select t.n, f.n
        from run_task t
        join market.gold_check c on c.task_id = t.id
        join run_fit f on f.domain_n = t.domain_n and f.expert_id = c.expert_id
    )
    select f.expert_n, t.n as task_n, f.n as fit_n, coalesce(i.value, 'nan')::float8 as interest
    from picked
    join run_task t on t.n = picked.task_n
    join run_project p on p.n = t.project_n
    join run_fit f on f.n = picked.fit_n and f.rank >= p.minimum_rank
    left join run_rate r on r.expert_n = f.expert_n and r.currency = p.currency
    left join market.interest i on i.task_id = t.id and i.expert_id = f.expert_id
    where coalesce(p.rate, r.now) is not null
      and (p.n not in (select project_n from run_rule)
          or exists (select from run_task_rule k
              join run_passes x on x.rule_n = k.rule_n
              where k.task_n = t.n and x.expert_n = f.expert_n))
      and (i.value is not null or not p.require_interest)
      and not exists (select from market.offer o
          where o.task_id = t.id and o.expert_id = f.expert_id and o.state not in ({gone}))
      and not exists (select from market.gold_check c
          where c.task_id = t.id and c.expert_id <> f.expert_id)
      and not exists (select from market.membership m
          where m.person_id = f.expert_id and m.organisation_id = p.organisation_id)
    """

MET = "select coalesce(sum(d.fits), 0) from run_task t join run_domain d using (domain_n)"

HELD_SEATS = """
    select (e.n::bigint * (select count(*) from run_project) + p.n) as key, count(*) as seats
    from market.offer o
    join run_expert e on e.id = o.expert_id
    join run_project p on p.id = o.project_id
    where o.state in ({held}, 'pending')
    group by 1 order by 1
    """

WORDS: Mapping[str, str] = {
    "load": load_of("e"),
    "held": listed(HELD),
    "gone": listed(GONE),
    "working": listed(WORKING),
    "minimum_level": LEVEL_RANK.format(column="p.minimum_level"),
    "level": LEVEL_RANK.format(column="d.level"),
    "domains_meet": DOMAINS_MEET.format(one="w.domain", other="k.domain"),
    "limited": LIMITED.format(expert="e.id", domain="m.domain"),
    "task_meets": DOMAINS_MEET.format(one="t.domain", other="k.domain"),
    "claimed": str(PRIOR_ABILITY[0]),
    "qualified": str(PRIOR_ABILITY[1]),
    "small": str(SMALL_DOMAIN),
    "best": str(BEST),
    "nearest": str(NEAREST),
    "spread": str(SPREAD),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """What was found beside the lists: the kinds of offers that the projects make, by how long an
    offer stands and how long its work may take, and what each can ask of who keeps hours.

    Units: kinds in seconds.
    """

    kinds: list[tuple[int, int]]
    opened: Openings


def make_shortlists(
    session: Session,
    policy: RunPolicy,
    *,
    project_id: UUID | None,
    at: datetime,
    tasks: Sequence[UUID] | None = None,
    experts: Sequence[UUID] | None = None,
    with_filled: bool = False,
) -> Listed:
    """Make the tables that PAIRS reads from, for this transaction: of all live projects or of one;
    of some tasks or experts alone, where they are given; of tasks without an open seat too, if
    wished.
    """
    weights = policy.matcher.weights
    values: dict[str, object] = {
        "project_id": project_id,
        "at": at,
        "monday": monday_before(at),
        "tasks": None if tasks is None else list(tasks),
        "experts": None if experts is None else list(experts),
        "with_filled": with_filled,
        "stump": weights.stump,
        "affinity": weights.affinity,
        "learning": weights.learning,
    }
    for statement in TABLES:
        name = statement.split()[3]
        session.execute(text(f"drop table if exists pg_temp.{name}"))
        if name == "run_expert":
            found = _openings(session, at=at, experts=experts)
            values["closed"] = found.opened.closed
        if name == "run_rate":
            values["horizon"] = at + _longest_work(session)
        session.execute(_typed(statement.format(**WORDS)), values)
        if tasks is None and experts is None:
            session.execute(text(f"analyze {name}"))
    _take_rules(session, at)
    return found


def _openings(session: Session, *, at: datetime, experts: Sequence[UUID] | None) -> Listed:
    """The kinds of offers that the projects make, and what they can ask of who keeps hours."""
    rows = session.execute(
        text("select distinct offer_ttl_s, work_ttl_s from run_project order by 1, 2")
    )
    kinds = [(int(offer_ttl_s), int(work_ttl_s)) for offer_ttl_s, work_ttl_s in rows]
    least_s = session.scalar(text("select min(expected_s) from run_task")) or 0
    found = openings(session, kinds, least_s=int(least_s), at=at, experts=experts)
    return Listed(kinds, found)


def _typed(statement: str) -> TextClause:
    """A statement whose arrays PostgreSQL knows to be ids, whether they are given or not."""
    found = text(statement)
    for name in ("tasks", "experts", "closed"):
        if f":{name}" in statement:
            found = found.bindparams(bindparam(name, type_=ARRAY(Uuid())))
    return found


def _longest_work(session: Session) -> timedelta:
    seconds = session.scalar(text("select max(offer_ttl_s + work_ttl_s) from run_project"))
    return timedelta(seconds=int(seconds or 0))


def _take_rules(session: Session, at: datetime) -> None:
    """Find whom each step of the projects' eligibilities takes, once for all of their tasks."""
    for statement in RULES:
        session.execute(text(f"drop table if exists pg_temp.{statement.split()[3]}"))
        session.execute(text(statement))
    numbers = {row.id: row.n for row in session.execute(text("select id, n from run_project"))}
    rule_n = 0
    for project_id, found in eligibilities_of(session, list(numbers)).items():
        for step, one in enumerate(steps_of(found), FIRST_STEP):
            names = {
                "n": rule_n,
                "project_n": numbers[project_id],
                "eligibility_id": found.id,
                "step": step,
                "priority": one.priority,
            }
            session.execute(_NEW_RULE, names)
            made = compiled(one.expression.tree, EXPERT_FIELDS, row="e", at=at)
            passes = text(PASSES.format(condition=made.sql))
            session.execute(passes, {**made.values, "rule_n": rule_n})
            rule_n += 1
    for statement in RULED:
        session.execute(text(f"drop table if exists pg_temp.{statement.split()[3]}"))
        session.execute(text(statement.format(**WORDS)))
