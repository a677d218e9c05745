"""Reads about what labs paid in, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Select, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.fundings.models import Funding
from market.fundings.rules import FundingNotFound
from market.projects.models import Project
from payouts import chart
from payouts.chart import AccountRef, Code, account_id
from payouts.ledger import Balance, balance, balances
from payouts.ledger_models import JournalEntry, LedgerAccount, Posting
from payouts.models import Funding as PaidIn


@dataclass(frozen=True, slots=True)
class ProjectMoney:
    """What a project was given, and what became of it: given = reserved + spent + free.

    Units: minor units of `currency`.
    """

    project_id: UUID
    name: str
    currency: str
    given_minor: int
    reserved_minor: int
    spent_minor: int
    free_minor: int


@dataclass(frozen=True, slots=True)
class LabMoney:
    """What a lab paid in, in one currency: funded = given to projects + refunded + unassigned.

    `reserved_minor`, `spent_minor` and `free_minor` are those of the projects together.
    `unsettled_minor` has arrived and can still be taken back by the lab's bank; it is not funded
    yet.

    Units: minor units of `currency`.
    """

    currency: str
    funded_minor: int
    unsettled_minor: int
    refunded_minor: int
    given_minor: int
    unassigned_minor: int
    reserved_minor: int
    spent_minor: int
    free_minor: int
    projects: tuple[ProjectMoney, ...]


@dataclass(frozen=True, slots=True)
class BudgetLevel:
    """What a project that is live has free, what it spent lately, and what its lab was told.

    Units: minor units of `currency`.
    """

    project_id: UUID
    organisation_id: UUID
    currency: str
    free_minor: int
    spent_minor: int
    warned: str | None


_LEVELS = text(
    """
    select p.id, p.organisation_id, p.currency, b.posted_minor - b.promised_minor,
        coalesce(s.spent, 0)::bigint, p.budget_warned
    from market.project p
    join payouts.ledger_account a
        on a.owner_id = p.id and a.code = 'project_escrow' and a.currency = p.currency
    join payouts.ledger_balance b on b.account_id = a.id
    left join (
        select project_id, sum(pay_minor + fee_minor) as spent
        from market.earning where at > :since group by project_id
    ) s on s.project_id = p.id
    where p.state = 'live' and (p.budget_warned is not null
        or b.posted_minor - b.promised_minor <= coalesce(s.spent, 0) * :days)
    order by p.id
    """
).bindparams(bindparam("since", type_=DateTime(timezone=True)))


def budget_levels(session: Session, *, since: datetime, days: float) -> list[BudgetLevel]:
    """The live projects whose budget would not last `days` at the pace since a moment a day ago,
    and those whose labs were told so before.

    A budget has a floor, so that its balance row is the whole of it.
    """
    rows = session.execute(_LEVELS, {"since": since, "days": days})
    return [BudgetLevel(*row) for row in rows]


def funding(session: Session, funding_id: UUID) -> Funding:
    """One funding.

    Raises:
        FundingNotFound.
    """
    found = session.scalar(select(Funding).where(Funding.id == funding_id))
    if found is None:
        raise FundingNotFound(funding_id)
    return found


def fundings(*, state: str | None = None) -> Select[Funding]:
    """Fundings, as a statement to page through."""
    wanted = select(Funding)
    return wanted if state is None else wanted.where(Funding.state == state)


def refundable(session: Session, found: Funding) -> int:
    """How much of a funding can go back: what is left of it, and what its lab has free.

    Units: minor units.
    """
    paid = session.get(PaidIn, found.id)
    if paid is None or paid.charge_id is None:
        return 0
    free = balance(session, chart.lab_funding(found.organisation_id, found.currency))
    return min(paid.amount_minor - paid.refunded_minor, free.available_minor)


def lab_money(session: Session, organisation_id: UUID) -> list[LabMoney]:
    """By currency, what a lab paid in and what became of it, from the ledger alone."""
    projects = session.execute(
        select(Project.id, Project.name, Project.currency)
        .where(Project.organisation_id == organisation_id)
        .order_by(Project.id)
    ).all()
    currencies = sorted(
        {one.currency for one in projects}
        | set(
            session.scalars(
                select(LedgerAccount.currency).where(
                    LedgerAccount.tenant_id == organisation_id,
                    LedgerAccount.code.in_((Code.LAB_FUNDING, Code.LAB_FUNDING_UNSETTLED)),
                )
            )
        )
    )
    found = []
    for currency in currencies:
        free = chart.lab_funding(organisation_id, currency)
        unsettled = chart.lab_funding_unsettled(organisation_id, currency)
        refund = chart.refund_to(organisation_id, currency)
        budgets = {
            one.id: chart.project_budget(one.id, organisation_id, currency)
            for one in projects
            if one.currency == currency
        }
        figures = balances(session, [free, unsettled, *budgets.values()])
        given = _net_from(session, free, list(budgets.values()))
        refunded = _net_from(session, free, [refund]).get(refund, 0)
        lines = tuple(
            _project_money(
                one.id, one.name, currency, figures[budgets[one.id]], given[budgets[one.id]]
            )
            for one in projects
            if one.id in budgets
        )
        total_given = sum(line.given_minor for line in lines)
        left = figures[free]
        found.append(
            LabMoney(
                currency=currency,
                funded_minor=left.posted_minor + total_given + refunded,
                unsettled_minor=figures[unsettled].posted_minor,
                refunded_minor=refunded,
                given_minor=total_given,
                unassigned_minor=left.posted_minor,
                reserved_minor=sum(line.reserved_minor for line in lines),
                spent_minor=sum(line.spent_minor for line in lines),
                free_minor=sum(line.free_minor for line in lines),
                projects=lines,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the money is that a project has spent on lines of pay: accrued for work that waits for
    its approval or a decision, owed or on its way, paid into a bank, and our fee on all of them.

    Units: minor units of the project's currency.
    """

    accrued_minor: int = 0
    owed_minor: int = 0
    paid_minor: int = 0
    fee_minor: int = 0


_SPENT = text(
    """
    select e.project_id,
        coalesce(sum(e.pay_minor) filter (where e.state in ('accrued', 'disputed')), 0)::bigint,
        coalesce(sum(e.pay_minor) filter (
            where e.state not in ('accrued', 'disputed') and p.state is distinct from 'paid'
        ), 0)::bigint,
        coalesce(sum(e.pay_minor) filter (where p.state = 'paid'), 0)::bigint,
        sum(e.fee_minor)::bigint
    from market.earning e left join payouts.payout p on p.id = e.payout_id
    where e.project_id = any(:project_ids) and e.state <> 'withheld'
    group by e.project_id
    """
)


def spent_by_project(session: Session, project_ids: Sequence[UUID]) -> dict[UUID, Spent]:
    """How far the money is that some projects have spent, by their ids.

    Read as the platform: lines of pay are their experts', and only sums are told.
    """
    rows = session.execute(_SPENT, {"project_ids": list(project_ids)})
    found = {project_id: Spent(*sums) for project_id, *sums in rows}
    return {one: found.get(one, Spent()) for one in project_ids}


def refundable_of_lab(session: Session, organisation_id: UUID, money: LabMoney) -> int:
    """How much can go back to whoever paid: what no project was given, as far as what was paid in
    one by one is left. Units: minor units of `money.currency`.

    Read as the platform, which alone sees what became of payments.
    """
    left = session.scalar(
        select(func.coalesce(func.sum(PaidIn.amount_minor - PaidIn.refunded_minor), 0)).where(
            PaidIn.lab_id == organisation_id,
            PaidIn.currency == money.currency,
            PaidIn.charge_id.is_not(None),
        )
    )
    return min(int(left or 0), max(0, money.unassigned_minor))


def _project_money(
    project_id: UUID, name: str, currency: str, now_at: Balance, given_minor: int
) -> ProjectMoney:
    return ProjectMoney(
        project_id=project_id,
        name=name,
        currency=currency,
        given_minor=given_minor,
        reserved_minor=now_at.pending_debit_minor,
        spent_minor=given_minor - now_at.posted_minor,
        free_minor=now_at.available_minor,
    )


def _net_from(
    session: Session, source: AccountRef, targets: list[AccountRef]
) -> dict[AccountRef, int]:
    """What each target has been given by the source, less what it gave back; posted money only."""
    by_id = {account_id(one): one for one in targets}
    found = dict.fromkeys(targets, 0)
    for giver, taker, sign in (
        (Posting.debit_account_id, Posting.credit_account_id, 1),
        (Posting.credit_account_id, Posting.debit_account_id, -1),
    ):
        rows = session.execute(
            select(taker, func.sum(Posting.amount_minor))
            .join(JournalEntry, JournalEntry.id == Posting.entry_id)
            .where(
                giver == account_id(source),
                taker.in_(list(by_id)),
                JournalEntry.phase == "posted",
            )
            .group_by(taker)
        )
        for account, total in rows:
            found[by_id[account]] += sign * int(total)
    return found
