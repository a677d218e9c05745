"""What had come of units' offers when an experiment began, kept; exposures found by their offer."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import append_only, guard_rows, platform_may

revision = "0072"
down_revision = "0071"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiment_past",
        sa.Column("experiment_id", sa.Uuid, sa.ForeignKey("market.experiment.id")),
        sa.Column("unit_id", sa.Uuid),
        sa.Column("outcomes", JSONB, nullable=False),
        sa.Column("predicted", sa.Double),
        sa.PrimaryKeyConstraint("experiment_id", "unit_id"),
        schema="market",
    )
    append_only("market.experiment_past")
    guard_rows("market.experiment_past")
    platform_may("market.experiment_past", "select, insert")
    op.create_index(
        "ix_experiment_exposure_offer_id", "experiment_exposure", ["offer_id"], schema="market"
    )


def downgrade() -> None:
    op.drop_index(
        "ix_experiment_exposure_offer_id", table_name="experiment_exposure", schema="market"
    )
    op.drop_table("experiment_past", schema="market")
