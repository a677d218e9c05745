"""How low a project's budget was when its lab was told."""

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("budget_warned", sa.Text), schema="market")
    op.create_check_constraint(
        "budget_warned", "project", "budget_warned in ('low', 'exhausted')", schema="market"
    )


def downgrade() -> None:
    op.drop_column("project", "budget_warned", schema="market")
