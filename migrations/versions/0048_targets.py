"""Service targets of projects and queues, and the times they were missed."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, guard_rows, platform_may, tenant_may

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "organisation_id = market.tenant()"


def upgrade() -> None:
    op.create_table(
        "service_target",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("goal", sa.Double, nullable=False),
        sa.Column("set_at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id")),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("queue", sa.Text),
        sa.Column("domain", sa.Text),
        sa.Column("due_at", TIME),
        sa.Column("baseline", sa.BigInteger, nullable=False),
        sa.Column("set_by", sa.Uuid),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint("(project_id is null) <> (queue is null)", name="subject"),
        sa.CheckConstraint(
            "(project_id is null) = (organisation_id is null)", name="organisation_id"
        ),
        sa.CheckConstraint("queue in ('seats', 'reviews')", name="queue"),
        sa.CheckConstraint(
            "kind in ('speed', 'volume', 'quality') and project_id is not null"
            " or kind in ('age', 'wait', 'acceptance', 'expiry') and queue is not null",
            name="kind",
        ),
        sa.CheckConstraint("goal > 0", name="goal"),
        sa.CheckConstraint("(kind = 'volume') = (due_at is not null)", name="due_at"),
        schema="market",
    )
    op.create_index(
        "uq_service_target_project",
        "service_target",
        ["project_id", "kind"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_index(
        "uq_service_target_queue",
        "service_target",
        ["queue", sa.text("coalesce(domain, '')"), "kind"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "target_miss",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("target_id", sa.Uuid, sa.ForeignKey("market.service_target.id"), nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("project_id", sa.Uuid),
        sa.Column("met_at", TIME),
        schema="market",
    )
    op.create_index(
        "uq_target_miss_open",
        "target_miss",
        ["target_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("met_at is null"),
    )
    op.create_index(
        "ix_target_miss_project_id", "target_miss", ["project_id", "opened_at"], schema="market"
    )
    for table in ("service_target", "target_miss"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    tenant_may("market.service_target", LAB, "select, insert, update (ended_at)", OWN)
    tenant_may("market.target_miss", LAB, "select", OWN)


def downgrade() -> None:
    op.drop_table("target_miss", schema="market")
    op.drop_table("service_target", schema="market")
