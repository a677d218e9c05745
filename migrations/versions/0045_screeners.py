"""Screeners: what ends a task early for whoever it does not fit, and lines of pay for that."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

BEFORE = ("hours", "deliverable", "attempt_fee", "floor", "impact_bonus", "bonus")
AFTER = (*BEFORE[:4], "screening", *BEFORE[4:])


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "screener",
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("codes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("pay_minor", sa.BigInteger, nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.Uuid),
        sa.CheckConstraint("pay_minor between 0 and 10000", name="pay_minor"),
        sa.CheckConstraint("version > 0", name="version"),
        schema="market",
    )
    guard_rows("market.screener")
    append_only("market.screener")
    platform_may("market.screener", "select, insert")
    tenant_may(
        "market.screener", LAB, "select, insert", "organisation_id = (select market.tenant())"
    )
    _kinds(AFTER)


def downgrade() -> None:
    op.drop_table("screener", schema="market")
    op.execute("update market.earning set kind = 'floor' where kind = 'screening'")
    _kinds(BEFORE)


def _kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint("kind", "earning", schema="market", type_="check")
    op.create_check_constraint("kind", "earning", f"kind in {kinds}", schema="market")
