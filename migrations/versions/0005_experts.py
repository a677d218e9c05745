"""Experts, their domains, pay tiers and what they pay; imports and the verdicts on their rows."""

from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TSTZRANGE, ExcludeConstraint, Range

from migrations.grants import (
    EXPERT,
    LAB,
    REVIEWER,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

STANDING = {
    ("", "good"),
    ("good", "watched"),
    ("watched", "limited"),
    ("limited", "suspended"),
    ("suspended", "closed"),
    ("watched", "good"),
    ("limited", "good"),
    ("suspended", "good"),
    ("closed", "good"),
}
TIERS = "('T1', 'T2', 'T3', 'T4')"
FIRST_RATES = {"T1": 2200, "T2": 3000, "T3": 9500, "T4": 15000}


def upgrade() -> None:
    op.create_table(
        "expert",
        sa.Column("id", sa.Uuid, sa.ForeignKey("market.person.id"), primary_key=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("headline", sa.Text, nullable=False),
        sa.Column("bio", sa.Text, nullable=False),
        sa.Column("country", sa.Text),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("languages", ARRAY(sa.Text), nullable=False),
        sa.Column("weekly_hours", sa.BigInteger, nullable=False),
        sa.Column("max_concurrent", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('good', 'watched', 'limited', 'suspended', 'closed')", name="state"
        ),
        sa.CheckConstraint("weekly_hours between 0 and 168", name="weekly_hours"),
        sa.CheckConstraint("max_concurrent between 1 and 100", name="max_concurrent"),
        schema="market",
    )
    op.create_table(
        "expert_domain",
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("years", sa.Numeric(4, 1), nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("ability", sa.Double),
        sa.PrimaryKeyConstraint("expert_id", "domain"),
        sa.CheckConstraint("level in ('claimed', 'qualified')", name="level"),
        schema="market",
    )
    op.create_index("ix_expert_domain_domain", "expert_domain", ["domain"], schema="market")
    tiers = op.create_table(
        "pay_tier",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("rate_minor_per_hour", sa.BigInteger, nullable=False),
        sa.Column("during", TSTZRANGE, nullable=False),
        sa.CheckConstraint(f"name in {TIERS}", name="name"),
        sa.CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        ExcludeConstraint(
            ("name", "="),
            ("currency", "="),
            ("during", "&&"),
            using="gist",
            name="ex_pay_tier_during",
        ),
        schema="market",
    )
    op.create_table(
        "tier_assignment",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("during", TSTZRANGE, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor_id", sa.Uuid),
        sa.CheckConstraint(f"tier in {TIERS}", name="tier"),
        ExcludeConstraint(
            ("expert_id", "="), ("during", "&&"), using="gist", name="ex_tier_assignment_during"
        ),
        schema="market",
    )
    op.bulk_insert(
        tiers,
        [
            {
                "id": uuid5(NAMESPACE_OID, f"stumpwork {name} USD 2020"),
                "name": name,
                "currency": "USD",
                "rate_minor_per_hour": rate,
                "during": Range(datetime(2020, 1, 1, tzinfo=UTC), None),
            }
            for name, rate in FIRST_RATES.items()
        ],
    )
    op.create_table(
        "bulk_import",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id")),
        sa.Column("project_id", sa.Uuid),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("unchanged", sa.BigInteger, nullable=False),
        sa.Column("conflicts", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint("kind in ('tasks', 'interests', 'experts')", name="kind"),
        schema="market",
    )
    op.create_index(
        "ix_bulk_import_project_id", "bulk_import", ["project_id", "id"], schema="market"
    )
    op.create_table(
        "import_row",
        sa.Column("import_id", sa.Uuid, sa.ForeignKey("market.bulk_import.id"), nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("code", sa.Text),
        sa.Column("pointer", sa.Text),
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("import_id", "line"),
        sa.CheckConstraint(
            "verdict in ('created', 'unchanged', 'conflict', 'rejected')", name="verdict"
        ),
        schema="market",
    )

    machine("market.expert", "standing", STANDING)
    for table in ("expert", "expert_domain", "tier_assignment", "bulk_import", "import_row"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}")
    # Everybody may know what a pay tier pays; only the platform sets it.
    platform_may("market.pay_tier", "select, insert, update")
    for role in (LAB, EXPERT, REVIEWER):
        op.execute(f"grant select on market.pay_tier to {role}")
    tenant_may("market.expert", EXPERT, "select", "id = (select market.tenant())")
    for table in ("expert_domain", "tier_assignment"):
        tenant_may(f"market.{table}", EXPERT, "select", "expert_id = (select market.tenant())")
    # An expert writes its own words: not its standing, which is a column left out here.
    op.execute(
        "grant update (headline, bio, country, timezone, languages, weekly_hours, max_concurrent,"
        f" version) on market.expert to {EXPERT}"
    )
    op.execute(
        f"create policy expert_update on market.expert for update to {EXPERT}"
        " using (id = (select market.tenant())) with check (id = (select market.tenant()))"
    )
    # And it claims domains, while what was shown by a test is not its own to change.
    tenant_may(
        "market.expert_domain",
        EXPERT,
        "insert, update, delete",
        "expert_id = (select market.tenant()) and level = 'claimed' and ability is null",
    )
    for table in ("bulk_import", "import_row"):
        tenant_may(
            f"market.{table}",
            LAB,
            "select, insert, update" if table == "bulk_import" else "select, insert",
            "organisation_id = (select market.tenant())",
        )


def downgrade() -> None:
    for table in (
        "import_row",
        "bulk_import",
        "tier_assignment",
        "pay_tier",
        "expert_domain",
        "expert",
    ):
        op.drop_table(table, schema="market")
    drop_machine("standing")
