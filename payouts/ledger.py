"""The ledger: entries written once per key, reservations, and what each ledger account comes to.

Writing is one call of `payouts.post_entry` in the database, which locks, checks and writes in one
round trip; a refusal leaves the caller's transaction usable. Lines apply in their order, and what
an entry brings to an account cannot be spent by the same entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    DateTime,
    Text,
    Uuid,
    bindparam,
    column,
    select,
    text,
)
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.accounts import account_of, first_unknown, open_accounts
from payouts.chart import AccountRef, Code, Side, account_id
from payouts.errors import (
    AccountMismatch,
    CurrencyMismatch,
    EmptyEntry,
    EntryConflict,
    FloorBreached,
    NotPending,
    NotReversible,
    PayoutsError,
    PendingExceeded,
    PendingResolved,
    SameAccount,
    UnknownEntry,
)
from payouts.ledger_models import JournalEntry, Posting
from payouts.money import checked_amount

_ENTRY_COLUMNS = tuple(JournalEntry.__table__.columns)
_REFUSAL_COLUMNS = (
    column("refusal", Text()),
    column("debit_id", Uuid()),
    column("credit_id", Uuid()),
    column("available_minor", BigInteger()),
    column("wanted_minor", BigInteger()),
)
_PARAMETERS: tuple[BindParameter[Any], ...] = (
    bindparam("id", type_=Uuid()),
    bindparam("currencies", type_=ARRAY(Text())),
    bindparam("amounts", type_=ARRAY(BigInteger())),
    *(bindparam(name, type_=DateTime(timezone=True)) for name in ("at", "expires_at")),
    *(bindparam(name, type_=ARRAY(Uuid())) for name in ("accounts", "debits", "credits")),
    *(
        bindparam(name, type_=Text())
        for name in ("key", "kind", "phase", "memo", "resolves", "reverses")
    ),
)

# One round trip: the function's answer carries the entry, whole, or the facts of a refusal.
_POST_ENTRY = select(JournalEntry, *_REFUSAL_COLUMNS).from_statement(
    text(
        "select (entry).*, refusal, debit_id, credit_id, available_minor, wanted_minor"
        " from payouts.post_entry(:id, :key, :kind, :phase, :at, :memo, :expires_at, :resolves,"
        " :reverses, :accounts, :debits, :credits, :currencies, :amounts)"
    )
    .bindparams(*_PARAMETERS)
    .columns(*_ENTRY_COLUMNS, *_REFUSAL_COLUMNS)
)

_OF_THE_OTHER = {
    "unknown_entry": UnknownEntry,
    "not_pending": NotPending,
    "pending_resolved": PendingResolved,
    "not_reversible": NotReversible,
}
"""Refusals about the entry that was to be resolved or reversed."""

_BALANCES = text(
    """
    select b.account_id,
        b.posted_minor + case b.normal_side when 'debit' then u.debit else -u.debit end,
        case b.normal_side when 'debit' then b.expected_minor else b.promised_minor end
            + u.pending_debit,
        case b.normal_side when 'debit' then b.promised_minor else b.expected_minor end
            + u.pending_credit,
        b.normal_side
    from payouts.ledger_balance b
    cross join lateral (
        select coalesce(sum(posted_debit_minor - posted_credit_minor), 0)::bigint as debit,
            coalesce(sum(pending_debit_minor), 0)::bigint as pending_debit,
            coalesce(sum(pending_credit_minor), 0)::bigint as pending_credit
        from payouts.unfolded_line where account_id = b.account_id and not b.has_floor
    ) u
    where b.account_id = any(:accounts)
    """
).bindparams(bindparam("accounts", type_=ARRAY(Uuid())))

_TRIAL_BALANCE = text(
    """
    with figure as (
        select account_id,
            case normal_side when 'debit' then posted_minor else -posted_minor end as net
        from payouts.ledger_balance
        union all
        select account_id, posted_debit_minor - posted_credit_minor from payouts.unfolded_line
    ), total as (
        select a.code, a.currency, sum(f.net)::bigint as net
        from figure f join payouts.ledger_account a on a.id = f.account_id
        group by a.code, a.currency
    )
    select code, currency, greatest(net, 0) as debit_minor, greatest(-net, 0) as credit_minor
    from total where net <> 0 order by currency, code
    """
)


@dataclass(frozen=True, slots=True)
class Line:
    """One amount, from the ledger account it credits to the one it debits.

    Units: minor units of the accounts' currency.
    Raises: BadAmount, CurrencyMismatch, SameAccount.
    """

    debit: AccountRef
    credit: AccountRef
    amount_minor: int

    def __post_init__(self) -> None:
        checked_amount(self.amount_minor)
        if self.debit.currency != self.credit.currency:
            raise CurrencyMismatch(self.debit.currency, self.credit.currency)
        if self.debit == self.credit:
            raise SameAccount(self.debit)


@dataclass(frozen=True, slots=True)
class Balance:
    """What one ledger account comes to; `posted_minor` is positive on its normal side.

    `available_minor` is what could still be taken from it: reservations that would lessen it
    count as gone, and those that would raise it count for nothing until they are posted.
    """

    posted_minor: int
    pending_debit_minor: int
    pending_credit_minor: int
    available_minor: int


@dataclass(frozen=True, slots=True)
class TrialRow:
    """What all ledger accounts of one code and currency come to, on the side where it stands."""

    code: Code
    currency: str
    debit_minor: int
    credit_minor: int


@dataclass(frozen=True, slots=True)
class EntryRefusal:
    """What the database says of an entry that it did not write."""

    refusal: str
    debit_id: UUID
    credit_id: UUID
    available_minor: int
    wanted_minor: int


def post_entry(
    session: Session, *, key: str, kind: str, lines: Sequence[Line], at: datetime, memo: str = ""
) -> JournalEntry:
    """Move money, once: the same key with the same kind and lines finds the entry it made before.

    Raises:
        EmptyEntry, EntryConflict, FloorBreached, AccountMismatch.
    """
    if not lines:
        raise EmptyEntry(key)
    return _write(session, key, kind, "posted", lines, at, memo)


def reserve(
    session: Session,
    *,
    key: str,
    kind: str,
    lines: Sequence[Line],
    at: datetime,
    expires_at: datetime | None = None,
    memo: str = "",
) -> JournalEntry:
    """Promise money without moving it: it cannot be spent otherwise until posted or voided.

    Raises:
        EmptyEntry, EntryConflict, FloorBreached, AccountMismatch.
    """
    if not lines:
        raise EmptyEntry(key)
    return _write(session, key, kind, "pending", lines, at, memo, expires_at=expires_at)


def post_pending(
    session: Session,
    pending_key: str,
    *,
    key: str,
    lines: Sequence[Line],
    at: datetime,
    kind: str | None = None,
    memo: str = "",
) -> JournalEntry:
    """Move what was reserved, or part of it; the rest is free again, and the reservation over.

    Each line stays between two ledger accounts that were reserved between, and within what was
    reserved there. The kind is the reservation's own unless another is given.

    Raises:
        EmptyEntry, EntryConflict, UnknownEntry, NotPending, PendingResolved, PendingExceeded.
    """
    if not lines:
        raise EmptyEntry(key)
    return _write(session, key, kind, "posted", lines, at, memo, resolves=pending_key)


def void_pending(
    session: Session,
    pending_key: str,
    *,
    key: str,
    at: datetime,
    kind: str | None = None,
    memo: str = "",
) -> JournalEntry:
    """Let all of a reservation go.

    Raises:
        EntryConflict, UnknownEntry, NotPending, PendingResolved.
    """
    return _write(session, key, kind, "voided", (), at, memo, resolves=pending_key)


def void_expired(session: Session, *, at: datetime, limit: int = 500) -> list[JournalEntry]:
    """Let go the reservations whose time was over at `at`, oldest first; safe to run twice."""
    resolution = JournalEntry.__table__.alias("resolution")
    overdue = session.scalars(
        select(JournalEntry.key)
        .outerjoin(resolution, resolution.c.resolves_id == JournalEntry.id)
        .where(JournalEntry.expires_at <= at, resolution.c.id.is_(None))
        .order_by(JournalEntry.expires_at, JournalEntry.id)
        .limit(limit)
    ).all()
    voided = []
    for key in overdue:
        try:
            voided.append(void_pending(session, key, key=f"expiry:{key}", at=at, memo="expired"))
        except PendingResolved:
            # Somebody posted or voided it since the list was read, which is as good.
            continue
    return voided


def reverse_entry(
    session: Session, original_key: str, *, key: str, at: datetime, memo: str = ""
) -> JournalEntry:
    """Take an entry back by one with the sides of every line changed; kind `reversal`.

    Raises:
        EntryConflict, UnknownEntry, NotReversible, FloorBreached.
    """
    return _write(session, key, None, "posted", (), at, memo, reverses=original_key)


def lines_of(session: Session, key: str) -> list[Line]:
    """The lines of an entry in their order, as they would be written again.

    Raises:
        UnknownEntry.
    """
    entry = session.scalars(select(JournalEntry).where(JournalEntry.key == key)).one_or_none()
    if entry is None:
        raise UnknownEntry(key)
    postings = session.scalars(
        select(Posting).where(Posting.entry_id == entry.id).order_by(Posting.number)
    )
    return [
        Line(
            account_of(session, one.debit_account_id),
            account_of(session, one.credit_account_id),
            one.amount_minor,
        )
        for one in postings
    ]


def balance(session: Session, account: AccountRef) -> Balance:
    """What a ledger account comes to now; nothing, when nothing was ever posted to it."""
    return balances(session, [account])[account]


def balances(session: Session, accounts: Sequence[AccountRef]) -> dict[AccountRef, Balance]:
    """What each of several ledger accounts comes to, at one moment."""
    rows = {
        found: _balance_of(*figures)
        for found, *figures in session.execute(
            _BALANCES, {"accounts": [account_id(a) for a in accounts]}
        )
    }
    return {account: rows.get(account_id(account), Balance(0, 0, 0, 0)) for account in accounts}


def trial_balance(session: Session) -> list[TrialRow]:
    """What the books come to by code and currency; the two columns sum to the same."""
    return [
        TrialRow(Code(row.code), row.currency, row.debit_minor, row.credit_minor)
        for row in session.execute(_TRIAL_BALANCE)
    ]


def fold_hot_accounts(session: Session) -> int:
    """Take the loose lines of accounts without a floor into their balance rows; how many it were.

    No balance changes by it. To be run every minute or so: a balance is read faster, the fewer
    lines are loose.
    """
    return int(session.execute(text("select payouts.fold_lines()")).scalar_one())


def chain_entries(session: Session, limit: int = 1000) -> int:
    """Append up to `limit` entries to the hash chain; how many it were.

    Commit soon after: the chain is locked until then, though nothing that posts waits for it.
    """
    statement = text("select payouts.chain_entries(:limit)")
    return int(session.execute(statement, {"limit": limit}).scalar_one())


def _balance_of(posted: int, pending_debit: int, pending_credit: int, normal_side: str) -> Balance:
    promised = pending_debit if normal_side == Side.CREDIT else pending_credit
    return Balance(posted, pending_debit, pending_credit, posted - promised)


def _write(
    session: Session,
    key: str,
    kind: str | None,
    phase: str,
    lines: Sequence[Line],
    at: datetime,
    memo: str,
    *,
    expires_at: datetime | None = None,
    resolves: str | None = None,
    reverses: str | None = None,
) -> JournalEntry:
    accounts = {account_id(a): a for line in lines for a in (line.debit, line.credit)}
    values = {
        "id": uuid7(),
        "key": key,
        "kind": kind,
        "phase": phase,
        "at": at,
        "memo": memo,
        "expires_at": expires_at,
        "resolves": resolves,
        "reverses": reverses,
        "accounts": list(accounts),
        "debits": [account_id(line.debit) for line in lines],
        "credits": [account_id(line.credit) for line in lines],
        "currencies": [line.debit.currency for line in lines],
        "amounts": [line.amount_minor for line in lines],
    }
    answer = session.execute(_POST_ENTRY, values).one()
    if answer.refusal == "unknown_account":
        open_accounts(session, accounts)
        answer = session.execute(_POST_ENTRY, values).one()
        if answer.refusal == "unknown_account":
            raise AccountMismatch(first_unknown(session, accounts))
    if answer.refusal is not None:
        facts = EntryRefusal(*answer[1:])
        raise refused_entry(session, facts, accounts, key, resolves or reverses or "")
    entry: JournalEntry = answer.JournalEntry
    return entry


def refused_entry(
    session: Session,
    facts: EntryRefusal,
    accounts: Mapping[UUID, AccountRef],
    key: str,
    other_key: str,
) -> PayoutsError:
    """A refusal of the database's in terms of the accounts and keys that were asked for."""

    def named(account: UUID) -> AccountRef:
        # A reversal names no accounts itself, so those of the original are read.
        return accounts.get(account) or account_of(session, account)

    if facts.refusal == "floor_breached":
        return FloorBreached(named(facts.debit_id), facts.available_minor, facts.wanted_minor)
    if facts.refusal == "pending_exceeded":
        debit, credit = named(facts.debit_id), named(facts.credit_id)
        return PendingExceeded(debit, credit, facts.available_minor, facts.wanted_minor)
    if facts.refusal == "entry_conflict":
        return EntryConflict(key)
    return _OF_THE_OTHER[facts.refusal](other_key)
