"""Roles, tenants, state rules, events, operations, kept replies and the embedded queue."""

import sqlalchemy as sa
from alembic import op
from dramatiq_postgres import generate_init_sql
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import append_only, guard_rows, platform_may, tenant_may

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = ("stumpwork_platform", "stumpwork_lab", "stumpwork_expert", "stumpwork_reviewer")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for extension in ("btree_gist", "pg_trgm"):
        op.execute(f"create extension if not exists {extension}")
    for role in ROLES:
        # Roles belong to the whole server: another database of it may have made them already, and
        # may be making them at this very moment.
        op.execute(
            f"""
            do $$ begin
                if not exists (select from pg_roles where rolname = '{role}') then
                    create role {role} nologin;
                end if;
            exception when duplicate_object or unique_violation then null;
            end $$
            """
        )
        op.execute(f"grant {role} to current_user")
        op.execute(f"grant usage on schema market to {role}")
    op.execute(
        """
        create function market.tenant() returns uuid language sql stable parallel safe as
        $$ select nullif(current_setting('stumpwork.tenant', true), '')::uuid $$
        """
    )
    op.execute(
        """
        create function market.refuse_change() returns trigger language plpgsql as $$
        begin
            raise exception '% is append-only: % is refused', tg_table_name, tg_op
                using errcode = 'restrict_violation';
        end $$
        """
    )
    op.create_table(
        "state_rule",
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("machine", "from_state", "to_state"),
        schema="market",
    )
    op.execute(
        """
        create function market.guard_state() returns trigger language plpgsql security definer
        set search_path = market, pg_temp as $$
        declare before text := case when tg_op = 'INSERT' then '' else old.state end;
        begin
            if tg_op = 'UPDATE' and before = new.state then return new; end if;
            if not exists (
                select from market.state_rule
                where machine = tg_argv[0] and from_state = before and to_state = new.state
            ) then
                raise exception '% cannot go from % to %', tg_argv[0], before, new.state
                    using errcode = 'check_violation', constraint = 'state_rule';
            end if;
            return new;
        end $$
        """
    )
    platform_may("market.state_rule", "select")

    op.create_table(
        "event",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("person_id", sa.Uuid),
        sa.Column("actor_id", sa.Uuid),
        sa.Column("cause", sa.Text),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("relayed_at", TIME),
        schema="market",
    )
    op.create_index(
        "ix_event_unrelayed",
        "event",
        ["id"],
        schema="market",
        postgresql_where=sa.text("relayed_at is null"),
    )
    op.create_index("ix_event_subject_id", "event", ["subject_id"], schema="market")
    op.create_table(
        "state_change",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor_id", sa.Uuid),
        sa.Column("reason_code", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("event_id", sa.Uuid, sa.ForeignKey("market.event.id")),
        schema="market",
    )
    op.create_index(
        "ix_state_change_subject_id", "state_change", ["subject_id", "id"], schema="market"
    )
    append_only("market.state_change")
    for table in ("market.event", "market.state_change"):
        guard_rows(table)
        # Whoever acts writes the event of its act; reading them is another matter.
        for role in ROLES[1:]:
            tenant_may(table, role, "insert", "true")
    platform_may("market.event", "select, insert, update, delete")
    platform_may("market.state_change", "select, insert")
    tenant_may("market.event", "stumpwork_lab", "select", "organisation_id = market.tenant()")
    for role in ("stumpwork_expert", "stumpwork_reviewer"):
        tenant_may("market.event", role, "select", "person_id = market.tenant()")
    for role in ROLES[1:]:
        tenant_may(
            "market.state_change",
            role,
            "select",
            "exists (select from market.event e where e.id = event_id)",
        )

    op.create_table(
        "operation",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("result", JSONB),
        sa.Column("problem", JSONB),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint(
            "state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')",
            name="state",
        ),
        schema="market",
    )
    op.create_index("ix_operation_subject_id", "operation", ["subject_id"], schema="market")
    guard_rows("market.operation")
    platform_may("market.operation")
    tenant_may(
        "market.operation",
        "stumpwork_lab",
        "select, insert, update",
        "organisation_id = market.tenant()",
    )

    op.create_table(
        "kept_reply",
        sa.Column("key_id", sa.Uuid, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("body_digest", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("sealed_body", sa.LargeBinary, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("lasting", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "route", "idempotency_key"),
        schema="market",
    )
    platform_may("market.kept_reply")

    op.create_table(
        "schedule_slot",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slot", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", "slot"),
        schema="market",
    )
    platform_may("market.schedule_slot")

    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("died_at", TIME, nullable=False),
        sa.Column("settled_at", TIME),
        sa.Column("settled_by", sa.Uuid),
        sa.Column("settlement", sa.Text),
        schema="market",
    )
    op.create_index(
        "ix_dead_letter_open",
        "dead_letter",
        ["id"],
        schema="market",
        postgresql_where=sa.text("settled_at is null"),
    )
    platform_may("market.dead_letter")

    # The embedded broker's own tables, in its own schema, as its library makes them.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.execute(generate_init_sql(schema="dramatiq"))
    op.execute("grant usage on schema dramatiq to stumpwork_platform")
    op.execute("grant select on all tables in schema dramatiq to stumpwork_platform")


def downgrade() -> None:
    op.execute("drop schema dramatiq cascade")
    for table in (
        "dead_letter",
        "schedule_slot",
        "kept_reply",
        "operation",
        "state_change",
        "event",
        "state_rule",
    ):
        op.drop_table(table, schema="market")
    for function in ("guard_state", "refuse_change", "tenant"):
        op.execute(f"drop function market.{function}()")
    # The roles stay: other databases of the same server may use them.
    for role in ROLES:
        op.execute(f"revoke usage on schema market from {role}")
