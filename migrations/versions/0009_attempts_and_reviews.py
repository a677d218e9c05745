"""Attempts at target models, their answers, reviews and verdicts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "expert_id = (select market.tenant())"
OF_LAB = "organisation_id = (select market.tenant())"

ATTEMPT_PAIRS = {
    ("", "drafted"),
    ("auto_judged", "validating"),
    ("claimed", "auto_judged"),
    ("claimed", "validating"),
    ("drafted", "sent"),
    ("responded", "claimed"),
    ("responded", "not_stumped"),
    ("sent", "failed"),
    ("sent", "responded"),
    ("validating", "not_stumped"),
    ("validating", "refuted"),
    ("validating", "verified"),
}
REVIEW_PAIRS = {
    ("", "queued"),
    ("adjudicating", "final"),
    ("agreed", "final"),
    ("claimed", "expired"),
    ("claimed", "in_progress"),
    ("claimed", "recused"),
    ("claimed", "voted"),
    ("conflict", "adjudicating"),
    ("expired", "queued"),
    ("final", "overturned"),
    ("in_progress", "expired"),
    ("in_progress", "recused"),
    ("in_progress", "voted"),
    ("queued", "claimed"),
    ("queued", "expired"),
    ("voted", "agreed"),
    ("voted", "conflict"),
}
REASON_CODES = (
    "instructions_not_followed",
    "wrong_answer",
    "incomplete",
    "not_original",
    "unclear",
    "out_of_domain",
    "unsafe_content",
    "fabricated",
)


def refers(name: str, table: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), nullable=nullable)


def states(pairs: set[tuple[str, str]]) -> str:
    names = sorted({state for pair in pairs for state in pair if state})
    return "state in (" + ", ".join(f"'{name}'" for name in names) + ")"


def upgrade() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("task_id", "task"),
        refers("offer_id", "offer"),
        refers("expert_id", "person"),
        refers("target_model_id", "target_model"),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("sent_at", TIME),
        sa.Column("responded_at", TIME),
        sa.Column("claims_stump", sa.Boolean),
        sa.Column("claimed_at", TIME),
        sa.Column("judge_missed", sa.BigInteger),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure", sa.Text),
        sa.Column("reserved_minor", sa.Numeric, nullable=False),
        sa.Column("leased_until", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(states(ATTEMPT_PAIRS), name="state"),
        sa.CheckConstraint("reserved_minor >= 0", name="reserved_minor"),
        sa.CheckConstraint("(state = 'failed') = (failure_code is not null)", name="failure_code"),
        schema="market",
    )
    op.create_index("ix_attempt_offer_id", "attempt", ["offer_id"], schema="market")
    op.create_index("ix_attempt_project_id", "attempt", ["project_id", "id"], schema="market")
    op.create_index(
        "uq_attempt_sent",
        "attempt",
        ["offer_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state in ('drafted', 'sent')"),
    )
    op.create_table(
        "attempt_response",
        refers("attempt_id", "attempt"),
        sa.Column("k", sa.SmallInteger, nullable=False),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("expert_id", sa.Uuid, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("latency_ms", sa.BigInteger, nullable=False),
        sa.Column("tokens_in", sa.BigInteger),
        sa.Column("tokens_out", sa.BigInteger),
        sa.Column("cost_minor", sa.Numeric, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("request_digest", sa.LargeBinary, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("response_digest", sa.LargeBinary, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("model_version", sa.Text),
        sa.PrimaryKeyConstraint("attempt_id", "k"),
        sa.CheckConstraint("request_digest = sha256(request)", name="request_digest"),
        sa.CheckConstraint("response_digest = sha256(raw)", name="response_digest"),
        sa.CheckConstraint("k >= 0", name="k"),
        schema="market",
    )
    op.create_foreign_key(
        "fk_submission_attempt_id",
        "submission",
        "attempt",
        ["attempt_id"],
        ["id"],
        source_schema="market",
        referent_schema="market",
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("submission_id", "submission"),
        refers("expert_id", "person"),
        sa.Column("round", sa.SmallInteger, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("queued_at", TIME, nullable=False),
        sa.Column("has_attempt", sa.Boolean, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        refers("reviewer_id", "person", nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("model_failed", sa.Boolean),
        sa.Column("attempt_fair", sa.Boolean),
        sa.Column("reason_code", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("seconds", sa.BigInteger),
        sa.Column("claimed_at", TIME),
        sa.Column("voted_at", TIME),
        sa.Column("expires_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(states(REVIEW_PAIRS), name="state"),
        sa.CheckConstraint("reviewer_id <> expert_id", name="self_review"),
        sa.CheckConstraint("verdict in ('accept', 'reject')", name="verdict"),
        sa.CheckConstraint(
            f"reason_code in {REASON_CODES} or reason_code is null", name="reason_code"
        ),
        sa.CheckConstraint(
            "verdict <> 'reject' or (reason_code is not null and length(btrim(note)) >= 100)",
            name="rejection",
        ),
        sa.CheckConstraint("(voted_at is null) = (verdict is null)", name="voted_at"),
        sa.UniqueConstraint("submission_id", "round", "number"),
        sa.UniqueConstraint("submission_id", "round", "reviewer_id"),
        schema="market",
    )
    op.create_index(
        "ix_review_queue",
        "review",
        ["id"],
        schema="market",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_review_held",
        "review",
        ["expires_at"],
        schema="market",
        postgresql_where=sa.text("state in ('claimed', 'in_progress')"),
    )
    op.create_index("ix_review_reviewer_id", "review", ["reviewer_id", "id"], schema="market")
    op.create_index("ix_review_project_id", "review", ["project_id", "id"], schema="market")
    op.create_table(
        "verdict",
        sa.Column(
            "submission_id", sa.Uuid, sa.ForeignKey("market.submission.id"), primary_key=True
        ),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("task_id", "task"),
        refers("expert_id", "person"),
        sa.Column("votes", sa.BigInteger, nullable=False),
        sa.Column("rejects", sa.BigInteger, nullable=False),
        sa.Column("is_accepted", sa.Boolean, nullable=False),
        sa.Column("is_tested", sa.Boolean, nullable=False),
        sa.Column("is_validated", sa.Boolean, nullable=False),
        sa.Column("is_stump", sa.Boolean, nullable=False),
        sa.Column("is_silent", sa.Boolean, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.CheckConstraint("not is_stump or (is_validated and is_accepted)", name="is_stump"),
        schema="market",
    )
    op.create_index(
        "ix_verdict_project_id", "verdict", ["project_id", "submission_id"], schema="market"
    )
    op.create_index("ix_verdict_expert_id", "verdict", ["expert_id"], schema="market")
    machine("market.attempt", "attempt", ATTEMPT_PAIRS)
    machine("market.review", "review", REVIEW_PAIRS)
    append_only("market.attempt_response")

    for table in ("attempt", "attempt_response", "review", "verdict"):
        guard_rows(f"market.{table}")
    platform_may("market.attempt", "select, insert, update")
    platform_may("market.attempt_response", "select, insert")
    platform_may("market.review", "select, insert, update")
    platform_may("market.verdict", "select, insert")

    for table in ("attempt", "attempt_response"):
        tenant_may(f"market.{table}", EXPERT, "select", OWN)
        tenant_may(f"market.{table}", LAB, "select", OF_LAB)
    # Reviewers see what they hold: the submission, its task and its evidence.
    held = (
        "exists (select from market.review r where r.submission_id = {}"
        " and r.reviewer_id = (select market.tenant()))"
    )
    tenant_may("market.submission", REVIEWER, "select", held.format("submission.id"))
    tenant_may(
        "market.task",
        REVIEWER,
        "select",
        "exists (select from market.submission s where s.task_id = task.id)",
    )
    tenant_may(
        "market.attempt",
        REVIEWER,
        "select",
        "exists (select from market.submission s where s.attempt_id = attempt.id)",
    )
    tenant_may(
        "market.attempt_response",
        REVIEWER,
        "select",
        "exists (select from market.submission s where s.attempt_id = attempt_response.attempt_id)",
    )
    # The queue shows everybody's work but one's own; who votes sees no other vote.
    tenant_may(
        "market.review",
        REVIEWER,
        "select",
        "reviewer_id = (select market.tenant())"
        " or (state = 'queued' and expert_id <> (select market.tenant()))",
    )
    tenant_may("market.review", LAB, "select", OF_LAB)
    # An author reads the votes when they have become a verdict, not before.
    tenant_may(
        "market.review",
        EXPERT,
        "select",
        f"{OWN} and exists (select from market.verdict v"
        " where v.submission_id = review.submission_id)",
    )
    tenant_may("market.verdict", LAB, "select", OF_LAB)
    tenant_may("market.verdict", EXPERT, "select", OWN)
    tenant_may("market.verdict", REVIEWER, "select", held.format("verdict.submission_id"))


def downgrade() -> None:
    op.drop_constraint("fk_submission_attempt_id", "submission", schema="market")
    for table in ("submission", "task"):
        op.execute(f"drop policy reviewer_select on market.{table}")
        op.execute(f"revoke all on market.{table} from {REVIEWER}")
    op.execute("drop policy expert_select on market.review")
    for table in ("verdict", "review", "attempt_response", "attempt"):
        op.drop_table(table, schema="market")
    for name in ("review", "attempt"):
        drop_machine(name)
