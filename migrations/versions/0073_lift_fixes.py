"""Items of lift batches keep the fix that stood; notifications are found by their subject."""

import sqlalchemy as sa
from alembic import op

revision = "0073"
down_revision = "0072"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lift_item", sa.Column("fix_id", sa.Uuid), schema="market")
    op.create_foreign_key(
        "fk_lift_item_fix_id",
        "lift_item",
        "submission_fix",
        ["fix_id"],
        ["id"],
        source_schema="market",
        referent_schema="market",
    )
    op.create_index(
        "ix_notification_subject_id", "notification", ["subject_id", "person_id"], schema="market"
    )


def downgrade() -> None:
    op.drop_index("ix_notification_subject_id", table_name="notification", schema="market")
    op.drop_column("lift_item", "fix_id", schema="market")
