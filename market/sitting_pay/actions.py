"""How the time of a test, or of a baseline, becomes a line of pay; all as the platform."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.baselines.queries import eval_set
from market.earnings.actions import keep_from_recording, lock_pay
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.events import Event, emit
from market.people.models import Organisation
from market.projects.models import Project
from market.projects.queries import project
from market.qualifications.queries import qualification, sitting_rate
from market.sitting_pay.queries import baseline_seconds, paid_for, sitting_seconds
from market.sitting_pay.rules import HOUSE, TESTS, baseline_source
from market.sittings.queries import sitting
from payouts import chart, ledger
from payouts.errors import FloorBreached
from payouts.pay import fee_minor, pay_minor

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended('sitting_pay', 3))")


def accrue_sitting(session: Session, sitting_id: UUID, *, at: datetime) -> Earning | None:
    """Pay the time of a test that is over, once, by the rate that its invitation named.

    Nothing is due where the invitation said why it is unpaid, or no item was put.
    """
    row = sitting(session, sitting_id)
    asked = qualification(session, row.qualification_id)
    if row.state == "open" or asked.pay_minor_per_hour is None or asked.pay_currency is None:
        return None
    seconds = sitting_seconds(session, sitting_id)
    keep_from_recording(session)
    lock_pay(session, row.person_id)
    if seconds == 0 or paid_for(session, [sitting_id])[0]:
        return None
    return pay_from_house(
        session,
        row.person_id,
        kind="sitting",
        seconds=seconds,
        rate_minor_per_hour=asked.pay_minor_per_hour,
        pay=pay_minor(seconds, asked.pay_minor_per_hour),
        currency=asked.pay_currency,
        source_id=sitting_id,
        note=f"Time of a test in {row.domain or 'reviewing'}",
        earned_at=row.begun_at,
        at=at,
    )


def pay_from_house(
    session: Session,
    person_id: UUID,
    *,
    kind: str,
    seconds: int,
    rate_minor_per_hour: int,
    pay: int,
    currency: str,
    source_id: UUID,
    note: str,
    earned_at: datetime,
    at: datetime,
) -> Earning:
    """Pay what the platform itself asked for or promised, once for each source, without a fee."""
    house = _house(session, at=at)
    line = Earning(
        organisation_id=house.organisation_id,
        project_id=house.id,
        expert_id=person_id,
        offer_id=None,
        week=week_of(earned_at),
        kind=kind,
        seconds=seconds,
        rate_minor_per_hour=rate_minor_per_hour,
        pay_minor=pay,
        fee_minor=0,
        currency=currency,
        entry_key=f"{kind}:{source_id}",
        at=at,
        state="approved",
        approved_at=at,
        source_id=source_id,
        note=note,
    )
    return _credit(session, line, [(chart.platform_fee(currency), pay)], at=at)


def accrue_baseline(
    session: Session, set_id: UUID, person_id: UUID, *, at: datetime
) -> Earning | None:
    """Pay the time that an expert's answers to a set took and no line has paid, from the project.

    Where the project has too little, the platform gives the rest and goes without its fee.
    """
    found = eval_set(session, set_id)
    owner = project(session, found.project_id)
    rate = owner.rate_minor_per_hour
    if rate is None:
        published = sitting_rate(session, at)
        # In another currency than the project's a published rate says nothing of what it pays.
        rate = published.rate_minor_per_hour if published.currency == owner.currency else None
    if rate is None:
        return None
    keep_from_recording(session)
    lock_pay(session, person_id)
    answered, total_s = baseline_seconds(session, set_id, person_id)
    sources = [baseline_source(set_id, person_id, n) for n in range(1, answered + 1)]
    paid_s, paid = paid_for(session, sources)
    if total_s <= paid_s:
        return None
    pay = max(pay_minor(total_s, rate) - paid, 0)
    fee = fee_minor(pay, owner.fee_basis_points)
    budget = chart.project_budget(owner.id, owner.organisation_id, owner.currency)
    free = ledger.balance(session, budget).available_minor
    from_budget = min(pay, max(free, 0))
    charged = min(fee, max(free, 0) - from_budget)
    line = Earning(
        organisation_id=owner.organisation_id,
        project_id=owner.id,
        expert_id=person_id,
        offer_id=None,
        week=week_of(at),
        kind="sitting",
        seconds=total_s - paid_s,
        rate_minor_per_hour=rate,
        pay_minor=pay,
        fee_minor=charged,
        currency=owner.currency,
        entry_key=f"baseline:{sources[-1]}",
        at=at,
        state="approved",
        approved_at=at,
        source_id=sources[-1],
        note=f"Time of the baseline {found.name}",
    )
    platform = chart.platform_fee(owner.currency)
    payers = [(budget, from_budget), (platform, pay - from_budget)]
    try:
        with session.begin_nested():
            return _credit(session, line, payers, at=at, fee_from=budget)
    except FloorBreached:
        # Somebody else took what was free since it was read.
        line.fee_minor = 0
        return _credit(session, line, [(platform, pay)], at=at)


def _credit(
    session: Session,
    line: Earning,
    payers: list[tuple[chart.AccountRef, int]],
    *,
    at: datetime,
    fee_from: chart.AccountRef | None = None,
) -> Earning:
    """Book a line and write it; it is free to pay out at once, because the server's clock proves
    the time and there is no work to look at.
    """
    expert = chart.owed_to(line.expert_id, line.currency)
    lines = [ledger.Line(payer, expert, amount) for payer, amount in payers if amount]
    if fee_from is not None and line.fee_minor:
        lines.append(ledger.Line(fee_from, chart.platform_fee(line.currency), line.fee_minor))
    if lines:
        ledger.post_entry(session, key=line.entry_key, kind=line.kind, lines=lines, at=at)
    session.add(line)
    session.flush()
    emit(
        session,
        Event.EARNING_APPROVED,
        line.id,
        at=at,
        organisation_id=None if line.organisation_id == HOUSE else line.organisation_id,
        person_id=line.expert_id,
        data={"kind": line.kind, "amount_minor": line.pay_minor, "currency": line.currency},
    )
    return line


def _house(session: Session, *, at: datetime) -> Project:
    """The platform's own project, that such lines belong to; made with the first of them."""
    found = session.get(Project, TESTS)
    if found is not None:
        return found
    session.execute(_ONE_AT_A_TIME)
    found = session.get(Project, TESTS, populate_existing=True)
    if found is not None:
        return found
    session.add(Organisation(id=HOUSE, name="Stumpwork", created_at=at))
    session.flush()
    made = Project(
        id=TESTS,
        organisation_id=HOUSE,
        name="Tests of the platform",
        created_at=at,
        fee_basis_points=0,
    )
    session.add(made)
    session.flush()
    return made
