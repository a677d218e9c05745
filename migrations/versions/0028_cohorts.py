"""Cohorts: saved expressions about experts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cohort",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("expression", JSONB, nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("saved_by", sa.Uuid),
        sa.UniqueConstraint("organisation_id", "name", "version"),
        sa.CheckConstraint("version > 0", name="version"),
        schema="market",
    )
    append_only("market.cohort")
    guard_rows("market.cohort")
    platform_may("market.cohort", "select, insert")
    tenant_may("market.cohort", LAB, "select, insert", "organisation_id = (select market.tenant())")


def downgrade() -> None:
    op.drop_table("cohort", schema="market")
