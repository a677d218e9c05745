"""Lines of pay are held until approved, and can be for more than hours."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import drop_machine, machine, tenant_may

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

EARNING = {
    ("", "accrued"),
    ("", "approved"),
    ("accrued", "approved"),
    ("accrued", "disputed"),
    ("disputed", "approved"),
    ("disputed", "withheld"),
    ("withheld", "approved"),
}
NEW = {
    "state": "state in ('accrued', 'approved', 'disputed', 'withheld')",
    "kind": "kind in ('hours', 'deliverable', 'attempt_fee', 'floor', 'impact_bonus', 'bonus')",
    "seconds": "seconds >= 0 and part > 0 and (kind = 'hours') = (seconds > 0)",
    "source": "(kind in ('bonus', 'impact_bonus')) = (source_id is not null)",
    "offer_id": "offer_id is not null or source_id is not null",
    "payout_id": "payout_id is null or state = 'approved'",
    "dispute_id": "state not in ('disputed', 'withheld') or dispute_id is not null",
}
COLUMNS = ("version", "note", "source_id", "dispute_id", "approved_at", "review_until", "state")
CHANGEABLE = (
    "state, version, review_until, approved_at, dispute_id, seconds, pay_minor, fee_minor, note"
)


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for column in (
        # What was credited before was free to pay out at once, and so is what older code credits.
        sa.Column("state", sa.Text, nullable=False, server_default="approved"),
        sa.Column("review_until", TIME),
        sa.Column("approved_at", TIME),
        sa.Column("dispute_id", sa.Uuid),
        sa.Column("source_id", sa.Uuid),
        sa.Column("note", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    ):
        op.add_column("earning", column, schema="market")
    op.alter_column("earning", "offer_id", nullable=True, schema="market")
    for name in ("kind", "seconds"):
        op.drop_constraint(name, "earning", schema="market", type_="check")
    for name, condition in NEW.items():
        op.create_check_constraint(name, "earning", condition, schema="market")
    op.create_index("uq_earning_source_id", "earning", ["source_id"], unique=True, schema="market")
    op.create_index(
        "ix_earning_reviewed",
        "earning",
        ["review_until"],
        schema="market",
        postgresql_where=sa.text("state = 'accrued'"),
    )
    op.create_index(
        "ix_time_entry_locked",
        "time_entry",
        ["offer_id"],
        schema="market",
        postgresql_where=sa.text("state = 'locked'"),
    )
    machine("market.earning", "earning", EARNING)
    op.execute(f"grant update ({CHANGEABLE}) on market.earning to stumpwork_platform")
    op.execute(
        """
        create function market.refuse_other_pay() returns trigger language plpgsql as $$
        begin
            if (new.seconds, new.pay_minor, new.fee_minor)
                is distinct from (old.seconds, old.pay_minor, old.fee_minor)
                and (old.state not in ('accrued', 'disputed', 'withheld')
                    or new.seconds > old.seconds
                    or new.pay_minor > old.pay_minor or new.fee_minor > old.fee_minor) then
                raise exception 'a line of pay is only ever split, and before it is decided'
                    using errcode = 'restrict_violation';
            end if;
            return new;
        end $$
        """
    )
    op.execute(
        "create trigger earning_pay before update on market.earning"
        " for each row execute function market.refuse_other_pay()"
    )
    # A lab sees the lines that it is asked to approve.
    tenant_may(
        "market.earning",
        "stumpwork_lab",
        "select",
        "organisation_id = (select market.tenant())",
    )


def downgrade() -> None:
    op.execute("drop policy lab_select on market.earning")
    op.execute("revoke select on market.earning from stumpwork_lab")
    op.execute("drop trigger earning_pay on market.earning")
    op.execute("drop function market.refuse_other_pay()")
    op.execute("drop trigger earning_state on market.earning")
    drop_machine("earning")
    op.drop_index("ix_time_entry_locked", "time_entry", schema="market")
    op.drop_index("ix_earning_reviewed", "earning", schema="market")
    op.drop_index("uq_earning_source_id", "earning", schema="market")
    for name in NEW:
        op.drop_constraint(name, "earning", schema="market", type_="check")
    op.execute("delete from market.earning where kind <> 'hours'")
    op.create_check_constraint("kind", "earning", "kind in ('hours')", schema="market")
    op.create_check_constraint("seconds", "earning", "seconds > 0 and part > 0", schema="market")
    op.alter_column("earning", "offer_id", nullable=False, schema="market")
    op.execute(f"revoke update ({CHANGEABLE}) on market.earning from stumpwork_platform")
    for column in COLUMNS:
        op.drop_column("earning", column, schema="market")
