"""A check is put at most once for each work that was handed in, however often the job runs."""

import sqlalchemy as sa
from alembic import op

revision = "0064"
down_revision = "0063"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gold_check", sa.Column("after_id", sa.Uuid()), schema="market")
    op.create_unique_constraint(
        "uq_gold_check_after_id", "gold_check", ["after_id"], schema="market"
    )
    op.create_foreign_key(
        "fk_gold_check_after_id_submission",
        "gold_check",
        "submission",
        ["after_id"],
        ["id"],
        source_schema="market",
        referent_schema="market",
    )


def downgrade() -> None:
    op.drop_column("gold_check", "after_id", schema="market")
