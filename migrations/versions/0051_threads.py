"""Threads on tasks, submissions and reviews, read by side."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import (
    EXPERT,
    LAB,
    REVIEWER,
    append_only,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
THREAD = {("", "open"), ("open", "resolved"), ("resolved", "open")}
ME = "(select market.tenant())"
MINE = (
    "exists (select from market.review r where r.submission_id = {submission}"
    f" and r.reviewer_id = {ME}"
    " and r.state not in ('recused', 'expired', 'queued') and ({more}))"
)


def upgrade() -> None:
    op.create_table(
        "thread",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id"), nullable=False),
        sa.Column("submission_id", sa.Uuid, sa.ForeignKey("market.submission.id")),
        sa.Column("author_id", sa.Uuid, sa.ForeignKey("market.person.id")),
        sa.Column("opened_by", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("opened_side", sa.Text, nullable=False),
        sa.Column("sides", ARRAY(sa.Text), nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("field", sa.Text),
        sa.Column("span_start", sa.BigInteger),
        sa.Column("span_end", sa.BigInteger),
        sa.Column("criterion", sa.Text),
        sa.Column("quote", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state in ('open', 'resolved')", name="state"),
        sa.CheckConstraint("kind in ('task', 'submission', 'review')", name="kind"),
        sa.CheckConstraint("span_start >= 0 and span_end > span_start", name="span"),
        schema="market",
    )
    for columns in (
        ["subject_id", "id"],
        ["submission_id"],
        ["task_id"],
        ["organisation_id", "id"],
        ["author_id", "id"],
    ):
        op.create_index(f"ix_thread_{columns[0]}", "thread", columns, schema="market")
    op.create_table(
        "remark",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("thread_id", sa.Uuid, sa.ForeignKey("market.thread.id"), nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("side in ('author', 'reviewer', 'lab', 'ops')", name="side"),
        sa.UniqueConstraint("thread_id", "number"),
        schema="market",
    )
    machine("market.thread", "thread", THREAD)
    for table in ("thread", "remark"):
        guard_rows(f"market.{table}")
    platform_may("market.thread", "select, insert, update")
    platform_may("market.remark", "select, insert")
    append_only("market.remark")
    tenant_may("market.thread", LAB, "select", f"organisation_id = {ME} and 'lab' = any (sides)")
    tenant_may(
        "market.thread",
        EXPERT,
        "select",
        f"'author' = any (sides) and (author_id = {ME} or author_id is null and exists"
        f" (select from market.offer o where o.task_id = thread.task_id and o.expert_id = {ME}))",
    )
    # A reviewer reads what other reviewers say once it has voted itself.
    tenant_may(
        "market.thread",
        REVIEWER,
        "select",
        "'reviewer' = any (sides) and "
        + MINE.format(
            submission="thread.submission_id",
            more=f"r.voted_at is not null or opened_side <> 'reviewer' or opened_by = {ME}",
        ),
    )
    for role in (LAB, EXPERT):
        tenant_may(
            "market.remark",
            role,
            "select",
            "exists (select from market.thread t where t.id = thread_id)",
        )
    voted = MINE.format(submission="t.submission_id", more="r.voted_at is not null")
    tenant_may(
        "market.remark",
        REVIEWER,
        "select",
        "exists (select from market.thread t where t.id = thread_id and"
        f" (side <> 'reviewer' or person_id = {ME} or {voted}))",
    )


def downgrade() -> None:
    for table in ("remark", "thread"):
        op.drop_table(table, schema="market")
    drop_machine("thread")
