"""Many reservations at once: one lock on what can be promised, one insert of all entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Text, Uuid, bindparam, select, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.accounts import open_missing
from payouts.chart import Side, account_id
from payouts.errors import EmptyEntry
from payouts.ledger import EntryRefusal, Line, refused_entry, reserve
from payouts.ledger_models import JournalEntry

_LOCK_FLOORS = text("select * from payouts.lock_floors(:accounts)").bindparams(
    bindparam("accounts", type_=ARRAY(Uuid()))
)

_MANY_ENTRIES = text(
    """
    insert into payouts.journal_entry (id, key, kind, phase, line_count, at, memo)
    select id, key, kind, 'pending', lines, :at, memo
    from unnest(:ids, :keys, :kinds, :counts, :memos) as entry (id, key, kind, lines, memo)
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("counts", type_=ARRAY(BigInteger())),
    bindparam("at", type_=DateTime(timezone=True)),
    *(bindparam(name, type_=ARRAY(Text())) for name in ("keys", "kinds", "memos")),
)

_MANY_POSTINGS = text(
    """
    insert into payouts.posting
        (entry_id, number, debit_account_id, credit_account_id, currency, amount_minor)
    select * from unnest(:entries, :numbers, :debits, :credits, :currencies, :amounts)
    """
).bindparams(
    bindparam("currencies", type_=ARRAY(Text())),
    *(bindparam(name, type_=ARRAY(Uuid())) for name in ("entries", "debits", "credits")),
    *(bindparam(name, type_=ARRAY(BigInteger())) for name in ("numbers", "amounts")),
)


# Entry by entry in the order given, as each call of the function sees what those before it wrote.
_POST_RESERVED = text(
    """
    select posted.refusal, posted.debit_id, posted.credit_id, posted.available_minor,
        posted.wanted_minor
    from unnest(:ids, :keys, :kinds, :reserved, :firsts, :lasts)
        as asked (id, key, kind, reserved, first, last)
    cross join lateral payouts.post_entry(asked.id, asked.key, asked.kind, 'posted', :at, '', null,
        asked.reserved, null, '{}', (:debits)[first:last], (:credits)[first:last],
        (:currencies)[first:last], (:amounts)[first:last]) as posted
    """
).bindparams(
    bindparam("at", type_=DateTime(timezone=True)),
    *(bindparam(name, type_=ARRAY(Uuid())) for name in ("ids", "debits", "credits")),
    *(bindparam(name, type_=ARRAY(Text())) for name in ("keys", "kinds", "reserved", "currencies")),
    *(bindparam(name, type_=ARRAY(BigInteger())) for name in ("firsts", "lasts", "amounts")),
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money to be promised under a key, as `reserve` takes it."""

    key: str
    kind: str
    lines: tuple[Line, ...]
    memo: str = ""


def reserve_many(
    session: Session, wanted: Sequence[Reservation], *, at: datetime
) -> frozenset[str]:
    """Promise money for many things at once, in a few statements, in the order given: the keys of
    those that are reserved. For the others the money does not reach; nothing is promised to them.

    A key that was reserved before with the same lines counts as reserved.

    Raises:
        EmptyEntry, EntryConflict, AccountMismatch.
    """
    empty = next((one.key for one in wanted if not one.lines), None)
    if empty is not None:
        raise EmptyEntry(empty)
    known = set(
        session.scalars(
            select(JournalEntry.key).where(JournalEntry.key.in_([one.key for one in wanted]))
        )
    )
    for one in wanted:
        if one.key in known:
            reserve(session, key=one.key, kind=one.kind, lines=one.lines, at=at, memo=one.memo)
    fresh = [one for one in wanted if one.key not in known]
    accounts = {
        account_id(a): a for one in fresh for line in one.lines for a in (line.debit, line.credit)
    }
    if not fresh:
        return frozenset(known)
    open_missing(session, accounts)
    left = {
        row.account_id: (row.normal_side, row.available_minor)
        for row in session.execute(_LOCK_FLOORS, {"accounts": sorted(accounts)})
    }
    granted = [one for one in fresh if _takes(left, one)]
    ids = [uuid7() for _ in granted]
    session.execute(
        _MANY_ENTRIES,
        {
            "ids": ids,
            "keys": [one.key for one in granted],
            "kinds": [one.kind for one in granted],
            "counts": [len(one.lines) for one in granted],
            "memos": [one.memo for one in granted],
            "at": at,
        },
    )
    rows = [
        (entry, number, line)
        for entry, one in zip(ids, granted, strict=True)
        for number, line in enumerate(one.lines, 1)
    ]
    session.execute(
        _MANY_POSTINGS,
        {
            "entries": [entry for entry, _, _ in rows],
            "numbers": [number for _, number, _ in rows],
            "debits": [account_id(line.debit) for _, _, line in rows],
            "credits": [account_id(line.credit) for _, _, line in rows],
            "currencies": [line.debit.currency for _, _, line in rows],
            "amounts": [line.amount_minor for _, _, line in rows],
        },
    )
    return frozenset(known | {one.key for one in granted})


def _takes(left: dict[UUID, tuple[str, int]], wanted: Reservation) -> bool:
    """Whether what is left of every account with a floor reaches, and if so, take it away."""
    needed: dict[UUID, int] = {}
    for line in wanted.lines:
        for side, ref in ((Side.CREDIT, line.debit), (Side.DEBIT, line.credit)):
            found = account_id(ref)
            if found in left and left[found][0] == side:
                needed[found] = needed.get(found, 0) + line.amount_minor
    if any(amount > left[found][1] for found, amount in needed.items()):
        return False
    for found, amount in needed.items():
        left[found] = (left[found][0], left[found][1] - amount)
    return True


@dataclass(frozen=True, slots=True)
class Settlement:
    """Reserved money to be moved, as `post_pending` takes it."""

    reserved_key: str
    key: str
    kind: str
    lines: tuple[Line, ...]


def post_reserved(session: Session, wanted: Sequence[Settlement], *, at: datetime) -> None:
    """Move what many reservations hold, in a few statements; the first refusal is raised, and the
    transaction is then to be rolled back, as others were written.

    Raises:
        EmptyEntry, EntryConflict, UnknownEntry, NotPending, PendingResolved, PendingExceeded.
    """
    empty = next((one.key for one in wanted if not one.lines), None)
    if empty is not None:
        raise EmptyEntry(empty)
    lines = [line for one in wanted for line in one.lines]
    accounts = {account_id(a): a for line in lines for a in (line.debit, line.credit)}
    # In the order of their ids, as by whoever reserves for many: so that neither waits in a circle.
    session.execute(_LOCK_FLOORS, {"accounts": sorted(accounts)})
    lasts = list(accumulate(len(one.lines) for one in wanted))
    values = {
        "ids": [uuid7() for _ in wanted],
        "keys": [one.key for one in wanted],
        "kinds": [one.kind for one in wanted],
        "reserved": [one.reserved_key for one in wanted],
        "firsts": [last - len(one.lines) + 1 for last, one in zip(lasts, wanted, strict=True)],
        "lasts": lasts,
        "at": at,
        "debits": [account_id(line.debit) for line in lines],
        "credits": [account_id(line.credit) for line in lines],
        "currencies": [line.debit.currency for line in lines],
        "amounts": [line.amount_minor for line in lines],
    }
    for one, answer in zip(wanted, session.execute(_POST_RESERVED, values).all(), strict=True):
        if answer.refusal is not None:
            raise refused_entry(session, EntryRefusal(*answer), accounts, one.key, one.reserved_key)
