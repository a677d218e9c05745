"""The ledger: accounts, balances, entries, postings, and the rules that PostgreSQL holds itself."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    LAB,
    PLATFORM,
    append_only,
    guard_rows,
    platform_may,
    tenant_may,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RULES = Path(__file__).with_suffix(".sql")
TIME = sa.DateTime(timezone=True)

PLATFORM_CODES = (
    "'bank', 'dispute_loss', 'fx_gain_loss', 'fx_position', 'platform_fee', 'stripe_clearing', "
    "'stripe_fees', 'suspense'"
)
CREDIT_FLOOR = (
    "expert_held expert_payable lab_funding lab_funding_unsettled payout_in_transit "
    "project_escrow refund_in_transit reserve tax_withheld"
)
DEBIT_FREE = (
    "bank connected_balance dispute_clearing dispute_loss fx_gain_loss fx_position "
    "stripe_clearing stripe_fees suspense"
)
CHART = ", ".join(
    f"('{code}', '{side}', {floor})"
    for codes, side, floor in (
        (CREDIT_FLOOR, "credit", "true"),
        (DEBIT_FREE, "debit", "false"),
        ("platform_fee", "credit", "false"),
        ("expert_receivable", "debit", "true"),
    )
    for code in codes.split()
)

FUNCTIONS = (
    "open_balance()",
    "apply_posting()",
    "promise(uuid, uuid, bigint)",
    "release_pending()",
    "refuse_incomplete()",
    "tells(payouts.journal_entry, text, text, text, text, uuid[], uuid[], bigint[])",
    "post_entry(uuid, text, text, text, timestamptz, text, timestamptz, text, text, uuid[], "
    "uuid[], uuid[], text[], bigint[])",
    "fold_lines()",
    "entry_digest(uuid)",
    "chain_entries(integer)",
)


def upgrade() -> None:
    op.execute("create schema if not exists payouts")
    op.execute(f"grant usage on schema payouts to {PLATFORM}, {LAB}, {EXPERT}")
    _accounts()
    _entries()
    op.execute(RULES.read_text())
    for function in FUNCTIONS:
        op.execute(f"revoke execute on function payouts.{function} from public")
    for function in FUNCTIONS[6:]:
        op.execute(f"grant execute on function payouts.{function} to {PLATFORM}")
    _grants()


def downgrade() -> None:
    for role in ("lab", "expert"):
        op.execute(f"drop policy {role}_select on payouts.journal_entry")
    for table in (
        "chain_link",
        "unfolded_line",
        "posting",
        "ledger_balance",
        "ledger_account",
    ):
        op.drop_table(table, schema="payouts")
    for function in reversed(FUNCTIONS[5:]):
        op.execute(f"drop function payouts.{function}")
    op.drop_table("journal_entry", schema="payouts")
    for function in FUNCTIONS[:5]:
        op.execute(f"drop function payouts.{function}")
    op.execute("drop schema payouts")


def _accounts() -> None:
    op.create_table(
        "ledger_account",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Uuid),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Uuid),
        sa.Column("normal_side", sa.Text, nullable=False),
        sa.Column("has_floor", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_account"),
        sa.UniqueConstraint(
            "code",
            "owner_id",
            "currency",
            name="uq_ledger_account_code_owner_id_currency",
            postgresql_nulls_not_distinct=True,
        ),
        sa.UniqueConstraint("id", "currency", name="uq_ledger_account_id_currency"),
        sa.UniqueConstraint(
            "id", "normal_side", "has_floor", name="uq_ledger_account_id_normal_side_has_floor"
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        sa.CheckConstraint(f"(code, normal_side, has_floor) in ({CHART})", name="chart"),
        sa.CheckConstraint(f"(owner_id is null) = (code in ({PLATFORM_CODES}))", name="owner"),
        sa.CheckConstraint(
            f"case when code in ({PLATFORM_CODES}, 'tax_withheld') then tenant_id is null "
            "when code = 'project_escrow' then tenant_id is not null "
            "else tenant_id is not distinct from owner_id end",
            name="tenant",
        ),
        schema="payouts",
    )
    op.create_index(
        "ix_ledger_account_tenant_id",
        "ledger_account",
        ["tenant_id"],
        schema="payouts",
        postgresql_where=sa.text("tenant_id is not null"),
    )
    op.create_table(
        "ledger_balance",
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("normal_side", sa.Text, nullable=False),
        sa.Column("has_floor", sa.Boolean, nullable=False),
        *_amounts("posted_minor", "promised_minor", "expected_minor", "version"),
        sa.PrimaryKeyConstraint("account_id", name="pk_ledger_balance"),
        sa.ForeignKeyConstraint(
            ["account_id", "normal_side", "has_floor"],
            [
                "payouts.ledger_account.id",
                "payouts.ledger_account.normal_side",
                "payouts.ledger_account.has_floor",
            ],
            name="fk_ledger_balance_account_id_normal_side_has_floor",
        ),
        sa.CheckConstraint("not has_floor or posted_minor >= promised_minor", name="floor"),
        schema="payouts",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "unfolded_line",
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        *_amounts(
            "posted_debit_minor",
            "posted_credit_minor",
            "pending_debit_minor",
            "pending_credit_minor",
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="pk_unfolded_line"),
        schema="payouts",
    )


def _amounts(*names: str) -> list[sa.Column[int]]:
    return [
        sa.Column(name, sa.BigInteger, server_default=sa.text("0"), nullable=False)
        for name in names
    ]


def _entries() -> None:
    op.create_table(
        "journal_entry",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("line_count", sa.SmallInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("memo", sa.Text, server_default="", nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("resolves_id", sa.Uuid),
        sa.Column("reverses_id", sa.Uuid),
        sa.Column("recorded_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_entry"),
        sa.UniqueConstraint("key", name="uq_journal_entry_key"),
        *(
            sa.ForeignKeyConstraint(
                [column], ["payouts.journal_entry.id"], name=f"fk_journal_entry_{column}"
            )
            for column in ("resolves_id", "reverses_id")
        ),
        sa.CheckConstraint(
            "case phase"
            " when 'posted' then line_count > 0 and expires_at is null"
            " when 'pending' then line_count > 0 and resolves_id is null and reverses_id is null"
            " when 'voided' then line_count = 0 and resolves_id is not null"
            " and reverses_id is null and expires_at is null"
            " else false end",
            name="phase",
        ),
        schema="payouts",
    )
    op.create_index(
        "ix_journal_entry_recorded_at",
        "journal_entry",
        ["recorded_at"],
        schema="payouts",
        postgresql_using="brin",
    )
    for column, unique in {"expires_at": False, "resolves_id": True, "reverses_id": True}.items():
        op.create_index(
            f"ix_journal_entry_{column}",
            "journal_entry",
            [column],
            schema="payouts",
            unique=unique,
            postgresql_where=sa.text(f"{column} is not null"),
        )
    op.create_table(
        "posting",
        sa.Column("entry_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("debit_account_id", sa.Uuid, nullable=False),
        sa.Column("credit_account_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("debit_version", sa.BigInteger),
        sa.Column("debit_balance_after_minor", sa.BigInteger),
        sa.Column("credit_version", sa.BigInteger),
        sa.Column("credit_balance_after_minor", sa.BigInteger),
        sa.PrimaryKeyConstraint("entry_id", "number", name="pk_posting"),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["payouts.journal_entry.id"], name="fk_posting_entry_id"
        ),
        *(
            sa.ForeignKeyConstraint(
                [f"{side}_account_id", "currency"],
                ["payouts.ledger_account.id", "payouts.ledger_account.currency"],
                name=f"fk_posting_{side}_account_id_currency",
            )
            for side in ("debit", "credit")
        ),
        *(
            sa.UniqueConstraint(
                f"{side}_account_id",
                f"{side}_version",
                name=f"uq_posting_{side}_account_id_{side}_version",
            )
            for side in ("debit", "credit")
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount"),
        sa.CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
        schema="payouts",
    )
    op.create_table(
        "chain_link",
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("entry_id", sa.Uuid, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_chain_link"),
        sa.UniqueConstraint("entry_id", name="uq_chain_link_entry_id"),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["payouts.journal_entry.id"], name="fk_chain_link_entry_id"
        ),
        schema="payouts",
    )


def _grants() -> None:
    for table, rights in {
        "ledger_account": "select, insert",
        "ledger_balance": "select",
        "unfolded_line": "select",
        "journal_entry": "select, insert",
        "posting": "select, insert",
        "chain_link": "select",
    }.items():
        guard_rows(f"payouts.{table}")
        platform_may(f"payouts.{table}", rights)
    for table in ("ledger_account", "journal_entry", "posting", "chain_link"):
        append_only(f"payouts.{table}")
    of_tenant = "exists (select from payouts.ledger_account a where a.id = {})"
    for role in (LAB, EXPERT):
        tenant_may("payouts.ledger_account", role, "select", "tenant_id = market.tenant()")
        for table in ("ledger_balance", "unfolded_line"):
            tenant_may(f"payouts.{table}", role, "select", of_tenant.format("account_id"))
        tenant_may(
            "payouts.journal_entry",
            role,
            "select",
            "exists (select from payouts.posting p where p.entry_id = journal_entry.id)",
        )
        tenant_may(
            "payouts.posting",
            role,
            "select",
            "exists (select from payouts.ledger_account a"
            " where a.id in (debit_account_id, credit_account_id))",
        )
        # The other end of a posting may be another tenant's: its balance is not for their eyes.
        op.execute(f"revoke select on payouts.posting from {role}")
        op.execute(
            "grant select (entry_id, number, debit_account_id, credit_account_id, currency,"
            f" amount_minor) on payouts.posting to {role}"
        )
