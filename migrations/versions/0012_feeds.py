"""Feeds: a place for every event in the feed of each tenant that it concerns."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, LAB, REVIEWER, guard_rows, platform_may, tenant_may

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = ("subject_version", "platform_seq", "organisation_seq", "person_seq")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("event", sa.Column(name, sa.BigInteger), schema="market")
    op.add_column("event", sa.Column("published_at", sa.DateTime(timezone=True)), schema="market")
    op.add_column(
        "event",
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        schema="market",
    )
    for name, columns, where in (
        ("ix_event_unpublished", ["position"], "platform_seq is null"),
        ("uq_event_platform_seq", ["platform_seq"], None),
        ("uq_event_organisation_seq", ["organisation_id", "organisation_seq"], None),
        ("uq_event_person_seq", ["person_id", "person_seq"], None),
    ):
        op.create_index(
            name,
            "event",
            columns,
            schema="market",
            unique=name.startswith("uq_"),
            postgresql_where=sa.text(where) if where else None,
        )
    op.drop_index("ix_event_unrelayed", "event", schema="market")
    op.create_index(
        "ix_event_unrelayed",
        "event",
        ["platform_seq"],
        schema="market",
        postgresql_where=sa.text("relayed_at is null"),
    )
    op.create_table(
        "feed_head",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("oldest_seq", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind in ('platform', 'organisation', 'person')", name="kind"),
        schema="market",
    )
    guard_rows("market.feed_head")
    platform_may("market.feed_head", "select, insert, update")
    for role in (LAB, EXPERT, REVIEWER):
        tenant_may("market.feed_head", role, "select", "tenant_id = (select market.tenant())")


def downgrade() -> None:
    op.drop_table("feed_head", schema="market")
    op.drop_index("ix_event_unrelayed", "event", schema="market")
    for name in ("position", "published_at", *COLUMNS):
        op.drop_column("event", name, schema="market")
    op.create_index(
        "ix_event_unrelayed",
        "event",
        ["id"],
        schema="market",
        postgresql_where=sa.text("relayed_at is null"),
    )
