"""Gold: tasks whose answer is known, and the hidden checks that they are put as."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.grants import LAB, guard_rows, platform_may, tenant_may

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OF_LAB = "organisation_id = (select market.tenant())"


def upgrade() -> None:
    op.create_table(
        "gold",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("external_id", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("answers", ARRAY(sa.Text), nullable=False),
        sa.Column("complexity", sa.SmallInteger, nullable=False),
        sa.Column("expected_s", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("exposures", sa.BigInteger, nullable=False),
        sa.Column("retired_at", TIME),
        sa.Column("retired_for", sa.Text),
        sa.UniqueConstraint("project_id", "external_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        sa.CheckConstraint("state in ('active', 'retired')", name="state"),
        sa.CheckConstraint(
            "retired_for in ('withdrawn', 'exposed', 'leak_suspected')", name="retired_for"
        ),
        sa.CheckConstraint("(state = 'retired') = (retired_at is not null)", name="retired_at"),
        sa.CheckConstraint("(retired_at is null) = (retired_for is null)", name="retired"),
        sa.CheckConstraint("complexity between 1 and 10", name="complexity"),
        sa.CheckConstraint("expected_s > 0", name="expected_s"),
        sa.CheckConstraint("cardinality(answers) > 0", name="answers"),
        schema="market",
    )
    op.create_index(
        "ix_gold_free",
        "gold",
        ["project_id", "domain", "exposures"],
        schema="market",
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "gold_check",
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id"), primary_key=True),
        sa.Column("gold_id", sa.Uuid, sa.ForeignKey("market.gold.id"), nullable=False),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("put_at", TIME, nullable=False),
        sa.Column("submission_id", sa.Uuid, sa.ForeignKey("market.submission.id"), unique=True),
        sa.Column("is_right", sa.Boolean),
        sa.Column("graded_at", TIME),
        sa.UniqueConstraint("gold_id", "expert_id"),
        sa.CheckConstraint("(submission_id is null) = (is_right is null)", name="is_right"),
        sa.CheckConstraint("(submission_id is null) = (graded_at is null)", name="graded_at"),
        schema="market",
    )
    for column in ("expert_id", "project_id"):
        op.create_index(f"ix_gold_check_{column}", "gold_check", [column], schema="market")
    for table in ("gold", "gold_check"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}")
    tenant_may("market.gold", LAB, "select, insert, update", OF_LAB)
    tenant_may("market.gold_check", LAB, "select", OF_LAB)


def downgrade() -> None:
    for table in ("gold_check", "gold"):
        op.drop_table(table, schema="market")
