"""What people are told: notifications, preferences and letters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import guard_rows, platform_may

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = ("feed_reader", "letter", "notification", "notice_preference")


def upgrade() -> None:
    op.create_table(
        "feed_reader",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        schema="market",
    )
    # Nobody is told of what happened before this was there.
    op.execute(
        """
        insert into market.feed_reader (name, seq) select 'inbox', coalesce(
            (select last_seq from market.feed_head where kind = 'platform'), 0
        )
        """
    )
    op.create_table(
        "letter",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("leased_until", TIME),
        sa.Column("sent_at", TIME),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("state in ('waiting', 'sent', 'failed')", name="state"),
        schema="market",
    )
    op.create_index(
        "ix_letter_due",
        "letter",
        ["due_at"],
        schema="market",
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "notification",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("event_id", sa.Uuid, sa.ForeignKey("market.event.id"), nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("mail", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("read_at", TIME),
        sa.Column("letter_id", sa.Uuid, sa.ForeignKey("market.letter.id")),
        sa.CheckConstraint("mail in ('now', 'digest', 'never')", name="mail"),
        sa.UniqueConstraint("person_id", "event_id"),
        schema="market",
    )
    op.create_index(
        "ix_notification_person_id", "notification", ["person_id", "id"], schema="market"
    )
    op.create_index(
        "ix_notification_digest",
        "notification",
        ["person_id"],
        schema="market",
        postgresql_where=sa.text("mail = 'digest' and letter_id is null"),
    )
    op.create_table(
        "notice_preference",
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), primary_key=True),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("mails", JSONB, nullable=False),
        sa.Column("next_digest_at", TIME, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("digest in ('daily', 'weekly')", name="digest"),
        sa.CheckConstraint("hour between 0 and 23", name="hour"),
        schema="market",
    )
    op.create_index(
        "ix_notice_preference_next_digest_at",
        "notice_preference",
        ["next_digest_at"],
        schema="market",
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")


def downgrade() -> None:
    for table in ("notice_preference", "notification", "letter", "feed_reader"):
        op.drop_table(table, schema="market")
