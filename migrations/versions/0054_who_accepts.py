"""Who may accept work by a review plan, what of a checklist was not met, and work not judged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None

BEFORE = "('votes', 'silence', 'sample', 'adjudication', 'appeal', 'unreject', 'case')"
AFTER = BEFORE.replace(")", ", 'checklist')")


def upgrade() -> None:
    op.add_column("review_draw", sa.Column("authority", sa.Text), schema="market")
    op.add_column(
        "review_draw",
        sa.Column("unmet", ARRAY(sa.Text), nullable=False, server_default="{}"),
        schema="market",
    )
    op.alter_column("review_draw", "unmet", server_default=None, schema="market")
    op.create_check_constraint(
        "authority", "review_draw", "authority in ('checklist', 'panel', 'both')", schema="market"
    )
    op.add_column(
        "submission", sa.Column("unjudged_at", sa.DateTime(timezone=True)), schema="market"
    )
    _allow_bases(AFTER)


def downgrade() -> None:
    # What a checklist accepted was spared a review, as a draw spares it.
    op.execute("update market.verdict set basis = 'sample' where basis = 'checklist'")
    _allow_bases(BEFORE)
    op.drop_column("submission", "unjudged_at", schema="market")
    op.drop_column("review_draw", "unmet", schema="market")
    op.drop_column("review_draw", "authority", schema="market")


def _allow_bases(bases: str) -> None:
    op.drop_constraint("ck_verdict_basis", "verdict", schema="market")
    op.create_check_constraint("basis", "verdict", f"basis in {bases}", schema="market")
