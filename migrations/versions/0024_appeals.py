"""Steps of standing with their evidence, and appeals."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import (
    EXPERT,
    REVIEWER,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
APPEAL = {
    ("", "filed"),
    ("filed", "assigned"),
    ("assigned", "upheld"),
    ("assigned", "overturned"),
    ("assigned", "partly_overturned"),
    ("filed", "sla_missed"),
    ("assigned", "sla_missed"),
}


def upgrade() -> None:
    op.create_table(
        "measure",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("reason_code", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.Column("evidence", ARRAY(sa.Text), nullable=False),
        sa.Column("domains", ARRAY(sa.Text), nullable=False),
        sa.Column("until", TIME),
        sa.Column("taken_by", sa.Uuid),
        sa.Column("ended_at", TIME),
        sa.Column("ended_by", sa.Uuid),
        sa.Column("end_reason", sa.Text),
        sa.CheckConstraint("step in ('watch', 'limit', 'suspend', 'close')", name="step"),
        sa.CheckConstraint(
            "step not in ('suspend', 'close') or cardinality(evidence) > 0", name="evidence"
        ),
        sa.CheckConstraint("until > taken_at", name="until"),
        sa.CheckConstraint("(ended_at is null) = (end_reason is null)", name="end_reason"),
        schema="market",
    )
    op.create_index("ix_measure_expert_id", "measure", ["expert_id", "id"], schema="market")
    op.create_index(
        "ix_measure_until",
        "measure",
        ["until"],
        schema="market",
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "appeal",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("filed_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("involved", ARRAY(sa.Uuid), nullable=False),
        sa.Column("evidence", ARRAY(sa.Text), nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decider_id", sa.Uuid, sa.ForeignKey("market.person.id")),
        sa.Column("assigned_at", TIME),
        sa.Column("decided_at", TIME),
        sa.Column("decision", sa.Text),
        sa.Column("share", sa.SmallInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('filed', 'assigned', 'upheld', 'overturned', 'partly_overturned',"
            " 'sla_missed')",
            name="state",
        ),
        sa.CheckConstraint("kind in ('submission', 'measure', 'qualification')", name="kind"),
        sa.CheckConstraint("length(btrim(note)) >= 40", name="note"),
        sa.CheckConstraint("due_at > filed_at", name="due_at"),
        sa.CheckConstraint(
            "decider_id is null or (decider_id <> person_id and decider_id <> all (involved))",
            name="decider",
        ),
        sa.CheckConstraint(
            "state in ('filed', 'assigned', 'sla_missed')"
            " or (decider_id is not null and length(btrim(decision)) >= 40)",
            name="decision",
        ),
        sa.UniqueConstraint("kind", "subject_id"),
        schema="market",
    )
    op.create_index("ix_appeal_person_id", "appeal", ["person_id", "id"], schema="market")
    op.create_index(
        "ix_appeal_due_at",
        "appeal",
        ["due_at"],
        schema="market",
        postgresql_where=sa.text("state in ('filed', 'assigned')"),
    )
    machine("market.appeal", "appeal", APPEAL)
    for table in ("measure", "appeal"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    # Whom it concerns reads every word.
    tenant_may("market.measure", EXPERT, "select", "expert_id = (select market.tenant())")
    for role in (EXPERT, REVIEWER):
        tenant_may("market.appeal", role, "select", "person_id = (select market.tenant())")


def downgrade() -> None:
    for table in ("appeal", "measure"):
        op.drop_table(table, schema="market")
    drop_machine("appeal")
