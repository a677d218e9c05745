"""Bonuses that labs give."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def refers(name: str, table: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "bonus",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("expert_id", "person"),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("is_for_impact", sa.Boolean, nullable=False),
        sa.Column("given_by", sa.Uuid, nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("project_id", "reference"),
        sa.CheckConstraint("amount_minor > 0 and fee_minor >= 0", name="amounts"),
        sa.CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        schema="market",
    )
    op.create_index("ix_bonus_expert_id", "bonus", ["expert_id", "id"], schema="market")
    append_only("market.bonus")
    guard_rows("market.bonus")
    platform_may("market.bonus", "select, insert")
    tenant_may("market.bonus", LAB, "select", "organisation_id = (select market.tenant())")
    tenant_may("market.bonus", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    op.drop_table("bonus", schema="market")
