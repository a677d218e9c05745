"""Past stretches replayed under another policy, and experiments with their exposures and looks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.grants import append_only, drop_machine, guard_rows, machine, platform_may

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
EXPERIMENT = {
    ("", "draft"),
    ("draft", "running"),
    ("running", "stopped"),
    ("running", "finished"),
    ("running", "promoted"),
    ("finished", "promoted"),
    ("draft", "dropped"),
}
ADDED = ("experiment_look", "experiment_exposure")


def upgrade() -> None:
    op.create_table(
        "policy_preview",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("policy_id", sa.Uuid, sa.ForeignKey("market.policy.id"), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("asked", JSONB, nullable=False),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("requested_by", sa.Uuid),
        sa.Column("result", JSONB),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint("kind in ('preview', 'search')", name="kind"),
        sa.CheckConstraint("until > since", name="until"),
        schema="market",
    )
    _experiments()
    machine("market.experiment", "experiment", EXPERIMENT)
    for table in ADDED:
        append_only(f"market.{table}")
    for table in ("policy_preview", "experiment", *ADDED):
        guard_rows(f"market.{table}")
        platform_may(
            f"market.{table}", "select, insert" if table in ADDED else "select, insert, update"
        )


def _experiments() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("guardrails", ARRAY(sa.Text), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("treatment", JSONB, nullable=False),
        sa.Column("domain", sa.Text),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("control_policy_id", sa.Uuid, sa.ForeignKey("market.policy.id")),
        sa.Column("treated_policy_id", sa.Uuid, sa.ForeignKey("market.policy.id")),
        sa.Column("author_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("end_reason", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('draft', 'running', 'stopped', 'finished', 'promoted', 'dropped')",
            name="state",
        ),
        sa.CheckConstraint(
            "kind in ('policy', 'pay', 'instructions', 'tool_version', 'draft')", name="kind"
        ),
        sa.CheckConstraint("unit in ('expert', 'project')", name="unit"),
        sa.CheckConstraint("share > 0 and share < 1", name="share"),
        sa.CheckConstraint("kind <> 'policy' or treated_policy_id is not null", name="treated"),
        schema="market",
    )
    op.create_index(
        "uq_experiment_running",
        "experiment",
        ["kind"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "experiment_exposure",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("experiment_id", sa.Uuid, sa.ForeignKey("market.experiment.id"), nullable=False),
        sa.Column("offer_id", sa.Uuid, nullable=False),
        sa.Column("unit_id", sa.Uuid, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("arm in ('control', 'treated')", name="arm"),
        sa.UniqueConstraint("experiment_id", "offer_id"),
        schema="market",
    )
    op.create_table(
        "experiment_look",
        sa.Column("experiment_id", sa.Uuid, sa.ForeignKey("market.experiment.id")),
        sa.Column("number", sa.BigInteger),
        sa.Column("at", TIME, nullable=False),
        sa.Column("exposed", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("effects", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "number"),
        schema="market",
    )


def downgrade() -> None:
    for table in (*ADDED, "experiment", "policy_preview"):
        op.drop_table(table, schema="market")
    drop_machine("experiment")
