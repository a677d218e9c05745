"""Fixes: a reviewer's version beside its author's, and whose part of the credit is how large."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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

revision = "0067"
down_revision = "0066"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
PAIRS = {
    ("", "proposed"),
    ("proposed", "standing"),
    ("proposed", "passed_over"),
    ("standing", "withdrawn"),
}
KINDS = "('submission', 'measure', 'qualification', 'tier')"
SETTLED = "state in ('standing', 'withdrawn')"


def upgrade() -> None:
    op.create_table(
        "submission_fix",
        sa.Column("id", sa.Uuid, primary_key=True),
        *(
            sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), nullable=False)
            for name, table in (
                ("review_id", "review"),
                ("submission_id", "submission"),
                ("organisation_id", "organisation"),
                ("project_id", "project"),
                ("author_id", "person"),
                ("corrector_id", "person"),
            )
        ),
        sa.Column("round", sa.SmallInteger, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("author_words", "fixed_words", "distance")
        ),
        sa.Column("edited_share", sa.Double, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("settled_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("review_id"),
        sa.CheckConstraint(
            "state in ('proposed', 'standing', 'passed_over', 'withdrawn')", name="state"
        ),
        sa.CheckConstraint("corrector_id <> author_id", name="corrector"),
        sa.CheckConstraint(
            "distance > 0 and edited_share > 0 and edited_share <= 0.5", name="edited_share"
        ),
        sa.CheckConstraint("(state = 'proposed') = (settled_at is null)", name="settled_at"),
        schema="market",
    )
    op.create_index(
        "uq_submission_fix_standing",
        "submission_fix",
        ["submission_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state = 'standing'"),
    )
    for name, then in (
        ("submission_id", "round"),
        ("project_id", "id"),
        ("author_id", "id"),
        ("corrector_id", "id"),
    ):
        op.create_index(
            f"ix_submission_fix_{name}", "submission_fix", [name, then], schema="market"
        )
    machine("market.submission_fix", "fix", PAIRS)
    guard_rows("market.submission_fix")
    platform_may("market.submission_fix", "select, insert, update")
    of_lab = f"organisation_id = (select market.tenant()) and {SETTLED}"
    tenant_may("market.submission_fix", LAB, "select", of_lab)
    # An author reads a fix with the verdict, not before.
    of_author = (
        "author_id = (select market.tenant()) and state <> 'proposed' and exists"
        " (select from market.verdict v where v.submission_id = submission_fix.submission_id)"
    )
    tenant_may("market.submission_fix", EXPERT, "select", of_author)
    tenant_may(
        "market.submission_fix", REVIEWER, "select", "corrector_id = (select market.tenant())"
    )
    op.add_column("snapshot_answer", sa.Column("fix_id", sa.Uuid), schema="market")
    op.create_foreign_key(
        "fk_snapshot_answer_fix_id_submission_fix",
        "snapshot_answer",
        "submission_fix",
        ["fix_id"],
        ["id"],
        source_schema="market",
        referent_schema="market",
    )
    op.add_column(
        "item_credit",
        sa.Column("edited_share", sa.Double, nullable=False, server_default="0"),
        schema="market",
    )
    op.alter_column("item_credit", "edited_share", server_default=None, schema="market")
    op.create_check_constraint(
        "edited_share", "item_credit", "edited_share between 0 and 0.5", schema="market"
    )
    _allow_kinds(KINDS.replace(")", ", 'fix')"))


def downgrade() -> None:
    op.execute("delete from market.appeal where kind = 'fix'")
    _allow_kinds(KINDS)
    op.drop_column("item_credit", "edited_share", schema="market")
    op.drop_column("snapshot_answer", "fix_id", schema="market")
    op.drop_table("submission_fix", schema="market")
    drop_machine("fix")


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint("ck_appeal_kind", "appeal", schema="market")
    op.create_check_constraint("kind", "appeal", f"kind in {kinds}", schema="market")
