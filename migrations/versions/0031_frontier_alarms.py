"""Levels that ran dry, and what was proposed instead."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import guard_rows, platform_may

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "frontier_alarm",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.ForeignKey("market.observation.seq"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column(
            "target_model_id", sa.Uuid, sa.ForeignKey("market.target_model.id"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("rate", "opening", "evidence", "productive", "low", "high")
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("proposed_level", sa.SmallInteger),
        sa.UniqueConstraint("seq"),
        sa.CheckConstraint("low <= high", name="low"),
        schema="market",
    )
    op.create_index(
        "ix_frontier_alarm_cell",
        "frontier_alarm",
        ["domain", "level", "target_model_id", "seq"],
        schema="market",
    )
    guard_rows("market.frontier_alarm")
    platform_may("market.frontier_alarm", "select, insert")


def downgrade() -> None:
    op.drop_table("frontier_alarm", schema="market")
