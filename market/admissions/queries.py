"""Reads of admissions: the queue, and what a domain's work and hands are forecast to be."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, exists, func, select, text
from sqlalchemy.orm import Session

from market.admissions.models import Admission, AdmissionTerms
from market.admissions.rules import RECORD_D, AdmissionNotFound, Forecast, Terms
from market.experts.models import Expert
from market.experts.rules import DOMAINS_MEET, WORKING
from market.explanations.queries import listed
from market.filters import narrowed
from market.forecasts.rules import Interval, time_for
from market.tasks.rules import OFFERABLE

MEETS = DOMAINS_MEET.format(one="{column}", other=":domain")

FORECAST = """
    with hands as (
        select e.id, e.weekly_hours from market.expert e where e.state in ({working}) and (
            exists (select from market.expert_domain d where d.expert_id = e.id
                and d.level = 'qualified' and {d_meets})
            or exists (select from market.admission a where a.person_id = e.id
                and a.state in ('admitted', 'onboarded') and {a_meets})
            or exists (select from market.offer o join market.task w on w.id = o.task_id
                where o.expert_id = e.id and o.state = 'completed'
                    and o.ended_at > :since and {w_meets}))
    ), came as (
        select floor(extract(epoch from cast(:at as timestamptz) - t.created_at) / 86400)::int
            as day, sum(t.expected_s) as work_s
        from market.task t join market.task_slot s on s.task_id = t.id
        join market.project p on p.id = t.project_id
        where t.created_at > :since and t.created_at <= :at and {t_meets}
            and t.state not in ('draft', 'cancelled', 'expired')
            and p.state in ('live', 'paused', 'draining', 'settling', 'closed', 'archived')
        group by 1
    )
    select (select coalesce(sum(t.expected_s), 0) from market.task t
            join market.task_slot s on s.task_id = t.id and s.state = 'open'
            join market.project p on p.id = t.project_id and p.state = 'live'
            where t.state in ({offerable}) and {t_meets})::bigint as backlog_s,
        (select count(*) from hands) as experts,
        (select coalesce(sum(weekly_hours), 0) * 3600 from hands)::bigint as capacity_s,
        (select coalesce(json_object_agg(day, work_s), '{{}}') from came) as came,
        array(select a.id from market.admission a
            where a.state in ('admitted', 'onboarded') and {a_meets}) as counted
    """

ADMITTED_SINCE = """
    select coalesce(sum(e.weekly_hours), 0)::bigint * 3600 from market.admission a
    join market.expert e on e.id = a.person_id and e.state in ({working})
    where a.state in ('admitted', 'onboarded') and a.id <> all(:counted) and {a_meets}
    """

FIRST_OFFER = """
    select min(o.created_at) from market.offer o join market.task t on t.id = o.task_id
    where o.expert_id = :expert and o.created_at >= :since and {meets}
    """

_FORECAST = text(
    FORECAST.format(
        working=listed(WORKING),
        offerable=listed(OFFERABLE),
        d_meets=MEETS.format(column="d.domain"),
        a_meets=MEETS.format(column="a.domain"),
        w_meets=MEETS.format(column="w.domain"),
        t_meets=MEETS.format(column="t.domain"),
    )
)

_ADMITTED_SINCE = text(
    ADMITTED_SINCE.format(working=listed(WORKING), a_meets=MEETS.format(column="a.domain"))
)

_SHARES_WORK = text(MEETS.format(column="market.admission.domain"))

_MAY_WORK = exists().where(
    Expert.id == Admission.person_id, Expert.state.in_(WORKING), Expert.weekly_hours > 0
)

_FIRST_OFFER = text(FIRST_OFFER.format(meets=MEETS.format(column="t.domain")))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an application stands in its domain's queue, why, and when its turn may come.

    Units: weekly seconds; days from now.
    """

    position: int
    work_s: float
    capacity_s: int
    experts: int
    sentence: str
    turn: Interval | None


def admission(
    session: Session, admission_id: UUID, *, person_id: UUID | None = None, lock: bool = False
) -> Admission:
    """The admission with this id, if the caller may see it, of one person or of anybody; locked,
    when it is to be changed.

    Raises:
        AdmissionNotFound.
    """
    statement = admissions(person_id=person_id).where(Admission.id == admission_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise AdmissionNotFound(admission_id)
    return found


def admissions(*, person_id: UUID | None = None, state: str | None = None) -> Select[Admission]:
    """Admissions that the caller may see, as a statement to page through."""
    return narrowed(select(Admission), (Admission.person_id, person_id), (Admission.state, state))


def terms_in_force(session: Session, at: datetime) -> Terms:
    """Under what people are taken on at a time: the terms that were published last."""
    row = session.scalars(
        select(AdmissionTerms)
        .where(AdmissionTerms.starts_at <= at)
        .order_by(AdmissionTerms.starts_at.desc(), AdmissionTerms.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return Terms()
    return Terms(
        load=row.load,
        horizon_d=row.horizon_d,
        within_d=row.within_d,
        guarantee_s=row.guarantee_s,
        fee_minor=row.fee_minor,
        budget_minor=row.budget_minor,
        pass_score=row.pass_score,
    )


def domain_forecast(session: Session, domain: str, *, at: datetime) -> Forecast:
    """The work that waits and comes in a domain, and the hours of those who are there.

    Hands are those whom a test has shown the domain, who completed work in it within the record,
    and who were admitted and are on their way. Runs as the platform.
    """
    since = at - timedelta(days=RECORD_D)
    row = session.execute(
        _FORECAST,
        {"domain": domain, "at": at, "since": since},
    ).one()
    came = {int(day): int(work) for day, work in row.came.items()}
    return Forecast(
        backlog_s=row.backlog_s,
        daily_s=tuple(came.get(day, 0) for day in reversed(range(RECORD_D))),
        experts=row.experts,
        capacity_s=row.capacity_s,
        counted=frozenset(row.counted),
    )


def admitted_since(session: Session, domain: str, found: Forecast) -> int:
    """The hours a week of whoever was admitted to a domain since its forecast was made.

    Units: seconds.
    """
    return int(
        session.scalar(_ADMITTED_SINCE, {"domain": domain, "counted": list(found.counted)}) or 0
    )


def promised_minor(session: Session, currency: str) -> int:
    """What is promised to people who were admitted and not yet offered work, in one currency.

    Units: minor units.
    """
    return int(
        session.scalar(
            select(func.coalesce(func.sum(Admission.guarantee_minor), 0)).where(
                Admission.state.in_(("admitted", "onboarded")), Admission.currency == currency
            )
        )
        or 0
    )


def waiting_rows(session: Session) -> list[tuple[UUID, str]]:
    """Applications that wait, with their domains, in the order of their turn, of those who may be
    offered work.

    Whoever may not keeps its turn, and holds up nobody.
    """
    rows = session.execute(
        select(Admission.id, Admission.domain)
        .where(Admission.state == "waiting", _MAY_WORK)
        .order_by(Admission.id)
    )
    return [(admission_id, domain) for admission_id, domain in rows]


def asked_before(session: Session, row: Admission) -> int:
    """How many wait for the same work and asked earlier; the queue is one for all fields that
    share their work.
    """
    return (
        session.scalar(
            select(func.count())
            .select_from(Admission)
            .where(
                Admission.state == "waiting",
                Admission.id < row.id,
                _MAY_WORK,
                _SHARES_WORK.bindparams(domain=row.domain),
            )
        )
        or 0
    )


def under_way(session: Session, *, limit: int, after: UUID | None = None) -> list[UUID]:
    """Admissions whose test or first offer is still to come, those after one of them."""
    found = select(Admission.id).where(Admission.state.in_(("admitted", "onboarded")))
    if after is not None:
        found = found.where(Admission.id > after)
    return list(session.scalars(found.order_by(Admission.id).limit(limit)))


def first_offer_at(session: Session, row: Admission) -> datetime | None:
    """When the first work of its domain was offered to whoever was admitted, since then."""
    found: datetime | None = session.scalar(
        _FIRST_OFFER, {"expert": row.person_id, "since": row.decided_at, "domain": row.domain}
    )
    return found


def place_of(session: Session, row: Admission, *, at: datetime) -> Place:
    """Where an application stands; runs as the platform, since it counts others."""
    terms = terms_in_force(session, at)
    found = domain_forecast(session, row.domain, at=at)
    position = asked_before(session, row) + 1
    days = session.scalars(
        select(Admission.decided_at).where(
            Admission.decided_at > at - timedelta(days=RECORD_D),
            _SHARES_WORK.bindparams(domain=row.domain),
        )
    )
    daily = [0] * RECORD_D
    for decided_at in days:
        if decided_at is not None and decided_at <= at:
            daily[-1 - min((at - decided_at).days, RECORD_D - 1)] += 1
    work_s = found.work_s(terms.horizon_d)
    hours = f"{work_s / 3600:,.0f} hours of work a week are forecast"
    there = f"the {found.experts} experts there have {found.capacity_s / 3600:,.0f}"
    if found.room_s(terms) < row.weekly_hours * 3600:
        words = f"{hours} in this field, and {there}; you are taken on when there is enough for you"
    elif position > 1:
        words = f"{hours}; {position - 1} asked before you"
    else:
        words = "there is room; you are taken on as soon as a promise can be given to you"
    return Place(
        position, work_s, found.capacity_s, found.experts, words, time_for(position, daily)
    )
