"""Reads of what people earned an hour."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.wages.rules import FEWEST_EXPERTS, an_hour


@dataclass(frozen=True, slots=True)
class Wage:
    """What a project paid its experts for all their minutes: paid, capped, rejected and redone.

    Units: seconds; minor units of `currency`.
    """

    currency: str
    experts: int
    seconds: int
    pay_minor: int

    @property
    def minor_per_hour(self) -> int:
        """Pay over every recorded second, to the nearest unit, halves down."""
        return an_hour(self.pay_minor, self.seconds)


_WAGE = text(
    """
    select p.currency, t.experts, t.seconds::bigint, coalesce(e.pay, 0)::bigint
    from market.project p,
        lateral (
            select count(distinct expert_id) as experts, coalesce(sum(seconds), 0) as seconds
            from market.time_entry where project_id = p.id
        ) t,
        lateral (
            select sum(pay_minor) as pay from market.earning
            where project_id = p.id and state <> 'withheld'
        ) e
    where p.id = :project_id and p.state <> 'draft'
    """
)


def effective_wage(session: Session, project_id: UUID) -> Wage | None:
    """What work on a project came to an hour; None where so few worked that it would tell of one.

    Read as the platform: it is about everybody, and shows nobody. Bonuses count, fees do not.
    """
    row = session.execute(_WAGE, {"project_id": project_id}).one_or_none()
    if row is None or row.experts < FEWEST_EXPERTS or not row.seconds:
        return None
    return Wage(*row)


@dataclass(frozen=True, slots=True)
class OwnWage:
    """What an expert earned in all, in one currency, and every minute that went into it: of work,
    whatever became of it, and of tests and baselines, paid or not.

    Units: seconds; minor units of `currency`.
    """

    currency: str
    pay_minor: int
    work_s: int
    test_s: int

    @property
    def minor_per_hour(self) -> int | None:
        """Pay over all of the time; None where there is none."""
        whole = self.work_s + self.test_s
        return an_hour(self.pay_minor, whole) if whole else None


# Tests are in no currency: their time stands with the one that most was earned in.
_OWN = text(
    """
    with pay as (
        select currency, sum(pay_minor)::bigint as minor from market.earning
        where expert_id = :expert_id and state <> 'withheld' group by currency
    ), work as (
        select p.currency, sum(e.seconds)::bigint as seconds
        from market.time_entry e join market.project p on p.id = e.project_id
        where e.expert_id = :expert_id and e.state <> 'voided' group by p.currency
    ), tests as (
        select ceil(coalesce(sum(extract(epoch from
            least(i.closed_at, i.due_at) - i.asked_at)), 0))::bigint as seconds
        from market.sitting s join market.sitting_item i on i.sitting_id = s.id
        where s.person_id = :expert_id
    ), baselines as (
        select ceil(coalesce(sum(extract(epoch from
            least(a.closed_at, a.due_at) - a.asked_at)), 0))::bigint as seconds
        from market.eval_answer a where a.person_id = :expert_id
    ), known as (
        select currency from pay union select currency from work
    ), told as (
        select currency from known union all select 'USD' where not exists (select from known)
    )
    select currency, coalesce(pay.minor, 0) as pay_minor, coalesce(work.seconds, 0) as work_s,
        case when row_number() over (order by coalesce(pay.minor, 0) desc, currency) = 1
            then tests.seconds + baselines.seconds else 0 end as test_s
    from told left join pay using (currency) left join work using (currency), tests, baselines
    order by currency
    """
)


def own_wages(session: Session, expert_id: UUID) -> list[OwnWage]:
    """What an expert earned an hour over all its minutes, by currency.

    Read as the platform, since projects and baselines are their labs'; only its own time is read.
    What nobody records, such as reading offers, is not in it.
    """
    rows = session.execute(_OWN, {"expert_id": expert_id})
    return [OwnWage(*row) for row in rows]
