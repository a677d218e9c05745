"""Overtime: what a lab consents to, what a session counts by, and which seconds were it."""

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("overtime_after_s", "overtime_basis_points"):
        op.add_column("project", sa.Column(name, sa.BigInteger), schema="market")
    op.create_check_constraint(
        "overtime",
        "project",
        "(overtime_after_s is null and overtime_basis_points is null)"
        " or (overtime_after_s > 0 and overtime_basis_points between 10001 and 30000"
        " and pay_basis = 'hourly')",
        schema="market",
    )
    op.add_column("work_session", sa.Column("overtime_after_s", sa.BigInteger), schema="market")
    op.add_column(
        "time_entry",
        sa.Column("overtime_s", sa.BigInteger, nullable=False, server_default="0"),
        schema="market",
    )
    op.create_check_constraint(
        "overtime_s",
        "time_entry",
        "overtime_s between 0 and seconds - capped_s",
        schema="market",
    )


def downgrade() -> None:
    op.drop_column("time_entry", "overtime_s", schema="market")
    op.drop_column("work_session", "overtime_after_s", schema="market")
    for name in ("overtime_after_s", "overtime_basis_points"):
        op.drop_column("project", name, schema="market")
