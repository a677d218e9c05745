from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from payouts import chart
from payouts.chart import CHART, AccountRef, Code, Owner, Side, account_id
from payouts.errors import UnknownCurrency
from payouts.ledger_models import LedgerAccount, LedgerBalance


def account_of(code: Code) -> AccountRef:
    """Some account of a code, its owner and its tenant as the chart has them."""
    owner = CHART[code].owner
    owner_id = None if owner is Owner.PLATFORM else uuid4()
    if owner is Owner.PROJECT:
        return AccountRef(code, owner_id, "USD", uuid4())
    return AccountRef(
        code, owner_id, "USD", owner_id if owner in (Owner.LAB, Owner.EXPERT) else None
    )


def open_account(db: Session, account: AccountRef, **other: object) -> None:
    values = {
        "id": account_id(account),
        "code": account.code,
        "owner_id": account.owner_id,
        "currency": account.currency,
        "tenant_id": account.tenant_id,
        "normal_side": account.row.normal_side,
        "has_floor": account.row.has_floor,
    }
    db.execute(insert(LedgerAccount).values({**values, **other}))


def test_every_code_of_the_design_has_its_row() -> None:
    assert set(CHART) == set(Code)
    floors = {code for code, row in CHART.items() if row.has_floor}
    assert floors == {
        Code.LAB_FUNDING,
        Code.LAB_FUNDING_UNSETTLED,
        Code.PROJECT_ESCROW,
        Code.EXPERT_PAYABLE,
        Code.EXPERT_HELD,
        Code.RESERVE,
        Code.TAX_WITHHELD,
        Code.PAYOUT_IN_TRANSIT,
        Code.REFUND_IN_TRANSIT,
        Code.EXPERT_RECEIVABLE,
    }


@pytest.mark.parametrize("code", Code)
def test_the_database_has_the_same_chart(db: Session, code: Code) -> None:
    account = account_of(code)
    open_account(db, account)
    kept = db.execute(
        select(LedgerBalance.normal_side, LedgerBalance.has_floor).where(
            LedgerBalance.account_id == account_id(account)
        )
    ).one()
    assert tuple(kept) == (CHART[code].normal_side, CHART[code].has_floor)


@pytest.mark.parametrize("code", Code)
def test_the_database_refuses_an_account_that_does_not_behave_as_its_code(
    db: Session, code: Code
) -> None:
    account = account_of(code)
    other_side = Side.CREDIT if account.row.normal_side is Side.DEBIT else Side.DEBIT
    for wrong in (
        {"normal_side": other_side},
        {"has_floor": not account.row.has_floor},
        {"code": "wallet"},
        {"owner_id": None if account.owner_id else uuid4(), "tenant_id": None},
        {"tenant_id": None if account.tenant_id else uuid4()},
        {"currency": "usd"},
    ):
        with pytest.raises(IntegrityError, match="ck_ledger_account"), db.begin_nested():
            open_account(db, account, **wrong)


def test_a_code_an_owner_and_a_currency_have_one_account(db: Session) -> None:
    for account in (chart.platform_fee(), chart.owed_to(uuid4())):
        open_account(db, account)
        with pytest.raises(IntegrityError, match="uq_ledger_account"), db.begin_nested():
            open_account(db, account, id=uuid4())


def test_an_accounts_id_follows_from_its_name_alone() -> None:
    expert = uuid4()
    account = chart.owed_to(expert)
    assert account_id(account) == account_id(chart.owed_to(expert))
    others = [
        chart.held_for(expert),
        chart.owed_to(uuid4()),
        chart.owed_to(expert, "EUR"),
        replace(account, tenant_id=uuid4()),
    ]
    assert len({account_id(other) for other in [account, *others]}) == 5


def test_a_projects_budget_belongs_to_its_lab() -> None:
    project, lab = uuid4(), uuid4()
    budget = chart.project_budget(project, lab)
    assert (budget.owner_id, budget.tenant_id) == (project, lab)
    assert str(budget) == f"project_escrow:{project} (USD)"


def test_no_account_is_named_in_a_currency_without_books() -> None:
    with pytest.raises(UnknownCurrency):
        chart.stripe_clearing("XXX")


def test_nobody_moves_a_balance_but_a_posting(db: Session) -> None:
    open_account(db, chart.bank())
    for statement in (
        "update payouts.ledger_balance set posted_minor = 1",
        "delete from payouts.ledger_balance",
        "insert into payouts.unfolded_line (account_id) select id from payouts.ledger_account",
    ):
        with pytest.raises(Exception, match="permission denied"), db.begin_nested():
            db.execute(text(statement))
