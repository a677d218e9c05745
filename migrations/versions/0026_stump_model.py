"""The stump model: its versions, its log, and what it believes."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, append_only, guard_rows, platform_may, tenant_may

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "stump_version",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("fitted_at", TIME, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("through", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("digest = sha256(content)", name="digest"),
        schema="market",
    )
    op.create_table(
        "stump_present",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        _version(nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="id"),
        schema="market",
    )
    op.create_table(
        "stump_fit",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("leased_until", TIME),
        sa.Column("ended_at", TIME),
        _version(),
        sa.CheckConstraint("state in ('waiting', 'running', 'succeeded', 'failed')", name="state"),
        schema="market",
    )
    op.create_index(
        "uq_stump_fit_open",
        "stump_fit",
        [sa.text("(true)")],
        unique=True,
        schema="market",
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "observation",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("observed_at", TIME, nullable=False),
        sa.Column("project_id", sa.Uuid),
        sa.Column("task_id", sa.Uuid),
        sa.Column("expert_id", sa.Uuid),
        sa.Column("domain", sa.Text),
        sa.Column("target_model_id", sa.Uuid),
        sa.Column("level", sa.SmallInteger, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("start", "fooled", "valid")),
        sa.Column("valid_weight", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("years", "qualified", "tested")),
        _version(),
        sa.Column("epoch", sa.BigInteger),
        *(
            sa.Column(f"predicted_{name}", sa.Double)
            for name in ("start", "fooled", "valid", "stump", "sd")
        ),
        sa.Column("effect", sa.Double),
        sa.Column("variance", sa.Double),
        sa.Column("replaced_at", TIME),
        sa.UniqueConstraint("kind", "subject_id", "version"),
        sa.CheckConstraint("kind in ('verdict', 'offer', 'release')", name="kind"),
        sa.CheckConstraint("level between 0 and 9", name="level"),
        sa.CheckConstraint("start between 0 and 1", name="start"),
        sa.CheckConstraint("fooled between 0 and 1", name="fooled"),
        sa.CheckConstraint("valid between 0 and 1", name="valid"),
        schema="market",
    )
    for name, columns in (
        ("expert_id", ["expert_id", "seq"]),
        ("cell", ["domain", "level", "target_model_id", "seq"]),
        ("task_id", ["task_id"]),
        ("project_id", ["project_id", "seq"]),
    ):
        op.create_index(f"ix_observation_{name}", "observation", columns, schema="market")
    op.create_table(
        "ability",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("target_model_id", sa.Uuid),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("logit", "sd", "chance", "low", "high")
        ),
        sa.Column("outcomes", sa.BigInteger, nullable=False),
        _version(nullable=False),
        sa.Column("through", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.UniqueConstraint(
            "expert_id", "domain", "target_model_id", postgresql_nulls_not_distinct=True
        ),
        sa.CheckConstraint("sd >= 0 and low <= high", name="sd"),
        schema="market",
    )
    op.create_table(
        "difficulty",
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id"), primary_key=True),
        sa.Column("logit", sa.Double, nullable=False),
        sa.Column("sd", sa.Double, nullable=False),
        sa.Column("outcomes", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        schema="market",
    )
    append_only("market.stump_version")
    for table in ("stump_version", "stump_present", "stump_fit", "observation", "ability"):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    guard_rows("market.difficulty")
    platform_may("market.difficulty", "select, insert, update")
    # What is believed of somebody is theirs to read.
    tenant_may("market.ability", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    for table in (
        "difficulty",
        "ability",
        "observation",
        "stump_fit",
        "stump_present",
        "stump_version",
    ):
        op.drop_table(table, schema="market")


def _version(*, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(
        "version_id", sa.Uuid, sa.ForeignKey("market.stump_version.id"), nullable=nullable
    )
