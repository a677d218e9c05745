"""Words of profiles and their index; many reservations at once; an end for offers whose grace is
over; what a run answered, to repeat it by.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from migrations.grants import PLATFORM

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "expert",
        sa.Column(
            "words",
            TSVECTOR,
            sa.Computed(
                "to_tsvector('english'::regconfig, headline || ' '::text || bio)", persisted=True
            ),
        ),
        schema="market",
    )
    op.create_index("ix_expert_words", "expert", ["words"], schema="market", postgresql_using="gin")
    op.execute(
        "insert into market.state_rule (machine, from_state, to_state)"
        " values ('offer', 'grace', 'abandoned')"
    )
    op.create_index(
        "ix_offer_grace",
        "offer",
        ["lease_until"],
        schema="market",
        postgresql_where=sa.text("state = 'grace'"),
    )
    op.create_index(
        "ix_verdict_task_id_stump",
        "verdict",
        ["project_id", "task_id"],
        schema="market",
        postgresql_where=sa.text("is_stump"),
    )
    for column in (sa.Column("answer_digest", sa.Text), sa.Column("warm_run_id", sa.Uuid)):
        op.add_column("matching_run", column, schema="market")
    _reservations()


def downgrade() -> None:
    op.execute("drop function payouts.lock_floors(uuid[])")
    for column in ("warm_run_id", "answer_digest"):
        op.drop_column("matching_run", column, schema="market")
    op.drop_index("ix_verdict_task_id_stump", "verdict", schema="market")
    op.drop_index("ix_offer_grace", "offer", schema="market")
    op.execute(
        "delete from market.state_rule"
        " where machine = 'offer' and from_state = 'grace' and to_state = 'abandoned'"
    )
    op.drop_index("ix_expert_words", "expert", schema="market")
    op.drop_column("expert", "words", schema="market")


def _reservations() -> None:
    # Only the owner may lock balances; what the lock finds is what can still be promised.
    op.execute(
        """
        create function payouts.lock_floors(p_accounts uuid[])
        returns table (account_id uuid, normal_side text, available_minor bigint)
        language sql security definer set search_path = payouts, pg_temp as $$
            select b.account_id, b.normal_side, b.posted_minor - b.promised_minor
            from payouts.ledger_balance b
            where b.account_id = any (p_accounts) and b.has_floor
            order by b.account_id for no key update
        $$
        """
    )
    op.execute("revoke execute on function payouts.lock_floors(uuid[]) from public")
    op.execute(f"grant execute on function payouts.lock_floors(uuid[]) to {PLATFORM}")
