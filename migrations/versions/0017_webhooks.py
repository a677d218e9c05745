"""Webhooks: endpoints, the keys that sign, deliveries and each attempt at one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import (
    EXPERT,
    LAB,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = (select market.tenant())"

ENDPOINT = {
    ("", "active"),
    ("active", "failing"),
    ("failing", "active"),
    ("active", "disabled"),
    ("failing", "disabled"),
    ("disabled", "active"),
}
DELIVERY = {
    ("", "pending"),
    ("pending", "delivered"),
    ("pending", "retrying"),
    ("pending", "exhausted"),
    ("retrying", "delivered"),
    ("retrying", "exhausted"),
    ("delivered", "replayed"),
    ("exhausted", "replayed"),
}


def upgrade() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("feed_kind", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("types", ARRAY(sa.Text), nullable=False),
        sa.Column("project_ids", ARRAY(sa.Uuid), nullable=False),
        sa.Column("is_full", sa.Boolean, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("created_by", sa.Uuid, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("told_seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_slow", sa.Boolean, nullable=False),
        sa.Column("slow_level", sa.BigInteger, nullable=False),
        sa.Column("not_before", TIME),
        sa.Column("failing_since", TIME),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("removed_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state in ('active', 'failing', 'disabled')", name="state"),
        sa.CheckConstraint("feed_kind in ('platform', 'organisation', 'person')", name="feed_kind"),
        sa.CheckConstraint("signature in ('v1', 'v1a')", name="signature"),
        schema="market",
    )
    op.create_index(
        "ix_webhook_endpoint_tenant_id", "webhook_endpoint", ["tenant_id", "id"], schema="market"
    )
    op.create_table(
        "webhook_key",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "endpoint_id", sa.Uuid, sa.ForeignKey("market.webhook_endpoint.id"), nullable=False
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("public_key", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("retires_at", TIME),
        schema="market",
    )
    op.create_index("ix_webhook_key_endpoint_id", "webhook_key", ["endpoint_id"], schema="market")
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "endpoint_id", sa.Uuid, sa.ForeignKey("market.webhook_endpoint.id"), nullable=False
        ),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("event_id", sa.Uuid, sa.ForeignKey("market.event.id")),
        sa.Column("seq", sa.BigInteger),
        sa.Column("replay_of", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("leased_until", TIME),
        sa.Column("settled_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('pending', 'retrying', 'delivered', 'exhausted', 'replayed')", name="state"
        ),
        schema="market",
    )
    op.create_index(
        "ix_webhook_delivery_endpoint_id",
        "webhook_delivery",
        ["endpoint_id", "id"],
        schema="market",
    )
    op.create_index(
        "ix_webhook_delivery_due",
        "webhook_delivery",
        ["endpoint_id", "due_at"],
        schema="market",
        postgresql_where=sa.text("state in ('pending', 'retrying')"),
    )
    op.create_index(
        "uq_webhook_delivery_event",
        "webhook_delivery",
        ["endpoint_id", "event_id"],
        schema="market",
        unique=True,
        postgresql_where=sa.text("state <> 'replayed'"),
    )
    op.create_table(
        "webhook_attempt",
        sa.Column("delivery_id", sa.Uuid, sa.ForeignKey("market.webhook_delivery.id")),
        sa.Column("number", sa.BigInteger),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("outcome", sa.Text),
        sa.Column("status", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("reply", sa.Text),
        sa.Column("ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
        schema="market",
    )
    machine("market.webhook_endpoint", "webhook_endpoint", ENDPOINT)
    machine("market.webhook_delivery", "webhook_delivery", DELIVERY)
    for table in ("webhook_endpoint", "webhook_key", "webhook_delivery", "webhook_attempt"):
        guard_rows(f"market.{table}")
    platform_may("market.webhook_endpoint", "select, insert, update")
    platform_may("market.webhook_key")
    platform_may("market.webhook_delivery", "select, insert, update")
    platform_may("market.webhook_attempt", "select, insert, update")
    # Tenants read; what they change goes through the platform, which checks whose it is. The keys
    # are nobody's to read.
    for table in ("webhook_endpoint", "webhook_delivery", "webhook_attempt"):
        for role in (LAB, EXPERT):
            tenant_may(f"market.{table}", role, "select", OWN)


def downgrade() -> None:
    for table in ("webhook_attempt", "webhook_delivery", "webhook_key", "webhook_endpoint"):
        op.drop_table(table, schema="market")
    for name in ("webhook_endpoint", "webhook_delivery"):
        drop_machine(name)
