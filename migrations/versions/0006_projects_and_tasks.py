"""Target models, projects, tasks, their slots, and interest in them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.grants import (
    EXPERT,
    LAB,
    drop_machine,
    guard_rows,
    platform_may,
    tenant_may,
)

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

PROJECT = {
    ("", "draft"),
    ("draft", "checking"),
    ("checking", "ready"),
    ("checking", "draft"),
    ("ready", "calibrating"),
    ("ready", "live"),
    ("ready", "cancelled"),
    ("calibrating", "live"),
    ("calibrating", "ready"),
    ("live", "paused"),
    ("live", "live"),
    ("paused", "live"),
    ("live", "draining"),
    ("paused", "draining"),
    ("draining", "settling"),
    ("settling", "closed"),
    ("closed", "ready"),
    ("closed", "archived"),
}
OPEN = ("draft", "queued", "active", "in_review", "disputed")
TASK = {
    ("", "draft"),
    ("", "queued"),
    ("draft", "queued"),
    ("queued", "active"),
    ("active", "queued"),
    ("active", "in_review"),
    ("in_review", "accepted"),
    ("in_review", "disputed"),
    ("in_review", "active"),
    ("disputed", "accepted"),
    ("disputed", "unresolvable"),
    ("accepted", "delivered"),
    ("delivered", "in_review"),
    *((state, target) for state in (*OPEN, "held") for target in ("cancelled", "expired")),
    *((state, "held") for state in OPEN),
    *(("held", state) for state in OPEN),
}
SLOT = {
    ("", "open"),
    ("open", "offered"),
    ("offered", "claimed"),
    ("claimed", "submitted"),
    ("submitted", "counted"),
    ("offered", "released"),
    ("claimed", "released"),
    ("submitted", "released"),
    ("released", "open"),
}


def _states(pairs: set[tuple[str, str]]) -> str:
    return ", ".join(sorted(f"'{state}'" for state in {target for _, target in pairs}))


def _machine(table: str, name: str, pairs: set[tuple[str, str]]) -> None:
    """The guard of `grants.machine`, asked only about what can be wrong.

    An import inserts rows by the hundred thousand, all in a state that a machine starts in: calling
    a function for each of them would cost more than the insert.
    """
    values = ", ".join(f"('{name}', '{source}', '{target}')" for source, target in sorted(pairs))
    op.execute(f"insert into market.state_rule (machine, from_state, to_state) values {values}")
    starts = ", ".join(sorted(f"'{target}'" for source, target in pairs if not source))
    op.execute(
        f"create trigger {table}_state_insert before insert on market.{table} for each row"
        f" when (new.state not in ({starts})) execute function market.guard_state('{name}')"
    )
    op.execute(
        f"create trigger {table}_state before update of state on market.{table} for each row"
        f" execute function market.guard_state('{name}')"
    )


def upgrade() -> None:
    op.create_table(
        "target_model",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("timeout_s", sa.BigInteger, nullable=False),
        sa.Column("max_tokens", sa.BigInteger, nullable=False),
        sa.Column("samples", sa.BigInteger, nullable=False),
        sa.Column("price_in_minor", sa.Numeric(20, 6), nullable=False),
        sa.Column("price_out_minor", sa.Numeric(20, 6), nullable=False),
        sa.Column("cost_cap_minor", sa.BigInteger, nullable=False),
        sa.Column("spent_minor", sa.Numeric(20, 6), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("id", "organisation_id"),
        sa.CheckConstraint("timeout_s between 1 and 600", name="timeout_s"),
        sa.CheckConstraint("max_tokens between 1 and 1000000", name="max_tokens"),
        sa.CheckConstraint("samples between 1 and 32", name="samples"),
        sa.CheckConstraint("price_in_minor >= 0 and price_out_minor >= 0", name="prices"),
        sa.CheckConstraint("cost_cap_minor >= 0", name="cost_cap_minor"),
        sa.CheckConstraint("spent_minor >= 0", name="spent_minor"),
        schema="market",
    )
    op.create_index(
        "ix_target_model_organisation_id",
        "target_model",
        ["organisation_id", "id"],
        schema="market",
    )
    op.create_table(
        "project",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("fee_basis_points", sa.BigInteger, nullable=False),
        sa.Column("brief", sa.Text, nullable=False),
        sa.Column("domains", ARRAY(sa.Text), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("rate_minor_per_hour", sa.BigInteger),
        sa.Column("cap_s", sa.BigInteger, nullable=False),
        sa.Column("answers_per_task", sa.BigInteger, nullable=False),
        sa.Column("reviews_per_submission", sa.BigInteger, nullable=False),
        sa.Column("offer_ttl_s", sa.BigInteger, nullable=False),
        sa.Column("work_ttl_s", sa.BigInteger, nullable=False),
        sa.Column("review_ttl_s", sa.BigInteger, nullable=False),
        sa.Column("minimum_level", sa.Text, nullable=False),
        sa.Column("target_model_id", sa.Uuid),
        sa.Column("policy_id", sa.Uuid),
        sa.Column("require_interest", sa.Boolean, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("closed_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("id", "organisation_id"),
        sa.ForeignKeyConstraint(
            ["target_model_id", "organisation_id"],
            ["market.target_model.id", "market.target_model.organisation_id"],
        ),
        sa.CheckConstraint(f"state in ({_states(PROJECT)})", name="state"),
        sa.CheckConstraint("minimum_level in ('claimed', 'qualified')", name="minimum_level"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        sa.CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        sa.CheckConstraint("fee_basis_points between 0 and 10000", name="fee_basis_points"),
        sa.CheckConstraint("answers_per_task between 1 and 100", name="answers_per_task"),
        sa.CheckConstraint(
            "reviews_per_submission between 1 and 15", name="reviews_per_submission"
        ),
        sa.CheckConstraint(
            "least(cap_s, offer_ttl_s, work_ttl_s, review_ttl_s) > 0", name="durations"
        ),
        sa.CheckConstraint("round > 0", name="round"),
        schema="market",
    )
    op.create_index(
        "ix_project_organisation_id", "project", ["organisation_id", "id"], schema="market"
    )
    op.create_index("ix_project_state", "project", ["state"], schema="market")
    op.create_table(
        "task",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("external_id", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("expected_s", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("complexity", sa.SmallInteger, nullable=False),
        sa.Column("value_weight", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("held_from", sa.Text),
        sa.Column("import_id", sa.Uuid),
        sa.Column("import_line", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("project_id", "external_id"),
        sa.UniqueConstraint("id", "organisation_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        sa.CheckConstraint(f"state in ({_states(TASK)})", name="state"),
        sa.CheckConstraint("complexity between 1 and 10", name="complexity"),
        sa.CheckConstraint("expected_s > 0", name="expected_s"),
        sa.CheckConstraint("value_weight > 0 and value_weight <= 1000", name="value_weight"),
        sa.CheckConstraint("(state = 'held') = (held_from is not null)", name="held_from"),
        schema="market",
    )
    op.create_index(
        "ix_task_project_id_state", "task", ["project_id", "state", "id"], schema="market"
    )
    op.create_index("ix_task_import_id", "task", ["import_id", "import_line"], schema="market")
    op.create_table(
        "task_slot",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("offer_id", sa.Uuid),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("task_id", "number"),
        sa.ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
        sa.CheckConstraint(f"state in ({_states(SLOT)})", name="state"),
        sa.CheckConstraint("number > 0", name="number"),
        sa.CheckConstraint("(state in ('open', 'released')) = (offer_id is null)", name="offer_id"),
        schema="market",
    )
    op.create_table(
        "interest",
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("stated_at", TIME, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("expert_id", "task_id"),
        sa.ForeignKeyConstraint(
            ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
        ),
        sa.CheckConstraint("value between 0 and 1", name="value"),
        schema="market",
    )
    op.create_index("ix_interest_task_id", "interest", ["task_id"], schema="market")
    op.create_index("ix_interest_project_id", "interest", ["project_id"], schema="market")

    _machine("project", "project", PROJECT)
    _machine("task", "task", TASK)
    _machine("task_slot", "task_slot", SLOT)
    for table in ("target_model", "project", "task", "task_slot", "interest"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}")
        tenant_may(
            f"market.{table}",
            LAB,
            "select" if table == "interest" else "select, insert, update",
            "organisation_id = (select market.tenant())",
        )
    tenant_may("market.interest", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    for table in ("interest", "task_slot", "task", "project", "target_model"):
        op.drop_table(table, schema="market")
    for name in ("project", "task", "task_slot"):
        drop_machine(name)
