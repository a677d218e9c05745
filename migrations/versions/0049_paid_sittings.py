"""The time of tests and of baselines is paid, at a rate that is published."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, REVIEWER, append_only, guard_rows, platform_may, tenant_may

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
PAY = (
    "(pay_minor_per_hour is null or unpaid_reason is null) and pay_minor_per_hour > 0"
    " and (pay_minor_per_hour is null) = (pay_currency is null)"
    " and length(btrim(unpaid_reason)) >= 10"
)


def _check(name: str, said: str) -> None:
    op.execute(f"alter table market.earning drop constraint ck_earning_{name}")
    op.execute(f"alter table market.earning add constraint ck_earning_{name} check ({said})")


def _kinds(*more: str) -> None:
    old = ("hours", "deliverable", "attempt_fee", "floor", "screening", "impact_bonus", "bonus")
    timed, sourced = ("hours", *more), ("bonus", "impact_bonus", *more)

    def listed(kinds: tuple[str, ...]) -> str:
        return ", ".join(f"'{one}'" for one in kinds)

    _check("kind", f"kind in ({listed((*old, *more))})")
    _check(
        "seconds",
        f"seconds >= 0 and part > 0 and (kind in ({listed(timed)})) = (seconds > 0)",
    )
    _check("source", f"(kind in ({listed(sourced)})) = (source_id is not null)")


def upgrade() -> None:
    for name, kind in (
        ("pay_minor_per_hour", sa.BigInteger),
        ("pay_currency", sa.Text),
        ("unpaid_reason", sa.Text),
    ):
        op.add_column("qualification", sa.Column(name, kind), schema="market")
    op.create_check_constraint("pay", "qualification", PAY, schema="market")
    op.create_table(
        "sitting_rate",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("rate_minor_per_hour", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("set_by", sa.Uuid),
        sa.CheckConstraint("rate_minor_per_hour > 0", name="rate"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        schema="market",
    )
    op.create_index(
        "ix_sitting_rate_starts_at", "sitting_rate", ["starts_at", "id"], schema="market"
    )
    op.execute(
        "insert into market.sitting_rate values (gen_random_uuid(), 3000, 'USD',"
        " '2026-01-01T00:00:00Z', 'the rate that the platform opened with', null)"
    )
    guard_rows("market.sitting_rate")
    platform_may("market.sitting_rate", "select, insert")
    for role in (EXPERT, REVIEWER):
        tenant_may("market.sitting_rate", role, "select", "true")
    append_only("market.sitting_rate")
    _kinds("sitting")


def downgrade() -> None:
    op.execute("update market.earning set kind = 'bonus', seconds = 0 where kind = 'sitting'")
    _kinds()
    op.drop_table("sitting_rate", schema="market")
    op.drop_constraint("ck_qualification_pay", "qualification", schema="market")
    for name in ("pay_minor_per_hour", "pay_currency", "unpaid_reason"):
        op.drop_column("qualification", name, schema="market")
