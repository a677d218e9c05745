"""Hours of the week and time off of experts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE, TSTZMULTIRANGE

from migrations.grants import EXPERT

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind in (("week", INT4MULTIRANGE), ("away", TSTZMULTIRANGE)):
        op.add_column(
            "expert",
            sa.Column(name, kind, nullable=False, server_default=sa.text("'{}'")),
            schema="market",
        )
    op.add_column("expert", sa.Column("opens_at", sa.DateTime(timezone=True)), schema="market")
    op.create_check_constraint("week", "expert", "week <@ int4range(0, 10080)", schema="market")
    op.create_check_constraint(
        "away", "expert", "not (lower_inf(away) or upper_inf(away))", schema="market"
    )
    op.create_index(
        "ix_expert_opens_at",
        "expert",
        ["opens_at"],
        schema="market",
        postgresql_where=sa.text("opens_at is not null"),
    )
    op.execute(f"grant update (week, away, opens_at) on market.expert to {EXPERT}")


def downgrade() -> None:
    op.drop_index("ix_expert_opens_at", "expert", schema="market")
    for name in ("week", "away", "opens_at"):
        op.drop_column("expert", name, schema="market")
