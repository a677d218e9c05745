"""Cancelled payout runs take out what they have not sent some at a time; pay is found by week."""

from alembic import op

from migrations.grants import allow_moves, forbid_moves

revision = "0077"
down_revision = "0076"
branch_labels = None
depends_on = None

BEFORE = {(state, "cancelled") for state in ("pending", "running", "succeeded")}
NOW = {(state, "cancelling") for state in ("pending", "running", "succeeded")} | {
    ("cancelling", "cancelled")
}


def upgrade() -> None:
    _states("pending running succeeded cancelling cancelled")
    allow_moves("payout_run", NOW)
    forbid_moves("payout_run", BEFORE)
    op.create_index("ix_earning_week", "earning", ["week", "id"], schema="market")


def _states(states: str) -> None:
    listed = ", ".join(f"'{state}'" for state in states.split())
    op.execute("alter table market.payout_run drop constraint ck_payout_run_state")
    op.execute(
        "alter table market.payout_run add constraint ck_payout_run_state"
        f" check (state in ({listed}))"
    )


def downgrade() -> None:
    op.drop_index("ix_earning_week", table_name="earning", schema="market")
    op.execute("update market.payout_run set state = 'cancelled' where state = 'cancelling'")
    allow_moves("payout_run", BEFORE)
    forbid_moves("payout_run", NOW)
    _states("pending running succeeded cancelled")
