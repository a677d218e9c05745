"""Panels of target models: models asked beside the target, and what reviewers say of each."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, REVIEWER, append_only, guard_rows, platform_may, tenant_may

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
RULES = "stump_rule in ('target', 'any', 'all')"
OPEN = "state in ('drafted', 'sent')"


def upgrade() -> None:
    op.add_column(
        "project",
        sa.Column("stump_rule", sa.Text, nullable=False, server_default="target"),
        schema="market",
    )
    op.alter_column("project", "stump_rule", server_default=None, schema="market")
    op.create_check_constraint("stump_rule", "project", RULES, schema="market")
    op.add_column("attempt", sa.Column("stump_rule", sa.Text), schema="market")
    op.create_check_constraint("stump_rule", "attempt", RULES, schema="market")
    op.add_column(
        "attempt",
        sa.Column("panel_of", sa.Uuid, sa.ForeignKey("market.attempt.id")),
        schema="market",
    )
    op.create_check_constraint(
        "panel_of", "attempt", "panel_of is null or stump_rule is null", schema="market"
    )
    op.create_index(
        "uq_attempt_panel_of",
        "attempt",
        ["panel_of", "target_model_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("panel_of is not null"),
    )
    _one_at_a_time(f"{OPEN} and panel_of is null")
    op.create_table(
        "panel_model",
        sa.Column("project_id", sa.Uuid, primary_key=True),
        sa.Column("target_model_id", sa.Uuid, primary_key=True),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        sa.ForeignKeyConstraint(
            ["target_model_id", "organisation_id"],
            ["market.target_model.id", "market.target_model.organisation_id"],
        ),
        schema="market",
    )
    op.create_table(
        "panel_vote",
        sa.Column("review_id", sa.Uuid, sa.ForeignKey("market.review.id"), primary_key=True),
        sa.Column("attempt_id", sa.Uuid, sa.ForeignKey("market.attempt.id"), primary_key=True),
        sa.Column("model_failed", sa.Boolean, nullable=False),
        schema="market",
    )
    append_only("market.panel_vote")
    for table in ("panel_model", "panel_vote"):
        guard_rows(f"market.{table}")
    platform_may("market.panel_model")
    platform_may("market.panel_vote", "select, insert")
    tenant_may(
        "market.panel_model",
        LAB,
        "select, insert, delete",
        "organisation_id = (select market.tenant())",
    )
    # Who reviews sees what every model of the panel answered, and not only the target.
    _reviewers_see("attempt", "s.attempt_id in (attempt.id, attempt.panel_of)")
    _reviewers_see(
        "attempt_response",
        "s.attempt_id in (select unnest(array[a.id, a.panel_of]) from market.attempt a"
        " where a.id = attempt_response.attempt_id)",
    )


def downgrade() -> None:
    _reviewers_see("attempt", "s.attempt_id = attempt.id")
    _reviewers_see("attempt_response", "s.attempt_id = attempt_response.attempt_id")
    op.drop_table("panel_vote", schema="market")
    op.drop_table("panel_model", schema="market")
    # Without panels these are questions of their own; what is open of them cannot be told apart.
    op.execute(
        "update market.attempt set state = 'failed', failure_code = 'panel_gone',"
        " failure = 'the panel that asked it is gone'"
        " where panel_of is not null and state = 'sent'"
    )
    op.drop_index("uq_attempt_panel_of", "attempt", schema="market")
    _one_at_a_time(OPEN)
    for name in ("panel_of", "stump_rule"):
        op.drop_constraint(f"ck_attempt_{name}", "attempt", schema="market")
        op.drop_column("attempt", name, schema="market")
    op.drop_constraint("ck_project_stump_rule", "project", schema="market")
    op.drop_column("project", "stump_rule", schema="market")


def _one_at_a_time(where: str) -> None:
    op.drop_index("uq_attempt_sent", "attempt", schema="market")
    op.create_index(
        "uq_attempt_sent",
        "attempt",
        ["offer_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text(where),
    )


def _reviewers_see(table: str, condition: str) -> None:
    op.execute(f"drop policy reviewer_select on market.{table}")
    op.execute(
        f"create policy reviewer_select on market.{table} for select to {REVIEWER}"
        f" using (exists (select from market.submission s where {condition}))"
    )
