"""Reads about matching runs: who could take what now, and what a run chose and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import Select, func, or_, select, text
from sqlalchemy.orm import Session

from market.experts.models import Expert
from market.experts.rules import DOMAINS_MEET, WORKING
from market.explanations.queries import LEVEL_RANK, listed, monday_before
from market.explanations.rules import Ids
from market.offers.models import Offer
from market.offers.rules import GONE, HELD, LIVE
from market.runs.models import MatchingRun, OpenSeat
from market.runs.rules import Candidates, ProjectFacts, RunNotFound
from matching.problem import Float64, Int32, Int64
from payouts.chart import project_budget
from payouts.ledger import balances

# Numbered by id, so that the same rows have the same numbers; dropped with the transaction, and
# before, where several runs share one.
TABLES = (
    """
    create temporary table run_project on commit drop as
    select (row_number() over (order by p.id) - 1)::int as n, p.id, p.organisation_id, p.currency,
        p.rate_minor_per_hour as rate, p.require_interest,
        {minimum_level}::int as minimum_rank, p.cap_s, p.fee_basis_points,
        p.offer_ttl_s, p.work_ttl_s, p.pay_basis,
        coalesce(p.deliverable_minor, 0) + coalesce(p.attempt_fee_minor, 0) * p.attempt_fees_max
            as fixed_minor,
        (select count(*) from market.task t join market.task_slot s on s.task_id = t.id
         where t.project_id = p.id) as seats
    from market.project p
    where p.state = 'live' and (cast(:project_id as uuid) is null or p.id = :project_id)
    """,
    """
    create temporary table run_task on commit drop as
    select (row_number() over (order by t.id) - 1)::int as n, t.id, t.domain, p.n as project_n,
        open.seats, t.expected_s, t.value_weight, t.complexity::int as complexity
    from run_project p
    join market.task t on t.project_id = p.id and t.state in ('queued', 'active')
    join (select task_id, count(*)::int as seats from market.task_slot where state = 'open'
          group by task_id) open on open.task_id = t.id
    """,
    """
    create temporary table run_expert on commit drop as
    select (row_number() over (order by e.id) - 1)::int as n, e.id,
        (e.max_concurrent - coalesce(o.seats, 0))::int as capacity,
        (e.weekly_hours - coalesce(o.seconds, 0) / 3600.0)::float8 as hours,
        coalesce(o.held, 0) = 0 as is_new
    from market.expert e
    left join (
        select expert_id, count(*) filter (where state in ({live})) as seats,
            sum(expected_s) filter (where state in ({live})
                or (state = 'completed' and ended_at >= :monday)) as seconds,
            count(*) filter (where state in ({held})) as held
        from market.offer group by expert_id
    ) o on o.expert_id = e.id
    where e.state in ({working}) and e.max_concurrent > coalesce(o.seats, 0)
        and e.weekly_hours > coalesce(o.seconds, 0) / 3600.0
        and exists (select from market.expert_domain d where d.expert_id = e.id)
    """,
    """
    create temporary table run_fit on commit drop as
    with wanted as (select distinct domain from run_task),
    known as (select distinct domain from market.expert_domain),
    met as (
        select w.domain as wanted, k.domain as known,
            cardinality(string_to_array(w.domain, '.')) as depth,
            cardinality(string_to_array(k.domain, '.')) as known_depth
        from wanted w join known k on {domains_meet}
    )
    select (row_number() over (order by m.wanted, e.n) - 1)::int as n, m.wanted as domain,
        e.n as expert_n, e.id as expert_id, max({level})::int as rank,
        coalesce((array_agg(d.ability order by m.known_depth desc, d.domain)
            filter (where d.ability is not null))[1], 'nan')::float8 as ability,
        max(least(m.depth, m.known_depth)::float8 / greatest(m.depth, m.known_depth)) as nearness
    from met m
    join market.expert_domain d on d.domain = m.known
    join run_expert e on e.id = d.expert_id
    group by m.wanted, e.n, e.id
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
)

PAIRS = """
    select f.expert_n, t.n as task_n, f.n as fit_n, coalesce(i.value, 'nan')::float8 as interest
    from run_task t
    join run_project p on p.n = t.project_n
    join run_fit f on f.domain = t.domain and f.rank >= p.minimum_rank
    left join run_rate r on r.expert_n = f.expert_n and r.currency = p.currency
    left join market.interest i on i.task_id = t.id and i.expert_id = f.expert_id
    where coalesce(p.rate, r.now) is not null
      and (i.value is not null or not p.require_interest)
      and not exists (select from market.offer o
          where o.task_id = t.id and o.expert_id = f.expert_id and o.state not in ({gone}))
      and not exists (select from market.membership m
          where m.person_id = f.expert_id and m.organisation_id = p.organisation_id)
    """

HELD_SEATS = """
    select (e.n::bigint * (select count(*) from run_project) + p.n) as key, count(*) as seats
    from market.offer o
    join run_expert e on e.id = o.expert_id
    join run_project p on p.id = o.project_id
    where o.state in ({held}, 'pending')
    group by 1 order by 1
    """

WORDS: Mapping[str, str] = {
    "live": listed(LIVE),
    "held": listed(HELD),
    "gone": listed(GONE),
    "working": listed(WORKING),
    "minimum_level": LEVEL_RANK.format(column="p.minimum_level"),
    "level": LEVEL_RANK.format(column="d.level"),
    "domains_meet": DOMAINS_MEET.format(one="w.domain", other="k.domain"),
}


def run(session: Session, run_id: UUID, *, locked: bool = False) -> MatchingRun:
    """One matching run.

    Raises:
        RunNotFound.
    """
    found = session.get(MatchingRun, run_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise RunNotFound(run_id)
    return found


def runs(*, project_id: UUID | None = None, state: str | None = None) -> Select[MatchingRun]:
    """All matching runs, or those for a project or in a state, as a statement to page through."""
    statement = select(MatchingRun)
    if project_id is not None:
        statement = statement.where(MatchingRun.project_id == project_id)
    return statement if state is None else statement.where(MatchingRun.state == state)


def open_seats(run_id: UUID) -> Select[OpenSeat]:
    """The seats that a run left open, as a statement to page through by task."""
    return select(OpenSeat).where(OpenSeat.run_id == run_id)


def candidates(session: Session, *, project_id: UUID | None, at: datetime) -> Candidates:
    """Who could take what now, in all live projects or in one of them.

    Pairs are found and checked by the database and come as one binary stream; nothing is done in
    Python for a single pair.
    """
    values = {"project_id": project_id, "at": at, "monday": monday_before(at)}
    for statement in TABLES:
        name = statement.split()[3]
        session.execute(text(f"drop table if exists pg_temp.{name}"))
        if name == "run_rate":
            values["horizon"] = at + _longest_work(session)
        session.execute(text(statement.format(**WORDS)), values)
        session.execute(text(f"analyze {name}"))
    projects = _project_facts(session)
    tasks = _Columns(
        session,
        "select id, project_n, seats, expected_s, value_weight, complexity from run_task"
        " order by n",
        ("id", "i4", "i4", "i8", "f8", "i4"),
    )
    experts = _Columns(
        session,
        "select id, capacity, hours, is_new::int from run_expert order by n",
        ("id", "i4", "f8", "i4"),
    )
    fits = _Columns(
        session, "select rank, ability, nearness from run_fit order by n", ("i4", "f8", "f8")
    )
    pairs = _Columns(session, PAIRS.format(**WORDS), ("i4", "i4", "i4", "f8"))
    held = _Columns(session, HELD_SEATS.format(**WORDS), ("i8", "i8"))
    rates = _Columns(
        session,
        "select r.expert_n, c.n, r.now, r.top from run_rate r join (select currency,"
        " (row_number() over (order by currency) - 1)::int as n"
        " from (select distinct currency from run_project)) c using (currency)",
        ("i4", "i4", "i8", "i8"),
    )
    currencies = tuple(sorted({p.currency for p in projects}))
    now = np.zeros((experts.rows, len(currencies)), np.int64)
    top = now.copy()
    now[rates.int32(0), rates.int32(1)] = rates.int64(2)
    top[rates.int32(0), rates.int32(1)] = rates.int64(3)
    # The database streams pairs in the order in which it finds them.
    order = np.lexsort((pairs.int32(0), pairs.int32(1)))
    return Candidates(
        projects=projects,
        currencies=currencies,
        task_ids=tasks.ids(0),
        task_project=tasks.int32(1),
        task_seats=tasks.int32(2),
        task_expected_s=tasks.int64(3),
        task_weight=tasks.float64(4),
        task_complexity=tasks.int32(5),
        expert_ids=experts.ids(0),
        expert_capacity=experts.int32(1),
        expert_hours=experts.float64(2),
        expert_is_new=experts.int32(3) > 0,
        rate_now=now,
        rate_top=top,
        fit_level=fits.int32(0),
        fit_ability=fits.float64(1),
        fit_nearness=fits.float64(2),
        pair_expert=pairs.int32(0)[order],
        pair_task=pairs.int32(1)[order],
        pair_fit=pairs.int32(2)[order],
        pair_interest=pairs.float64(3)[order],
        held_key=held.int64(0),
        held_seats=held.int64(1),
    )


class _Columns:
    """The columns of a query's rows, as PostgreSQL streams them in its binary COPY format.

    Every column has one width and no nulls, so that all rows together are one array.

    Source: PostgreSQL documentation, COPY, "Binary Format".
    """

    def __init__(self, session: Session, statement: str, kinds: tuple[str, ...]) -> None:
        fields: list[tuple[str, str]] = [("columns", ">i2")]
        for at, kind in enumerate(kinds):
            fields += [(f"width{at}", ">i4"), (f"c{at}", "V16" if kind == "id" else f">{kind}")]
        layout = np.dtype(fields)
        stream = bytearray()
        raw = session.connection().connection.driver_connection
        if raw is None:
            raise RuntimeError("the session has no connection")
        with raw.cursor() as cursor, cursor.copy(f"copy ({statement}) to stdout binary") as copy:
            for chunk in copy:
                stream += chunk
        # A header of 19 bytes before, and the end mark of two bytes behind.
        self._table = np.frombuffer(memoryview(stream)[19:-2], layout)
        self.rows = len(self._table)
        widths = [16 if kind == "id" else int(kind[1]) for kind in kinds]
        for at, width in enumerate(widths):
            if not (self._table[f"width{at}"] == width).all():
                raise RuntimeError(f"column {at + 1} is not {width} bytes wide in every row")

    def ids(self, at: int) -> Ids:
        column = np.ascontiguousarray(self._table[f"c{at}"])
        return column.view(np.uint8).reshape(self.rows, 16)

    def int32(self, at: int) -> Int32:
        return self._table[f"c{at}"].astype(np.int32)

    def int64(self, at: int) -> Int64:
        return self._table[f"c{at}"].astype(np.int64)

    def float64(self, at: int) -> Float64:
        return self._table[f"c{at}"].astype(np.float64)


def _longest_work(session: Session) -> timedelta:
    seconds = session.scalar(text("select max(offer_ttl_s + work_ttl_s) from run_project"))
    return timedelta(seconds=int(seconds or 0))


def _project_facts(session: Session) -> tuple[ProjectFacts, ...]:
    rows = session.execute(text("select * from run_project order by n")).all()
    escrows = [project_budget(row.id, row.organisation_id, row.currency) for row in rows]
    free = balances(session, escrows)
    return tuple(
        ProjectFacts(
            id=row.id,
            organisation_id=row.organisation_id,
            currency=row.currency,
            rate_minor_per_hour=row.rate,
            cap_s=row.cap_s,
            fee_basis_points=row.fee_basis_points,
            offer_ttl_s=row.offer_ttl_s,
            work_ttl_s=row.work_ttl_s,
            fixed_minor=row.fixed_minor,
            tops_up=row.pay_basis == "deliverable",
            free_minor=max(free[escrow].available_minor, 0),
            seats=row.seats,
        )
        for row, escrow in zip(rows, escrows, strict=True)
    )


def room_of(
    session: Session, expert_ids: Sequence[UUID], *, at: datetime
) -> dict[UUID, tuple[int, int]]:
    """Seats and seconds that experts have left, once no other run can take them away."""
    is_live = Offer.state.in_(LIVE)
    done = (Offer.state == "completed") & (Offer.ended_at >= monday_before(at))
    rows = session.execute(
        select(
            Expert.id,
            Expert.max_concurrent - func.count(Offer.id).filter(is_live),
            Expert.weekly_hours * 3600
            - func.coalesce(func.sum(Offer.expected_s).filter(or_(is_live, done)), 0),
        )
        .outerjoin(Offer, Offer.expert_id == Expert.id)
        .where(Expert.id.in_(expert_ids), Expert.state.in_(WORKING))
        .group_by(Expert.id)
    )
    return {found: (int(seats), int(seconds)) for found, seats, seconds in rows}


def taken_pairs(session: Session, task_ids: Sequence[UUID]) -> set[tuple[UUID, UUID]]:
    """Which experts cannot be offered which of some tasks, because they were before."""
    rows = session.execute(
        select(Offer.task_id, Offer.expert_id).where(
            Offer.task_id.in_(task_ids), Offer.state.not_in(GONE)
        )
    )
    return {(row.task_id, row.expert_id) for row in rows}
