"""Messages to cohorts, and who got each."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "cohort_message",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("sent_by", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("expression", JSONB, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("event_id", sa.Uuid, sa.ForeignKey("market.event.id"), nullable=False),
        sa.Column("organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id")),
        sa.Column("matched", sa.BigInteger),
        sa.Column("finished_at", TIME),
        sa.CheckConstraint("(matched is null) = (finished_at is null)", name="finished_at"),
        schema="market",
    )
    op.create_index(
        "ix_cohort_message_organisation_id",
        "cohort_message",
        ["organisation_id", "id"],
        schema="market",
    )
    op.create_table(
        "message_copy",
        sa.Column(
            "message_id", sa.Uuid, sa.ForeignKey("market.cohort_message.id"), primary_key=True
        ),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), primary_key=True),
        sa.Column(
            "notification_id", sa.Uuid, sa.ForeignKey("market.notification.id"), nullable=False
        ),
        sa.Column("at", TIME, nullable=False),
        schema="market",
    )
    for table in ("cohort_message", "message_copy"):
        guard_rows(f"market.{table}")
    platform_may("market.cohort_message", "select, insert, update")
    platform_may("market.message_copy", "select, insert")
    append_only("market.message_copy")
    tenant_may("market.cohort_message", LAB, "select", "organisation_id = (select market.tenant())")


def downgrade() -> None:
    for table in ("message_copy", "cohort_message"):
        op.drop_table(table, schema="market")
