"""Who approved a policy, and from when on each was in use."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import append_only, guard_rows, platform_may

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = ("policy_use", "policy_approval")


def upgrade() -> None:
    op.create_table(
        "policy_approval",
        sa.Column("policy_id", sa.Uuid, sa.ForeignKey("market.policy.id"), primary_key=True),
        sa.Column("approver_id", sa.Uuid, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("length(btrim(note)) > 0", name="note"),
        schema="market",
    )
    op.create_table(
        "policy_use",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("policy_id", sa.Uuid, sa.ForeignKey("market.policy.id")),
        sa.Column("previous_id", sa.Uuid, sa.ForeignKey("market.policy.id")),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("actor_id", sa.Uuid),
        sa.CheckConstraint("how in ('chosen', 'returned', 'promoted')", name="how"),
        schema="market",
    )
    op.create_index("ix_policy_use_project_id", "policy_use", ["project_id", "id"], schema="market")
    for table in TABLES:
        append_only(f"market.{table}")
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table, schema="market")
