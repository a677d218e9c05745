"""Admissions: into a domain where forecast work is enough, with a promise that is kept or paid."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    append_only,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0070"
down_revision = "0069"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
PAIRS = {
    ("", "waiting"),
    ("waiting", "admitted"),
    ("waiting", "left"),
    ("admitted", "onboarded"),
    ("admitted", "lapsed"),
    ("admitted", "served"),
    ("onboarded", "lapsed"),
    ("onboarded", "served"),
    ("onboarded", "compensated"),
}
STATES = sorted({state for pair in PAIRS for state in pair if state})
KINDS = ("hours", "deliverable", "attempt_fee", "floor", "screening", "impact_bonus", "bonus")
SOURCED = ("bonus", "sitting")


def _check(name: str, said: str) -> None:
    op.execute(f"alter table market.earning drop constraint ck_earning_{name}")
    op.execute(f"alter table market.earning add constraint ck_earning_{name} check ({said})")


def _kinds(*more: str) -> None:
    def listed(kinds: tuple[str, ...]) -> str:
        return ", ".join(f"'{one}'" for one in kinds)

    _check("kind", f"kind in ({listed((*KINDS, 'sitting', *more))})")
    sourced = listed((*SOURCED, *more))
    _check(
        "source",
        f"kind = 'impact_bonus' or (kind in ({sourced})) = (source_id is not null)",
    )


def upgrade() -> None:
    op.create_table(
        "admission_terms",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("load", sa.Double, nullable=False),
        *(
            sa.Column(name, sa.SmallInteger, nullable=False)
            for name in ("horizon_d", "within_d", "pass_score")
        ),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("guarantee_s", "fee_minor", "budget_minor")
        ),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("set_by", sa.Uuid),
        sa.CheckConstraint("load > 0 and load <= 1", name="load"),
        sa.CheckConstraint("(guarantee_s > 0) <> (fee_minor > 0)", name="guarantee"),
        sa.CheckConstraint("budget_minor > 0", name="budget_minor"),
        schema="market",
    )
    op.create_index(
        "ix_admission_terms_starts_at", "admission_terms", ["starts_at", "id"], schema="market"
    )
    op.create_table(
        "admission",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("weekly_hours", sa.SmallInteger, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_at", TIME),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("reason", sa.Text),
        sa.Column("work_s", sa.BigInteger),
        sa.Column("capacity_s", sa.BigInteger),
        sa.Column("qualification_id", sa.Uuid, sa.ForeignKey("market.qualification.id")),
        sa.Column("guarantee_minor", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("within_d", sa.SmallInteger),
        sa.Column("due_at", TIME),
        sa.Column("settled_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(f"state in {tuple(STATES)}", name="state"),
        sa.CheckConstraint(
            "state in ('waiting', 'left') or (decided_at is not null and guarantee_minor > 0"
            " and currency is not null and qualification_id is not null)",
            name="decided",
        ),
        sa.CheckConstraint("decided_by is null or length(btrim(reason)) >= 40", name="reason"),
        sa.CheckConstraint(
            "state not in ('onboarded', 'compensated') or due_at is not null", name="due_at"
        ),
        schema="market",
    )
    op.create_index(
        "uq_admission_open",
        "admission",
        ["person_id", "domain"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state in ('waiting', 'admitted', 'onboarded')"),
    )
    op.create_index(
        "ix_admission_waiting",
        "admission",
        ["domain", "id"],
        schema="market",
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_admission_person_id", "admission", ["person_id", "id"], schema="market")
    machine("market.admission", "admission", PAIRS)
    for table in ("admission_terms", "admission"):
        guard_rows(f"market.{table}")
    platform_may("market.admission_terms", "select, insert")
    platform_may("market.admission", "select, insert, update")
    append_only("market.admission_terms")
    tenant_may("market.admission", EXPERT, "select", "person_id = (select market.tenant())")
    _kinds("guarantee")


def downgrade() -> None:
    op.execute("update market.earning set kind = 'bonus' where kind = 'guarantee'")
    _kinds()
    op.drop_table("admission", schema="market")
    op.drop_table("admission_terms", schema="market")
    drop_machine("admission")
