"""Quality rules, their simulations, whom they hit; steps of standing that review everything."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import append_only, drop_machine, guard_rows, machine, platform_may

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STATES = ("drafted", "in_force", "dropped", "retired", "expired")
PAIRS = {
    ("", "drafted"),
    ("drafted", "in_force"),
    ("drafted", "dropped"),
    ("in_force", "retired"),
    ("in_force", "expired"),
}
TABLES = ("quality_rule", "rule_simulation", "rule_firing")


def upgrade() -> None:
    op.add_column(
        "measure",
        sa.Column("reviews_all", sa.Boolean, nullable=False, server_default=sa.false()),
        schema="market",
    )
    op.create_table(
        "quality_rule",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("expression", JSONB, nullable=False),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("started_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("name", "number"),
        sa.CheckConstraint(f"state in {STATES}", name="state"),
        sa.CheckConstraint("expires_at > made_at", name="expires_at"),
        schema="market",
    )
    op.create_index(
        "uq_quality_rule_in_force",
        "quality_rule",
        ["name"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state = 'in_force'"),
    )
    op.create_table(
        "rule_simulation",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("rule_id", sa.Uuid, sa.ForeignKey("market.quality_rule.id"), nullable=False),
        *(sa.Column(name, TIME, nullable=False) for name in ("at", "since", "until")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("looks", "people", "judged", "wrong")
        ),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("hits", JSONB, nullable=False),
        sa.Column("usual", sa.Double),
        sa.Column("by", sa.Uuid),
        schema="market",
    )
    op.create_index(
        "ix_rule_simulation_rule_id", "rule_simulation", ["rule_id", "id"], schema="market"
    )
    op.create_table(
        "rule_firing",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("rule_id", sa.Uuid, sa.ForeignKey("market.quality_rule.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("known", JSONB, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("measure_id", sa.Uuid, sa.ForeignKey("market.measure.id")),
        schema="market",
    )
    op.create_index(
        "ix_rule_firing_expert_id", "rule_firing", ["expert_id", "rule_id", "at"], schema="market"
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
    platform_may("market.quality_rule", "select, insert, update")
    machine("market.quality_rule", "quality_rule", PAIRS)
    for table in ("rule_simulation", "rule_firing"):
        platform_may(f"market.{table}", "select, insert")
        append_only(f"market.{table}")


def downgrade() -> None:
    drop_machine("quality_rule")
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")
    op.drop_column("measure", "reviews_all", schema="market")
