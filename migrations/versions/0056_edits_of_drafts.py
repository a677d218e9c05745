"""What became of drafts that experts began from, and what projects do about unedited ones."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import (
    EXPERT,
    LAB,
    REVIEWER,
    append_only,
    guard_rows,
    platform_may,
    tenant_may,
)

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None

ME = "(select market.tenant())"


def upgrade() -> None:
    op.add_column(
        "project",
        sa.Column("unedited_drafts", sa.Text, nullable=False, server_default=sa.text("'allowed'")),
        schema="market",
    )
    op.create_check_constraint(
        "unedited_drafts",
        "project",
        "unedited_drafts in ('allowed', 'flagged', 'refused')",
        schema="market",
    )
    op.create_table(
        "submission_edit",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("submission_id", sa.Uuid, sa.ForeignKey("market.submission.id"), nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draft_digest", sa.LargeBinary, nullable=False),
        sa.Column("draft_words", sa.BigInteger, nullable=False),
        sa.Column("text_words", sa.BigInteger, nullable=False),
        sa.Column("distance", sa.BigInteger, nullable=False),
        sa.Column("untouched_share", sa.Double, nullable=False),
        sa.Column("is_exact", sa.Boolean, nullable=False),
        sa.Column("is_flagged", sa.Boolean, nullable=False),
        sa.Column("regions", ARRAY(sa.BigInteger, dimensions=2), nullable=False),
        sa.CheckConstraint("untouched_share between 0 and 1", name="untouched_share"),
        sa.CheckConstraint("least(draft_words, text_words, distance) >= 0", name="words"),
        sa.CheckConstraint("not is_flagged or distance = 0", name="is_flagged"),
        sa.UniqueConstraint("submission_id", "round"),
        schema="market",
    )
    op.create_index(
        "ix_submission_edit_project_id", "submission_edit", ["project_id", "id"], schema="market"
    )
    op.create_index(
        "ix_submission_edit_expert_id", "submission_edit", ["expert_id"], schema="market"
    )
    guard_rows("market.submission_edit")
    platform_may("market.submission_edit", "select, insert")
    append_only("market.submission_edit")
    tenant_may("market.submission_edit", LAB, "select", f"organisation_id = {ME}")
    tenant_may("market.submission_edit", EXPERT, "select", f"expert_id = {ME}")
    tenant_may(
        "market.submission_edit",
        REVIEWER,
        "select",
        "exists (select from market.review r where r.submission_id = submission_edit.submission_id"
        f" and r.reviewer_id = {ME})",
    )


def downgrade() -> None:
    op.drop_table("submission_edit", schema="market")
    op.drop_column("project", "unedited_drafts", schema="market")
