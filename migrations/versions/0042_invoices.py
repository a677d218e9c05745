"""Labs that pay in by invoice."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import allow_moves, forbid_moves, guard_rows, platform_may

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OPERATIONS = "account account_link payment_intent transfer reversal refund dispute_evidence "
BEFORE = f"{OPERATIONS} platform_payout"
AFTER = f"{BEFORE} customer invoice invoice_line invoice_opening invoice_void"
STATES = "planned draft open uncollectible void paid"
STEPS = (
    "'' planned, planned draft, planned open, planned paid, draft open, draft paid, open paid, "
    "uncollectible paid, planned void, draft void, open void, uncollectible void, "
    "planned uncollectible, draft uncollectible, open uncollectible"
)
FUNDING_MOVES = {
    ("requested", "invoiced"),
    ("invoiced", "processing"),
    ("invoiced", "received"),
    ("invoiced", "failed"),
}
FUNDING_STATES = "requested processing received succeeded failed"


def _listed(values: str) -> str:
    return ", ".join(f"'{value}'" for value in values.split())


def _operations(values: str) -> None:
    # The table's first migration named it so.
    name = "ck_external_call_ck_external_call_operation"
    op.execute(f"alter table payouts.external_call drop constraint {name}")
    op.execute(
        f"alter table payouts.external_call add constraint {name}"
        f" check (operation in ({_listed(values)}))"
    )


def _funding_states(values: str) -> None:
    op.drop_constraint("state", "funding", schema="market", type_="check")
    op.create_check_constraint("state", "funding", f"state in ({_listed(values)})", schema="market")


def upgrade() -> None:
    _operations(AFTER)
    op.create_table(
        "lab_customer",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("lab_id", sa.Uuid, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("call_id", sa.Uuid),
        sa.Column("customer_id", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_lab_customer"),
        sa.UniqueConstraint("lab_id", "email", name="uq_lab_customer_lab_id_email"),
        sa.UniqueConstraint("customer_id", name="uq_lab_customer_customer_id"),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_lab_customer_call_id"
        ),
        schema="payouts",
    )
    op.create_table(
        "funding_invoice",
        sa.Column("funding_id", sa.Uuid, nullable=False),
        sa.Column("lab_id", sa.Uuid, nullable=False),
        sa.Column("customer_id", sa.Uuid, nullable=False),
        sa.Column("days_until_due", sa.SmallInteger, nullable=False),
        sa.Column("call_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text),
        sa.Column("number", sa.Text),
        sa.Column("url", sa.Text),
        sa.Column("due_at", TIME),
        sa.Column("overdue_at", TIME),
        sa.PrimaryKeyConstraint("funding_id", name="pk_funding_invoice"),
        sa.UniqueConstraint("invoice_id", name="uq_funding_invoice_invoice_id"),
        sa.ForeignKeyConstraint(
            ["funding_id"], ["payouts.funding.id"], name="fk_funding_invoice_funding_id"
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["payouts.lab_customer.id"], name="fk_funding_invoice_customer_id"
        ),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_funding_invoice_call_id"
        ),
        sa.CheckConstraint(f"state in ({_listed(STATES)})", name="ck_funding_invoice_state"),
        sa.CheckConstraint(
            "days_until_due between 1 and 90", name="ck_funding_invoice_days_until_due"
        ),
        schema="payouts",
    )
    op.create_index(
        "ix_funding_invoice_customer_id", "funding_invoice", ["customer_id"], schema="payouts"
    )
    for step in STEPS.split(","):
        source, target = step.split()
        op.execute(
            "insert into payouts.state_rule (machine, from_state, to_state) values "
            f"('funding_invoice', '{source.strip(chr(39))}', '{target}')"
        )
    op.execute(
        "create trigger funding_invoice_state before insert or update of state"
        " on payouts.funding_invoice for each row execute function payouts.guard_state()"
    )
    for table in ("lab_customer", "funding_invoice"):
        guard_rows(f"payouts.{table}")
        platform_may(f"payouts.{table}", "select, insert, update")
    op.alter_column("funding", "payment_method", nullable=True, schema="market")
    for name, kind in (("invoice_number", sa.Text), ("invoice_url", sa.Text), ("due_at", TIME)):
        op.add_column("funding", sa.Column(name, kind), schema="market")
    _funding_states(f"{FUNDING_STATES} invoiced")
    allow_moves("funding", FUNDING_MOVES)


def downgrade() -> None:
    forbid_moves("funding", FUNDING_MOVES)
    op.execute("delete from market.funding where payment_method is null")
    _funding_states(FUNDING_STATES)
    for name in ("invoice_number", "invoice_url", "due_at"):
        op.drop_column("funding", name, schema="market")
    op.alter_column("funding", "payment_method", nullable=False, schema="market")
    for table in ("funding_invoice", "lab_customer"):
        op.drop_table(table, schema="payouts")
    op.execute("delete from payouts.state_rule where machine = 'funding_invoice'")
    # What was paid by invoice has nowhere to be said any more.
    op.execute(
        "delete from payouts.funding using payouts.external_call c where c.id = funding.call_id"
        f" and c.operation not in ({_listed(BEFORE)})"
    )
    op.execute(f"delete from payouts.external_call where operation not in ({_listed(BEFORE)})")
    _operations(BEFORE)
