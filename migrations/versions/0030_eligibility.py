"""Whom projects take, in steps that widen."""

from typing import TypeVar

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

OWN = "organisation_id = (select market.tenant())"


Value = TypeVar("Value")


def of_task() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["task_id", "organisation_id"], ["market.task.id", "market.task.organisation_id"]
    )


def needed(name: str, kind: type[sa.types.TypeEngine[Value]]) -> sa.Column[Value]:
    return sa.Column(name, kind, nullable=False)


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "eligibility",
        sa.Column("id", sa.Uuid, primary_key=True),
        needed("organisation_id", sa.Uuid),
        needed("project_id", sa.Uuid),
        needed("version", sa.BigInteger),
        needed("steps", JSONB),
        moment("set_at"),
        sa.Column("set_by", sa.Uuid),
        sa.UniqueConstraint("project_id", "version"),
        sa.ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        sa.CheckConstraint("version > 0", name="version"),
        schema="market",
    )
    op.create_table(
        "widening",
        sa.Column("task_id", sa.Uuid, primary_key=True),
        needed("organisation_id", sa.Uuid),
        needed("project_id", sa.Uuid),
        sa.Column(
            "eligibility_id", sa.Uuid, sa.ForeignKey("market.eligibility.id"), nullable=False
        ),
        needed("step", sa.SmallInteger),
        moment("since"),
        moment("due_at", nullable=True),
        sa.Column("left_s", sa.BigInteger),
        of_task(),
        sa.CheckConstraint("step > 0", name="step"),
        sa.CheckConstraint("due_at is null or left_s is null", name="left_s"),
        schema="market",
    )
    op.create_index("ix_widening_project_id", "widening", ["project_id", "due_at"], schema="market")
    op.create_table(
        "widening_step",
        sa.Column("id", sa.Uuid, primary_key=True),
        needed("task_id", sa.Uuid),
        needed("organisation_id", sa.Uuid),
        sa.Column(
            "eligibility_id", sa.Uuid, sa.ForeignKey("market.eligibility.id"), nullable=False
        ),
        needed("step", sa.SmallInteger),
        moment("at"),
        sa.UniqueConstraint("task_id", "eligibility_id", "step"),
        of_task(),
        schema="market",
    )
    append_only("market.eligibility")
    append_only("market.widening_step")
    for table, rights in (
        ("market.eligibility", "select, insert"),
        ("market.widening", "select, insert, update"),
        ("market.widening_step", "select, insert"),
    ):
        guard_rows(table)
        platform_may(table, rights)
    tenant_may("market.eligibility", LAB, "select, insert", OWN)
    tenant_may("market.widening", LAB, "select", OWN)
    tenant_may("market.widening_step", LAB, "select", OWN)


def downgrade() -> None:
    for table in ("widening_step", "widening", "eligibility"):
        op.drop_table(table, schema="market")
