"""Departures, closed countries, a standing of those who left, and payouts below the minimum."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    allow_moves,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0060"
down_revision = "0059"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STANDINGS = "('good', 'watched', 'limited', 'suspended', 'closed')"
LEAVING = {
    *((one, "left") for one in ("good", "watched", "limited")),
    *(("left", one) for one in ("good", "watched", "limited")),
}
STAGES = ("returning", "settling", "paying", "done")
DEPARTURE = {
    ("", "returning"),
    *((one, other) for one in STAGES for other in (*STAGES, "called_off") if one != other),
}


def upgrade() -> None:
    op.create_table(
        "departure",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("begun_at", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("begun_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('returning', 'settling', 'paying', 'done', 'called_off')", name="state"
        ),
        sa.CheckConstraint("cause in ('own', 'asked', 'region', 'closed')", name="cause"),
        sa.CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        schema="market",
    )
    op.create_index(
        "uq_departure_expert_id",
        "departure",
        ["expert_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state <> 'called_off'"),
    )
    op.create_index(
        "ix_departure_under_way",
        "departure",
        ["id"],
        schema="market",
        postgresql_where=sa.text("state in ('returning', 'settling', 'paying')"),
    )
    op.create_table(
        "closed_country",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("closed_at", TIME, nullable=False),
        sa.Column("closed_by", sa.Uuid, nullable=False),
        sa.Column("opened_at", TIME),
        sa.Column("opened_by", sa.Uuid),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        sa.CheckConstraint("length(btrim(reason)) >= 10", name="reason"),
        sa.CheckConstraint("(opened_at is null) = (opened_by is null)", name="opened"),
        schema="market",
    )
    op.create_index(
        "uq_closed_country_country",
        "closed_country",
        ["country"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("opened_at is null"),
    )
    for table in ("departure", "closed_country"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    tenant_may("market.departure", EXPERT, "select", "expert_id = (select market.tenant())")
    machine("market.departure", "departure", DEPARTURE)
    _allow_standings(STANDINGS.replace(")", ", 'left')"))
    allow_moves("standing", LEAVING)
    op.add_column(
        "payee",
        sa.Column("is_leaving", sa.Boolean, nullable=False, server_default=sa.false()),
        schema="payouts",
    )


def downgrade() -> None:
    op.drop_column("payee", "is_leaving", schema="payouts")
    # Whoever has left comes back to good standing; the steps against it are kept as they are.
    op.execute("update market.expert set state = 'good' where state = 'left'")
    op.execute(
        "delete from market.state_rule"
        " where machine = 'standing' and 'left' in (from_state, to_state)"
    )
    _allow_standings(STANDINGS)
    op.drop_table("closed_country", schema="market")
    op.drop_table("departure", schema="market")
    drop_machine("departure")


def _allow_standings(states: str) -> None:
    op.drop_constraint("ck_expert_state", "expert", schema="market")
    op.create_check_constraint("state", "expert", f"state in {states}", schema="market")
