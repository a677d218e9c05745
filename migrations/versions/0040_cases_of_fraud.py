"""Cases of fraud, which void accepted work after a hearing, and the moves that follow from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.grants import (
    EXPERT,
    allow_moves,
    drop_machine,
    forbid_moves,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STATES = "('opened', 'upheld', 'dismissed', 'appealed', 'final', 'overturned')"
PAIRS = {
    ("", "opened"),
    ("opened", "upheld"),
    ("opened", "dismissed"),
    ("upheld", "appealed"),
    ("appealed", "final"),
    ("appealed", "overturned"),
}
MOVES = {
    "submission": {("voided", "accepted")},
    "task": {("accepted", "in_review")},
    "task_slot": {("counted", "released")},
}


def upgrade() -> None:
    op.create_table(
        "fraud_case",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("submission_id", sa.Uuid, sa.ForeignKey("market.submission.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("opened_by", sa.Uuid, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("answer_by", TIME, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("answered_at", TIME),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("decided_at", TIME),
        sa.Column("decision", sa.Text),
        sa.Column("pay_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("appeal", sa.Text),
        sa.Column("appealed_at", TIME),
        sa.Column("appeal_due_at", TIME),
        sa.Column("final_by", sa.Uuid),
        sa.Column("final_at", TIME),
        sa.Column("final_note", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(f"state in {STATES}", name="state"),
        sa.CheckConstraint("length(btrim(reason)) >= 40", name="reason"),
        sa.CheckConstraint("decided_by is distinct from opened_by", name="two_people"),
        sa.CheckConstraint("final_by <> opened_by and final_by <> decided_by", name="third_person"),
        sa.CheckConstraint("(state = 'opened') = (decided_by is null)", name="decided"),
        sa.CheckConstraint(
            "state <> 'appealed' or appeal_due_at is not null", name="appeal_due_at"
        ),
        sa.CheckConstraint("state <> 'final' or final_by is not null", name="final_by"),
        sa.CheckConstraint("pay_minor >= 0 and fee_minor >= 0", name="amounts"),
        schema="market",
    )
    op.create_index("ix_fraud_case_expert_id", "fraud_case", ["expert_id", "id"], schema="market")
    op.create_index(
        "uq_fraud_case_submission_id",
        "fraud_case",
        ["submission_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state not in ('dismissed', 'overturned')"),
    )
    op.create_index(
        "ix_fraud_case_appeal_due_at",
        "fraud_case",
        ["appeal_due_at"],
        schema="market",
        postgresql_where=sa.text("state = 'appealed'"),
    )
    machine("market.fraud_case", "fraud_case", PAIRS)
    guard_rows("market.fraud_case")
    platform_may("market.fraud_case", "select, insert, update")
    tenant_may("market.fraud_case", EXPERT, "select", "expert_id = (select market.tenant())")
    for name, pairs in MOVES.items():
        allow_moves(name, pairs)


def downgrade() -> None:
    for name, pairs in MOVES.items():
        forbid_moves(name, pairs)
    op.drop_table("fraud_case", schema="market")
    drop_machine("fraud_case")
