"""Ledger accounts as rows: opened when money first goes to them, and never changed."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from payouts.chart import AccountRef, Code
from payouts.errors import AccountMismatch
from payouts.ledger_models import LedgerAccount


def open_accounts(session: Session, accounts: Mapping[UUID, AccountRef]) -> None:
    """Open the ledger accounts that are not there yet."""
    # In the order of their ids, so that two that open the same ones do not wait for each other.
    rows = [
        {
            "id": found,
            "code": accounts[found].code,
            "owner_id": accounts[found].owner_id,
            "currency": accounts[found].currency,
            "tenant_id": accounts[found].tenant_id,
            "normal_side": accounts[found].row.normal_side,
            "has_floor": accounts[found].row.has_floor,
        }
        for found in sorted(accounts)
    ]
    session.execute(insert(LedgerAccount).on_conflict_do_nothing(), rows)


def first_unknown(session: Session, accounts: Mapping[UUID, AccountRef]) -> AccountRef:
    """One of the accounts that are there under other facts than these."""
    known = set(
        session.scalars(select(LedgerAccount.id).where(LedgerAccount.id.in_(list(accounts))))
    )
    return next(ref for found, ref in accounts.items() if found not in known)


def open_missing(session: Session, accounts: Mapping[UUID, AccountRef]) -> None:
    """Open those ledger accounts that are not there, without touching the others.

    Raises:
        AccountMismatch: one is there under other facts.
    """
    known = set(
        session.scalars(select(LedgerAccount.id).where(LedgerAccount.id.in_(list(accounts))))
    )
    missing = {found: ref for found, ref in accounts.items() if found not in known}
    if not missing:
        return
    open_accounts(session, missing)
    refused = session.scalar(
        select(func.count()).where(LedgerAccount.id.in_(list(missing)))
    ) != len(missing)
    if refused:
        raise AccountMismatch(first_unknown(session, missing))


def account_of(session: Session, account: UUID) -> AccountRef:
    """What a ledger account that is there stands for."""
    row = session.get_one(LedgerAccount, account)
    return AccountRef(Code(row.code), row.owner_id, row.currency, row.tenant_id)
