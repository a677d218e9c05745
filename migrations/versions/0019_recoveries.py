"""Recoveries after decided cases, payouts of a run, and payouts that make room for another."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STEPS = ("eligible", "held", "batched", "failed", "returned")
RUN_STATES = "pending running succeeded"
PERIOD = ["owner_id", "currency", "period_end", "reason_code"]
OLD_KEY = "uq_payout_owner_id_currency_period_end_reason_code"


def upgrade() -> None:
    op.add_column("payout", sa.Column("run_id", sa.Uuid), schema="payouts")
    op.add_column(
        "payout",
        sa.Column("recovered_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        schema="payouts",
    )
    op.create_index(
        "ix_payout_run_id",
        "payout",
        ["run_id"],
        schema="payouts",
        postgresql_where=sa.text("run_id is not null"),
    )
    op.drop_constraint(OLD_KEY, "payout", schema="payouts")
    op.create_index(
        "uq_payout_period",
        "payout",
        PERIOD,
        unique=True,
        schema="payouts",
        postgresql_where=sa.text("state <> 'cancelled'"),
    )
    for state in STEPS:
        op.execute(
            "insert into payouts.state_rule (machine, from_state, to_state)"
            f" values ('payout', '{state}', 'cancelled')"
        )
    op.create_table(
        "recovery",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("case_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Uuid, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("recovered_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("written_off_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("closed_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_recovery"),
        sa.UniqueConstraint("case_id", name="uq_recovery_case_id"),
        sa.CheckConstraint("amount_minor > 0", name="ck_recovery_amount"),
        sa.CheckConstraint(
            "recovered_minor >= 0 and written_off_minor >= 0"
            " and recovered_minor + written_off_minor <= amount_minor",
            name="ck_recovery_parts",
        ),
        schema="payouts",
    )
    op.create_index(
        "ix_recovery_owner_id_decided_at", "recovery", ["owner_id", "decided_at"], schema="payouts"
    )
    _runs("pending running succeeded cancelled")
    for state in RUN_STATES.split():
        op.execute(
            "insert into market.state_rule (machine, from_state, to_state)"
            f" values ('payout_run', '{state}', 'cancelled')"
        )
    _cases()
    guard_rows("payouts.recovery")
    platform_may("payouts.recovery", "select, insert, update")
    tenant_may("payouts.recovery", EXPERT, "select", "owner_id = market.tenant()")


def _runs(states: str) -> None:
    listed = ", ".join(f"'{state}'" for state in states.split())
    op.execute("alter table market.payout_run drop constraint ck_payout_run_state")
    op.execute(
        "alter table market.payout_run add constraint ck_payout_run_state"
        f" check (state in ({listed}))"
    )


def _cases() -> None:
    op.create_table(
        "recovery_case",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("earning_id", sa.Uuid, sa.ForeignKey("market.earning.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_by", sa.Uuid, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("answer_by", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("answered_at", TIME),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("decided_at", TIME),
        sa.Column("decision", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state in ('opened', 'upheld', 'dismissed')", name="state"),
        sa.CheckConstraint("amount_minor > 0 and fee_minor >= 0", name="amounts"),
        sa.CheckConstraint("decided_by is distinct from opened_by", name="two_people"),
        sa.CheckConstraint("(state = 'opened') = (decided_by is null)", name="decided"),
        schema="market",
    )
    op.create_index("ix_recovery_case_expert_id", "recovery_case", ["expert_id"], schema="market")
    op.create_index(
        "uq_recovery_case_earning_id",
        "recovery_case",
        ["earning_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state <> 'dismissed'"),
    )
    machine(
        "market.recovery_case",
        "recovery_case",
        {("", "opened"), ("opened", "upheld"), ("opened", "dismissed")},
    )
    guard_rows("market.recovery_case")
    platform_may("market.recovery_case", "select, insert, update")
    tenant_may("market.recovery_case", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    op.drop_table("recovery_case", schema="market")
    drop_machine("recovery_case")
    op.execute(
        "delete from market.state_rule where machine = 'payout_run' and to_state = 'cancelled'"
    )
    _runs(RUN_STATES)
    op.drop_table("recovery", schema="payouts")
    for state in STEPS:
        op.execute(
            "delete from payouts.state_rule where machine = 'payout'"
            f" and from_state = '{state}' and to_state = 'cancelled'"
        )
    op.drop_index("uq_payout_period", "payout", schema="payouts")
    op.create_unique_constraint(OLD_KEY, "payout", PERIOD, schema="payouts")
    op.drop_index("ix_payout_run_id", "payout", schema="payouts")
    op.drop_column("payout", "recovered_minor", schema="payouts")
    op.drop_column("payout", "run_id", schema="payouts")
