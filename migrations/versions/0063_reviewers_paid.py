"""Who reviews reads its own pay too: tests of reviewers are paid as those of experts."""

from alembic import op

from migrations.grants import REVIEWER, tenant_may

revision = "0063"
down_revision = "0062"
branch_labels = None
depends_on = None

OWN = "expert_id = (select market.tenant())"
OWN_ACCOUNT = "exists (select from payouts.ledger_account a where a.id = account_id)"
OWNED = {
    "market.earning": OWN,
    "market.expert": "id = (select market.tenant())",
    "market.time_entry": OWN,
    "market.offer": OWN,
    "market.fraud_case": OWN,
    "market.recovery_case": OWN,
    "market.dispute": OWN,
    "payouts.payee": "owner_id = market.tenant()",
    "payouts.payout": "owner_id = market.tenant()",
    "payouts.payout_move": "owner_id = market.tenant()",
    "payouts.payout_hold": "owner_id = market.tenant()",
    "payouts.transfer": "owner_id = market.tenant()",
    "payouts.recovery": "owner_id = market.tenant()",
    "payouts.ledger_account": "tenant_id = market.tenant()",
    "payouts.ledger_balance": OWN_ACCOUNT,
    "payouts.unfolded_line": OWN_ACCOUNT,
}


def upgrade() -> None:
    op.execute(f"grant usage on schema payouts to {REVIEWER}")
    for table, rows in OWNED.items():
        tenant_may(table, REVIEWER, "select", rows)


def downgrade() -> None:
    for table in OWNED:
        op.execute(f"drop policy reviewer_select on {table}")
        op.execute(f"revoke select on {table} from {REVIEWER}")
    op.execute(f"revoke usage on schema payouts from {REVIEWER}")
