"""Disputes about time and its pay."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    LAB,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

PAIRS = {
    ("", "open"),
    ("open", "answered"),
    ("open", "decided"),
    ("open", "withdrawn"),
    ("answered", "withdrawn"),
    ("answered", "decided"),
    ("decided", "appealed"),
    ("decided", "final"),
    ("appealed", "final"),
}
CHECKS = {
    "state": "state in ('open', 'answered', 'decided', 'withdrawn', 'appealed', 'final')",
    "kind": "kind in ('hours', 'missing_time', 'unpaid_time')",
    "opened_part": "(kind = 'hours') = (opened_part = 'lab')",
    "range": "ends_at > starts_at and claimed_s > 0",
    "statement": "length(btrim(statement)) >= 20",
    "awarded_s": "awarded_s between 0 and claimed_s and final_s between awarded_s and claimed_s",
    "decided_by": "awarded_s is null or awarded_s = claimed_s"
    " or (decided_by is not null and coalesce(length(btrim(decision_note)), 0) >= 20)",
    "final_by": "final_s is null or final_s = claimed_s or appealed_at is null"
    " or (final_by is not null and coalesce(length(btrim(final_note)), 0) >= 20)",
    "own_case": "decided_by <> opened_by or is_conceded",
    "second_person": "final_by <> opened_by and final_by <> decided_by",
}


def refers(name: str, table: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "dispute",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("expert_id", "person"),
        refers("offer_id", "offer"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("claimed_s", sa.BigInteger, nullable=False),
        sa.Column("reason_code", sa.Text, nullable=False),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("evidence", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("opened_by", sa.Uuid, nullable=False),
        sa.Column("opened_part", sa.Text, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        sa.Column("responded_by", sa.Uuid),
        sa.Column("responded_at", TIME),
        sa.Column("is_conceded", sa.Boolean, nullable=False),
        sa.Column("awarded_s", sa.BigInteger),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("decided_at", TIME),
        sa.Column("decision_note", sa.Text),
        sa.Column("appealed_at", TIME),
        sa.Column("appeal", sa.Text),
        sa.Column("final_s", sa.BigInteger),
        sa.Column("final_by", sa.Uuid),
        sa.Column("final_at", TIME),
        sa.Column("final_note", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        *(sa.CheckConstraint(condition, name=name) for name, condition in CHECKS.items()),
        schema="market",
    )
    for column in ("organisation_id", "expert_id"):
        op.create_index(f"ix_dispute_{column}", "dispute", [column, "id"], schema="market")
    op.create_index("ix_dispute_offer_id", "dispute", ["offer_id"], schema="market")
    op.create_index(
        "ix_dispute_due",
        "dispute",
        ["due_at"],
        schema="market",
        postgresql_where=sa.text("state in ('open', 'answered', 'decided', 'appealed')"),
    )
    machine("market.dispute", "dispute", PAIRS)
    guard_rows("market.dispute")
    platform_may("market.dispute", "select, insert, update")
    tenant_may("market.dispute", LAB, "select", "organisation_id = (select market.tenant())")
    tenant_may("market.dispute", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    op.drop_table("dispute", schema="market")
    drop_machine("dispute")
