"""Predictions that went wrong, alarms that were looked at, and readings of the frontier."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import append_only, guard_rows, platform_may

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = ("drift_alarm", "acknowledgement", "frontier_reading")


def upgrade() -> None:
    op.create_table(
        "drift_alarm",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.ForeignKey("market.observation.seq"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column(
            "target_model_id", sa.Uuid, sa.ForeignKey("market.target_model.id"), nullable=False
        ),
        sa.Column("at", TIME, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("expected", "came", "evidence")),
        sa.Column("outcomes", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.UniqueConstraint("domain", "target_model_id", "seq"),
        schema="market",
    )
    op.create_table(
        "acknowledgement",
        sa.Column("alarm_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id")),
        sa.Column("note", sa.Text, nullable=False),
        sa.CheckConstraint("kind in ('frontier', 'drift')", name="kind"),
        schema="market",
    )
    measured = ("rate", "low", "high", "productive", "productive_low", "productive_high")
    op.create_table(
        "frontier_reading",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column(
            "target_model_id", sa.Uuid, sa.ForeignKey("market.target_model.id"), nullable=False
        ),
        sa.Column("at", TIME, nullable=False),
        sa.Column("claims", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in measured),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opening", sa.Double),
        sa.Column("proposed_level", sa.SmallInteger),
        sa.UniqueConstraint("slot", "domain", "level", "target_model_id"),
        schema="market",
    )
    op.create_index(
        "ix_frontier_reading_cell",
        "frontier_reading",
        ["domain", "level", "target_model_id", "at"],
        schema="market",
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert")
        append_only(f"market.{table}")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")
