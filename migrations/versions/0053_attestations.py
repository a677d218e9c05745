"""Attestations of verified skills, and the keys that they are checked with."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import append_only, guard_rows, platform_may

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "attestation_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("first_used_at", TIME, nullable=False),
        schema="market",
    )
    op.create_table(
        "attestation",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("key_id", sa.Text, sa.ForeignKey("market.attestation_key.id"), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("issued_at", TIME, nullable=False),
        schema="market",
    )
    op.create_index("ix_attestation_person_id", "attestation", ["person_id", "id"], schema="market")
    for table in ("attestation_key", "attestation"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert")
        append_only(f"market.{table}")


def downgrade() -> None:
    for table in ("attestation", "attestation_key"):
        op.drop_table(table, schema="market")
