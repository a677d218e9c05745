"""Requests to give a task back; skips with their reasons, and the repairs that they lead to."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    LAB,
    append_only,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
ENDS = ("returned", "kept", "taken_back", "left", "withdrawn", "overtaken")
OF_LAB = "organisation_id = (select market.tenant())"
OWN = "expert_id = (select market.tenant())"
REASONS = (
    "'not_interested', 'no_time', 'outside_expertise', 'task_unclear', 'task_broken',"
    " 'conflict_of_interest', 'pay_too_low', 'other'"
)


def _key(name: str, to: str, *, nullable: bool = False) -> sa.Column[UUID]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{to}.id"), nullable=nullable)


def upgrade() -> None:
    op.add_column("task", sa.Column("clarification", sa.Text), schema="market")
    op.create_table(
        "return_request",
        sa.Column("id", sa.Uuid, primary_key=True),
        _key("organisation_id", "organisation"),
        _key("project_id", "project"),
        _key("task_id", "task"),
        _key("offer_id", "offer"),
        _key("expert_id", "person"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("silence", sa.Text, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("asked_by", sa.Uuid),
        sa.Column("answer", sa.Text),
        sa.Column("ended_at", TIME),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(f"state in {('asked', *ENDS)}", name="state"),
        sa.CheckConstraint("silence in ('return', 'keep')", name="silence"),
        sa.CheckConstraint("due_at > asked_at", name="due_at"),
        sa.CheckConstraint("(state = 'asked') = (ended_at is null)", name="ended_at"),
        sa.CheckConstraint("state <> 'kept' or answer is not null", name="answer"),
        schema="market",
    )
    waits = sa.text("state = 'asked'")
    op.create_index(
        "uq_return_request_asked",
        "return_request",
        ["offer_id"],
        unique=True,
        postgresql_where=waits,
        schema="market",
    )
    op.create_index(
        "ix_return_request_due_at",
        "return_request",
        ["due_at"],
        postgresql_where=waits,
        schema="market",
    )
    for column in ("project_id", "expert_id"):
        op.create_index(
            f"ix_return_request_{column}", "return_request", [column, "id"], schema="market"
        )
    op.create_table(
        "task_repair",
        sa.Column("id", sa.Uuid, primary_key=True),
        _key("organisation_id", "organisation"),
        _key("project_id", "project"),
        _key("task_id", "task"),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("holds_task", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("ended_at", TIME),
        sa.Column("ended_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state in ('open', 'repaired', 'closed')", name="state"),
        sa.CheckConstraint("(state = 'open') = (ended_at is null)", name="ended_at"),
        sa.CheckConstraint("state = 'open' or note is not null", name="note"),
        schema="market",
    )
    op.create_index(
        "uq_task_repair_open",
        "task_repair",
        ["task_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        schema="market",
    )
    op.create_index(
        "ix_task_repair_project_id", "task_repair", ["project_id", "id"], schema="market"
    )
    op.create_table(
        "task_skip",
        sa.Column("offer_id", sa.Uuid, sa.ForeignKey("market.offer.id"), primary_key=True),
        _key("organisation_id", "organisation"),
        _key("task_id", "task"),
        _key("expert_id", "person"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("note", sa.Text),
        _key("repair_id", "task_repair", nullable=True),
        sa.CheckConstraint(f"reason in ({REASONS})", name="reason"),
        schema="market",
    )
    op.create_index("ix_task_skip_task_id", "task_skip", ["task_id"], schema="market")
    op.create_index("ix_task_skip_repair_id", "task_skip", ["repair_id"], schema="market")
    op.create_index("ix_task_skip_expert_id", "task_skip", ["expert_id", "at"], schema="market")
    machine(
        "market.return_request",
        "return_request",
        {("", "asked"), *(("asked", end) for end in ENDS)},
    )
    machine(
        "market.task_repair",
        "task_repair",
        {("", "open"), ("open", "repaired"), ("open", "closed")},
    )
    for table in ("return_request", "task_repair", "task_skip"):
        guard_rows(f"market.{table}")
        tenant_may(f"market.{table}", LAB, "select", OF_LAB)
    platform_may("market.return_request", "select, insert, update")
    platform_may("market.task_repair", "select, insert, update")
    platform_may("market.task_skip", "select, insert")
    append_only("market.task_skip")
    tenant_may("market.return_request", EXPERT, "select", OWN)
    tenant_may("market.task_skip", EXPERT, "select", OWN)


def downgrade() -> None:
    for table in ("task_skip", "task_repair", "return_request"):
        op.drop_table(table, schema="market")
    for name in ("task_repair", "return_request"):
        drop_machine(name)
    op.drop_column("task", "clarification", schema="market")
