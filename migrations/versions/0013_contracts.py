"""What a contract pays beside hours, its cap a week, and time that a person grants."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

PROJECT_CHECKS = {
    "pay_basis": "pay_basis in ('hourly', 'deliverable')",
    "deliverable": "deliverable_minor > 0",
    "attempt_fee": "(attempt_fee_minor is null and attempt_fees_max = 0)"
    " or (attempt_fee_minor > 0 and attempt_fees_max between 1 and 200)",
    "weekly_cap_s": "weekly_cap_s > 0",
    "basis": "pay_basis = 'hourly'"
    " or (deliverable_minor is not null and rate_minor_per_hour is not null)",
}
ENTRY_CHECKS = {
    "granted_s": "granted_s between 0 and capped_s",
    "source": "(session_id is null) = (source = 'granted')",
    "decision": "(decision_id is not null) = (source = 'granted' or granted_s > 0)",
}


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    # With defaults, so that the code before this one can still write rows.
    for column in (
        sa.Column("pay_basis", sa.Text, nullable=False, server_default="hourly"),
        sa.Column("deliverable_minor", sa.BigInteger),
        sa.Column("attempt_fee_minor", sa.BigInteger),
        sa.Column("attempt_fees_max", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("weekly_cap_s", sa.BigInteger),
    ):
        op.add_column("project", column, schema="market")
    for name, condition in PROJECT_CHECKS.items():
        op.create_check_constraint(name, "project", condition, schema="market")
    op.add_column("work_session", sa.Column("week_cap_s", sa.BigInteger), schema="market")
    op.add_column(
        "work_session",
        sa.Column("week_used_s", sa.BigInteger, nullable=False, server_default="0"),
        schema="market",
    )
    op.alter_column("time_entry", "session_id", nullable=True, schema="market")
    for column in (
        sa.Column("source", sa.Text, nullable=False, server_default="heartbeats"),
        sa.Column("granted_s", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("decision_id", sa.Uuid),
    ):
        op.add_column("time_entry", column, schema="market")
    for name, condition in ENTRY_CHECKS.items():
        op.create_check_constraint(name, "time_entry", condition, schema="market")
    # Nobody grants itself time: what an expert's own transaction writes, its heartbeats prove.
    op.execute(
        "create policy expert_proves on market.time_entry as restrictive for insert"
        " to stumpwork_expert with check (source = 'heartbeats' and granted_s = 0)"
    )


def downgrade() -> None:
    op.execute("drop policy expert_proves on market.time_entry")
    for name in ENTRY_CHECKS:
        op.drop_constraint(name, "time_entry", schema="market", type_="check")
    for column in ("decision_id", "granted_s", "source"):
        op.drop_column("time_entry", column, schema="market")
    op.execute("delete from market.time_entry where session_id is null")
    op.alter_column("time_entry", "session_id", nullable=False, schema="market")
    for column in ("week_used_s", "week_cap_s"):
        op.drop_column("work_session", column, schema="market")
    for name in PROJECT_CHECKS:
        op.drop_constraint(name, "project", schema="market", type_="check")
    for column in (
        "weekly_cap_s",
        "attempt_fees_max",
        "attempt_fee_minor",
        "deliverable_minor",
        "pay_basis",
    ):
        op.drop_column("project", column, schema="market")
