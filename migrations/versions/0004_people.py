"""People, organisations, the parts they play, and their keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import EXPERT, LAB, REVIEWER, guard_rows, platform_may, tenant_may

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        schema="market",
    )
    op.create_table(
        "person",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        schema="market",
    )
    op.create_index(
        "uq_person_email", "person", [sa.text("lower(email)")], unique=True, schema="market"
    )
    op.create_table(
        "membership",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id")),
        sa.Column("ended_at", TIME),
        sa.UniqueConstraint(
            "person_id", "part", "organisation_id", postgresql_nulls_not_distinct=True
        ),
        sa.CheckConstraint("part in ('lab', 'expert', 'reviewer', 'ops')", name="part"),
        sa.CheckConstraint(
            "(part = 'lab') = (organisation_id is not null)", name="lab_organisation"
        ),
        schema="market",
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("membership_id", sa.Uuid, sa.ForeignKey("market.membership.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME),
        sa.Column("revoked_at", TIME),
        schema="market",
    )
    op.create_index("ix_api_key_membership_id", "api_key", ["membership_id"], schema="market")
    for table in ("organisation", "person", "membership", "api_key"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    tenant_may("market.organisation", LAB, "select", "id = market.tenant()")
    tenant_may("market.membership", LAB, "select", "organisation_id = market.tenant()")
    tenant_may(
        "market.person",
        LAB,
        "select",
        "id in (select person_id from market.membership where organisation_id = market.tenant())",
    )
    for role in (EXPERT, REVIEWER):
        tenant_may("market.person", role, "select", "id = market.tenant()")


def downgrade() -> None:
    # This policy looks into another table, which could not go while it stands.
    op.execute("drop policy lab_select on market.person")
    for table in ("api_key", "membership", "person", "organisation"):
        op.drop_table(table, schema="market")
