"""The audit log: accesses, append-only, and the chain of digests over them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import append_only, guard_rows, platform_may

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

TABLES = ("audit_entry", "audit_link")


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("actor_id", sa.Uuid, nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("key_id", sa.Uuid, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("status", sa.SmallInteger),
        sa.Column("people", ARRAY(sa.Uuid), nullable=False),
        sa.CheckConstraint("kind in ('read', 'asked', 'done')", name="kind"),
        schema="market",
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"], schema="market")
    op.create_index("ix_audit_entry_actor_id", "audit_entry", ["actor_id", "id"], schema="market")
    op.create_index("ix_audit_entry_request_id", "audit_entry", ["request_id"], schema="market")
    op.create_index(
        "ix_audit_entry_people",
        "audit_entry",
        ["people"],
        schema="market",
        postgresql_using="gin",
    )
    op.create_table(
        "audit_link",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "entry_id",
            sa.Uuid,
            sa.ForeignKey("market.audit_entry.id"),
            unique=True,
            nullable=False,
        ),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        schema="market",
    )
    # What the chain holds of an entry: every column of it.
    op.execute(
        """
        create function market.audit_digest(p_entry uuid) returns bytea language sql stable
        set search_path = market, pg_temp as $$
            select sha256(convert_to(jsonb_build_array(
                e.id, extract(epoch from e.at), e.kind, e.actor_id, e.part, e.organisation_id,
                e.key_id, e.method, e.route, e.path, e.query, e.request_id, e.status, e.people
            )::text, 'UTF8'))
            from market.audit_entry e where e.id = p_entry
        $$
        """
    )
    # Appends committed entries in the order of their times. One that commits late is chained late:
    # those of up to a day before the last link are looked at.
    op.execute(
        """
        create function market.chain_audit(p_limit integer) returns integer language plpgsql
        security definer set search_path = market, pg_temp as $$
        declare
            last record;
            entry uuid;
            links integer := 0;
        begin
            lock table market.audit_link in share row exclusive mode;
            select k.number, k.digest, e.at into last
            from market.audit_link k join market.audit_entry e on e.id = k.entry_id
            order by k.number desc limit 1;
            if not found then
                select 0::bigint as number, ''::bytea as digest, '-infinity'::timestamptz as at
                into last;
            end if;
            for entry in
                select e.id from market.audit_entry e
                where e.at >= last.at - interval '1 day'
                  and not exists (select from market.audit_link k where k.entry_id = e.id)
                order by e.at, e.id limit p_limit
            loop
                last.number := last.number + 1;
                last.digest := sha256(last.digest || market.audit_digest(entry));
                insert into market.audit_link (number, entry_id, digest)
                values (last.number, entry, last.digest);
                links := links + 1;
            end loop;
            return links;
        end $$
        """
    )
    op.execute("revoke execute on function market.chain_audit(integer) from public")
    op.execute("grant execute on function market.chain_audit(integer) to stumpwork_platform")
    for table in TABLES:
        guard_rows(f"market.{table}")
        append_only(f"market.{table}")
    platform_may("market.audit_entry", "select, insert")
    # Only the function above lengthens the chain.
    platform_may("market.audit_link", "select")


def downgrade() -> None:
    op.execute("drop function market.chain_audit(integer)")
    op.execute("drop function market.audit_digest(uuid)")
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")
