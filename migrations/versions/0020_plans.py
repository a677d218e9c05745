"""Kept plans: their lease, the steps that they are made of, and what waits to be answered."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import guard_rows, platform_may

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("holder_id", sa.Uuid),
        sa.Column("held_until", TIME),
        schema="market",
    )
    op.execute("insert into market.lease (name, fence) values ('plans', 0)")
    op.create_table(
        "kept_plan",
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("market.matching_run.id"), primary_key=True),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("closed_at", TIME),
        sa.Column("steps", sa.BigInteger, nullable=False),
        schema="market",
    )
    op.create_index(
        "uq_kept_plan_open",
        "kept_plan",
        [sa.text("coalesce(project_id, '00000000-0000-0000-0000-000000000000'::uuid)")],
        unique=True,
        schema="market",
        postgresql_where=sa.text("closed_at is null"),
    )
    op.create_table(
        "plan_step",
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("market.kept_plan.run_id"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("moves", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        schema="market",
    )
    op.create_table(
        "plan_change",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("noted_at", TIME, nullable=False),
        sa.CheckConstraint(
            "kind in ('expert', 'task', 'project', 'offer', 'import', 'run')", name="kind"
        ),
        schema="market",
    )
    for table, rights in {
        "lease": "select, update",
        "kept_plan": "select, insert, update",
        "plan_step": "select, insert, delete",
        "plan_change": "select, insert, delete",
    }.items():
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", rights)


def downgrade() -> None:
    for table in ("plan_change", "plan_step", "kept_plan", "lease"):
        op.drop_table(table, schema="market")
