"""How far trials may raise a project's pay: as far as its lab allows; what was kept is retired."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "project",
        sa.Column(
            "trial_raise_basis_points", sa.BigInteger, nullable=False, server_default=sa.text("0")
        ),
        schema="market",
    )
    op.create_check_constraint(
        "trial_raise", "project", "trial_raise_basis_points between 0 and 10000", schema="market"
    )
    op.execute(
        "insert into market.state_rule (machine, from_state, to_state)"
        " values ('experiment', 'promoted', 'finished')"
    )


def downgrade() -> None:
    op.execute(
        "delete from market.state_rule"
        " where machine = 'experiment' and from_state = 'promoted' and to_state = 'finished'"
    )
    op.drop_column("project", "trial_raise_basis_points", schema="market")
