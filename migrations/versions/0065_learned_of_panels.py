"""The stump model learns of the other models of a panel, too."""

from alembic import op

revision = "0065"
down_revision = "0064"
branch_labels = None
depends_on = None

KINDS = "('verdict', 'offer', 'release')"


def upgrade() -> None:
    _allow_kinds(KINDS.replace(")", ", 'panel')"))


def downgrade() -> None:
    op.execute("delete from market.observation where kind = 'panel'")
    _allow_kinds(KINDS)


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint("ck_observation_kind", "observation", schema="market")
    op.create_check_constraint("kind", "observation", f"kind in {kinds}", schema="market")
