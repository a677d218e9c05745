"""Experiments say by an expression whom they are about; whom they touched is found by the unit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0081"
down_revision = "0080"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiment", sa.Column("scope", JSONB), schema="market")
    op.create_index(
        "ix_experiment_exposure_unit_id",
        "experiment_exposure",
        ["unit_id", "experiment_id"],
        schema="market",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_experiment_exposure_unit_id", table_name="experiment_exposure", schema="market"
    )
    op.drop_column("experiment", "scope", schema="market")
