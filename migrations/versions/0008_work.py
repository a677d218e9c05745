"""Work sessions, heartbeats, time entries and submissions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, ExcludeConstraint

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

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "expert_id = (select market.tenant())"
OF_LAB = "organisation_id = (select market.tenant())"

SESSION_PAIRS = {
    ("", "running"),
    ("idle", "ended"),
    ("idle", "paused"),
    ("idle", "running"),
    ("paused", "ended"),
    ("paused", "running"),
    ("running", "aborted"),
    ("running", "ended"),
    ("running", "idle"),
    ("running", "paused"),
}
TIME_ENTRY_PAIRS = {
    ("", "recorded"),
    ("adjusted", "payable"),
    ("confirmed", "disputed"),
    ("confirmed", "locked"),
    ("confirmed", "voided"),
    ("disputed", "adjusted"),
    ("disputed", "confirmed"),
    ("locked", "disputed"),
    ("locked", "payable"),
    ("payable", "settled"),
    ("recorded", "confirmed"),
    ("recorded", "disputed"),
    ("recorded", "voided"),
}
SUBMISSION_PAIRS = {
    ("", "draft"),
    ("accepted", "voided"),
    ("appealed", "accepted"),
    ("appealed", "rejected_final"),
    ("awaiting_review", "accepted"),
    ("awaiting_review", "in_review"),
    ("draft", "awaiting_review"),
    ("draft", "returned"),
    ("draft", "screened_out"),
    ("draft", "timed_out"),
    ("in_review", "accepted"),
    ("in_review", "partially_accepted"),
    ("in_review", "rejected"),
    ("in_review", "rework_requested"),
    ("partially_accepted", "appealed"),
    ("rejected", "accepted"),
    ("rejected", "appealed"),
    ("rejected_final", "accepted"),
    ("rework_requested", "awaiting_review"),
    ("rework_requested", "returned"),
}


def refers(name: str, table: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), nullable=False)


def states(pairs: set[tuple[str, str]]) -> str:
    names = sorted({state for pair in pairs for state in pair if state})
    return "state in (" + ", ".join(f"'{name}'" for name in names) + ")"


def upgrade() -> None:
    op.create_table(
        "work_session",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("task_id", "task"),
        refers("offer_id", "offer"),
        refers("expert_id", "person"),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("last_beat_at", TIME, nullable=False),
        sa.Column("last_active_at", TIME, nullable=False),
        sa.Column("cap_left_s", sa.BigInteger, nullable=False),
        sa.Column("day_used_s", sa.BigInteger, nullable=False),
        sa.Column("quiet_s", sa.BigInteger, nullable=False),
        sa.Column("stretch_at", TIME),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("paid_s", sa.BigInteger, nullable=False),
        sa.Column("capped_s", sa.BigInteger, nullable=False),
        sa.Column("paused_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(states(SESSION_PAIRS), name="state"),
        sa.CheckConstraint("quiet_s between 600 and 900", name="quiet_s"),
        sa.CheckConstraint("paid_s >= 0 and capped_s >= 0 and cap_left_s >= 0", name="seconds"),
        sa.CheckConstraint("(state = 'running') = (stretch_at is not null)", name="stretch"),
        schema="market",
        # Each heartbeat updates its row in place; room on the page spares the indexes.
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "uq_work_session_open",
        "work_session",
        ["expert_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state in ('running', 'idle', 'paused')"),
    )
    op.create_index("ix_work_session_offer_id", "work_session", ["offer_id"], schema="market")
    op.create_index("ix_work_session_project_id", "work_session", ["project_id"], schema="market")
    op.create_table(
        "heartbeat",
        refers("session_id", "work_session"),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq"),
        schema="market",
    )
    op.create_table(
        "time_entry",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("session_id", "work_session"),
        refers("offer_id", "offer"),
        refers("expert_id", "person"),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        sa.Column("during", TSTZRANGE, nullable=False),
        sa.Column("seconds", sa.BigInteger, nullable=False),
        sa.Column("capped_s", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(states(TIME_ENTRY_PAIRS), name="state"),
        sa.CheckConstraint("seconds > 0 and capped_s between 0 and seconds", name="seconds"),
        sa.CheckConstraint(
            "lower_inc(during) and not upper_inc(during)"
            " and extract(epoch from upper(during) - lower(during)) = seconds",
            name="during",
        ),
        ExcludeConstraint(
            ("expert_id", "="),
            ("during", "&&"),
            name="ex_time_entry_expert_id",
            using="gist",
            where=sa.text("state <> 'voided'"),
        ),
        schema="market",
    )
    op.create_index("ix_time_entry_offer_id", "time_entry", ["offer_id"], schema="market")
    op.create_index("ix_time_entry_session_id", "time_entry", ["session_id"], schema="market")
    op.create_index(
        "ix_time_entry_unconfirmed",
        "time_entry",
        ["id"],
        schema="market",
        postgresql_where=sa.text("state = 'recorded'"),
    )
    op.create_table(
        "submission",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("organisation_id", "organisation"),
        refers("project_id", "project"),
        refers("task_id", "task"),
        refers("slot_id", "task_slot"),
        refers("offer_id", "offer"),
        refers("expert_id", "person"),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        # Refers to an attempt, whose table comes with the next revision.
        sa.Column("attempt_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("submitted_at", TIME),
        sa.Column("decided_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(states(SUBMISSION_PAIRS), name="state"),
        sa.CheckConstraint(
            "submitted_at is not null or state in"
            " ('draft', 'returned', 'timed_out', 'screened_out')",
            name="submitted_at",
        ),
        sa.UniqueConstraint("offer_id"),
        schema="market",
    )
    op.create_index("ix_submission_project_id", "submission", ["project_id", "id"], schema="market")
    op.create_index("ix_submission_expert_id", "submission", ["expert_id", "id"], schema="market")
    op.create_index("ix_submission_task_id", "submission", ["task_id"], schema="market")
    op.create_index("ix_submission_attempt_id", "submission", ["attempt_id"], schema="market")
    op.create_index(
        "ix_submission_waiting",
        "submission",
        ["submitted_at"],
        schema="market",
        postgresql_where=sa.text("state in ('awaiting_review', 'in_review')"),
    )
    machine("market.work_session", "work_session", SESSION_PAIRS)
    machine("market.time_entry", "time_entry", TIME_ENTRY_PAIRS)
    machine("market.submission", "submission", SUBMISSION_PAIRS)
    append_only("market.heartbeat")

    for table in ("work_session", "heartbeat", "time_entry", "submission"):
        guard_rows(f"market.{table}")
    for table in ("work_session", "time_entry", "submission"):
        platform_may(f"market.{table}", "select, insert, update")
        tenant_may(f"market.{table}", EXPERT, "select, insert, update", OWN)
    platform_may("market.heartbeat", "select, insert")
    tenant_may(
        "market.heartbeat",
        EXPERT,
        "select, insert",
        "exists (select from market.work_session s where s.id = session_id"
        " and s.expert_id = (select market.tenant()))",
    )
    tenant_may("market.work_session", LAB, "select", OF_LAB)
    tenant_may("market.time_entry", LAB, "select, update", OF_LAB)
    # What is not handed in yet is its expert's alone.
    tenant_may("market.submission", LAB, "select", f"{OF_LAB} and submitted_at is not null")


def downgrade() -> None:
    for table in ("submission", "time_entry", "heartbeat", "work_session"):
        op.drop_table(table, schema="market")
    for name in ("submission", "time_entry", "work_session"):
        drop_machine(name)
