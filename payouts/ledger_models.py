"""The tables of the ledger: accounts, entries, postings, balances, the chain.

Their rows are written by one function in the database, `payouts.post_entry`, and read through these
classes; triggers and constraints hold the rules, so that a mistake in the application, or a hand at
the SQL prompt, is refused too.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from payouts.models import DATABASE_TIME, Base


class LedgerAccount(Base):
    """A place where money is: one code, one owner, one currency, and whose rows it belongs to.

    Never changed once it is there; its figures stand in `LedgerBalance`. The id follows from the
    other columns (see `payouts.chart.account_id`), so that nobody has to look it up.
    """

    __tablename__ = "ledger_account"
    __table_args__ = (
        UniqueConstraint("code", "owner_id", "currency", postgresql_nulls_not_distinct=True),
        UniqueConstraint("id", "currency"),
        UniqueConstraint("id", "normal_side", "has_floor"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        Index(None, "tenant_id", postgresql_where=text("tenant_id is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str]
    owner_id: Mapped[UUID | None]
    currency: Mapped[str]
    tenant_id: Mapped[UUID | None]
    normal_side: Mapped[str]
    has_floor: Mapped[bool]


class LedgerBalance(Base):
    """What one ledger account comes to, kept by triggers in the transaction of each posting.

    `posted_minor` is positive on the account's normal side; `promised_minor` is what open
    reservations would take from it, `expected_minor` what they would bring. Accounts with a floor
    are exact here, and `version` counts their posted lines. Accounts without one hold what has
    been folded so far; the rest stands in `UnfoldedLine`.
    """

    __tablename__ = "ledger_balance"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "normal_side", "has_floor"],
            [
                "payouts.ledger_account.id",
                "payouts.ledger_account.normal_side",
                "payouts.ledger_account.has_floor",
            ],
        ),
        CheckConstraint("not has_floor or posted_minor >= promised_minor", name="floor"),
        # Half of each page stays free, so that a new version of a row finds room beside the old
        # one and no index has to be touched.
        {"postgresql_with": {"fillfactor": 50}},
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    normal_side: Mapped[str]
    has_floor: Mapped[bool]
    posted_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    promised_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    expected_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    version: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class JournalEntry(Base):
    """A dated fact about money, told once under its key, and never changed.

    `phase` says what it does: `posted` moves money, `pending` only reserves it, `voided` lets a
    reservation go. An entry that ends a reservation names it in `resolves_id`, one that takes
    another back names that in `reverses_id`; each can be named once. The memo is read by every
    tenant whose accounts the entry touches.
    """

    __tablename__ = "journal_entry"
    __table_args__ = (
        CheckConstraint(
            "case phase"
            " when 'posted' then line_count > 0 and expires_at is null"
            " when 'pending' then line_count > 0 and resolves_id is null and reverses_id is null"
            " when 'voided' then line_count = 0 and resolves_id is not null"
            " and reverses_id is null and expires_at is null"
            " else false end",
            name="phase",
        ),
        Index(None, "recorded_at", postgresql_using="brin"),
        Index(None, "expires_at", postgresql_where=text("expires_at is not null")),
        Index(None, "resolves_id", unique=True, postgresql_where=text("resolves_id is not null")),
        Index(None, "reverses_id", unique=True, postgresql_where=text("reverses_id is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    phase: Mapped[str]
    line_count: Mapped[int] = mapped_column(SmallInteger)
    at: Mapped[datetime]
    memo: Mapped[str] = mapped_column(server_default="", default="")
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    resolves_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.journal_entry.id"), default=None
    )
    reverses_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.journal_entry.id"), default=None
    )
    recorded_at: Mapped[datetime] = mapped_column(server_default=DATABASE_TIME, init=False)


class Posting(Base):
    """One amount from the ledger account it credits to the one it debits, in their one currency.

    On accounts with a floor it also keeps the account's version and balance after it, on the
    normal side: an account's history without a gap. Those four are read by the platform only,
    since the two ends of a posting may belong to two tenants.
    """

    __tablename__ = "posting"
    __table_args__ = (
        ForeignKeyConstraint(
            ["debit_account_id", "currency"],
            ["payouts.ledger_account.id", "payouts.ledger_account.currency"],
        ),
        ForeignKeyConstraint(
            ["credit_account_id", "currency"],
            ["payouts.ledger_account.id", "payouts.ledger_account.currency"],
        ),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
        UniqueConstraint("debit_account_id", "debit_version"),
        UniqueConstraint("credit_account_id", "credit_version"),
    )

    entry_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.journal_entry.id"), primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    debit_account_id: Mapped[UUID]
    credit_account_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    debit_version: Mapped[int | None] = mapped_column(init=False, deferred=True)
    debit_balance_after_minor: Mapped[int | None] = mapped_column(init=False, deferred=True)
    credit_version: Mapped[int | None] = mapped_column(init=False, deferred=True)
    credit_balance_after_minor: Mapped[int | None] = mapped_column(init=False, deferred=True)


class UnfoldedLine(Base):
    """A change to a ledger account without a floor that its balance row has not taken in yet.

    Written without a lock by every posting that touches such an account, removed by
    `payouts.ledger.fold_hot_accounts`; the true balance is the row plus these.
    """

    __tablename__ = "unfolded_line"

    # No foreign key: the posting's own has been checked, and a second one would make every posting
    # lock the same few rows.
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, init=False)
    posted_debit_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    posted_credit_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    pending_debit_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    pending_credit_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class ChainLink(Base):
    """One entry's place in the hash chain: the digest covers the entry and every one before it."""

    __tablename__ = "chain_link"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entry_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.journal_entry.id"), unique=True)
    digest: Mapped[bytes]


# Stripe's tables stand below this line.
