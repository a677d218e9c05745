"""What a stump pays on top, promised with the work."""

import sqlalchemy as sa
from alembic import op

revision = "0068"
down_revision = "0067"
branch_labels = None
depends_on = None

OLD = "(kind in ('bonus', 'impact_bonus', 'sitting')) = (source_id is not null)"
NEW = "kind = 'impact_bonus' or (kind in ('bonus', 'sitting')) = (source_id is not null)"


def _source(said: str) -> None:
    op.execute("alter table market.earning drop constraint ck_earning_source")
    op.execute(f"alter table market.earning add constraint ck_earning_source check ({said})")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("project", sa.Column("impact_bonus_minor", sa.BigInteger()), schema="market")
    op.create_check_constraint("impact_bonus", "project", "impact_bonus_minor > 0", schema="market")
    _source(NEW)


def downgrade() -> None:
    op.execute("delete from market.earning where kind = 'impact_bonus' and source_id is null")
    _source(OLD)
    op.drop_column("project", "impact_bonus_minor", schema="market")
