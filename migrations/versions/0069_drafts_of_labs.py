"""A lab says which field of its tasks holds a draft."""

import sqlalchemy as sa
from alembic import op

revision = "0069"
down_revision = "0068"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("draft_field", sa.Text), schema="market")
    op.create_check_constraint(
        "draft_field", "project", "char_length(draft_field) between 1 and 100", schema="market"
    )


def downgrade() -> None:
    op.drop_column("project", "draft_field", schema="market")
