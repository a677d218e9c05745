"""Item banks with keys, calibrations and flags; sittings, their items, and re-grades."""

from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.grants import (
    EXPERT,
    REVIEWER,
    append_only,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

Value = TypeVar("Value")

TIME = sa.DateTime(timezone=True)
OWN = "person_id = (select market.tenant())"
BANK_ITEM = {
    ("", "active"),
    ("active", "flagged"),
    ("flagged", "active"),
    ("active", "retired"),
    ("flagged", "retired"),
    ("active", "withdrawn"),
    ("flagged", "withdrawn"),
    ("retired", "withdrawn"),
}
SITTING = {("", "open"), ("open", "finished"), ("open", "run_out")}
RESULTS = "('passed', 'failed', 'borderline', 'thin', 'pilot')"

RIGHTS = {
    "item_bank": "select, insert, update",
    # What an item says is never changed: only whether it is asked, and how often it was.
    "bank_item": "select, insert, update (state, version, shown)",
    "item_key": "select, insert",
    "calibration": "select, insert",
    "item_parameter": "select, insert",
    "item_flag": "select, insert, update",
    "sitting": "select, insert, update",
    "sitting_item": "select, insert, update",
    "regrade": "select, insert",
}
ADDED = ("item_key", "calibration", "item_parameter", "regrade")


def needed(name: str, kind: sa.types.TypeEngine[Value]) -> sa.Column[Value]:
    return sa.Column(name, kind, nullable=False)


def refers(name: str, table: str, *, null: bool = False, key: bool = False) -> sa.Column[UUID]:
    return sa.Column(
        name, sa.Uuid(), sa.ForeignKey(f"market.{table}.id"), nullable=null, primary_key=key
    )


def upgrade() -> None:
    _banks()
    _calibrations()
    _sittings()
    _import_kinds("'tasks', 'interests', 'experts', 'items'")
    machine("market.bank_item", "bank_item", BANK_ITEM)
    machine("market.sitting", "sitting", SITTING)
    for table in ADDED:
        append_only(f"market.{table}")
    for table, rights in RIGHTS.items():
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", rights)
    # Takers read what came of their own sittings; items, keys and answers only the platform does.
    for role in (EXPERT, REVIEWER):
        for table in ("sitting", "regrade"):
            tenant_may(f"market.{table}", role, "select", OWN)


def _banks() -> None:
    op.create_table(
        "item_bank",
        sa.Column("id", sa.Uuid, primary_key=True),
        needed("name", sa.Text()),
        needed("created_at", TIME),
        needed("takers", sa.BigInteger()),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint("takers >= 0", name="takers"),
        schema="market",
    )
    op.create_table(
        "bank_item",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("bank_id", "item_bank"),
        needed("external_id", sa.Text()),
        needed("item_version", sa.BigInteger()),
        needed("prompt", sa.Text()),
        needed("choices", ARRAY(sa.Text)),
        needed("level", sa.SmallInteger()),
        needed("topic", sa.Text()),
        needed("limit_s", sa.BigInteger()),
        needed("digest", sa.LargeBinary()),
        needed("created_at", TIME),
        sa.Column("slope", sa.Double),
        sa.Column("ease", sa.Double),
        needed("answers", sa.BigInteger()),
        needed("shown", sa.BigInteger()),
        needed("state", sa.Text()),
        needed("version", sa.BigInteger()),
        sa.UniqueConstraint("bank_id", "external_id", "item_version"),
        sa.CheckConstraint("state in ('active', 'flagged', 'retired', 'withdrawn')", name="state"),
        sa.CheckConstraint("level between 1 and 10", name="level"),
        sa.CheckConstraint("limit_s between 10 and 3600", name="limit_s"),
        sa.CheckConstraint("(slope is null) = (ease is null)", name="calibration"),
        schema="market",
    )
    op.create_table(
        "item_key",
        refers("item_id", "bank_item", key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        needed("key", ARRAY(sa.Text)),
        needed("set_at", TIME),
        sa.Column("set_by", sa.Uuid),
        needed("note", sa.Text()),
        sa.CheckConstraint("cardinality(key) > 0", name="key"),
        schema="market",
    )
    op.create_table(
        "item_flag",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("item_id", "bank_item"),
        needed("reason", sa.Text()),
        needed("detail", sa.Text()),
        needed("at", TIME),
        needed("answers", sa.BigInteger()),
        refers("person_id", "person", null=True),
        sa.Column("decision", sa.Text),
        sa.Column("decided_at", TIME),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("note", sa.Text),
        sa.CheckConstraint(
            "reason in ('discriminates_wrongly', 'easier', 'harder', 'challenged')", name="reason"
        ),
        sa.CheckConstraint("decision in ('keep', 'rekey', 'retire', 'withdraw')", name="decision"),
        sa.CheckConstraint("(decided_at is null) = (decision is null)", name="decided"),
        schema="market",
    )
    op.create_index(
        "uq_item_flag_open",
        "item_flag",
        ["item_id", "person_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("decided_at is null"),
        postgresql_nulls_not_distinct=True,
    )


def _calibrations() -> None:
    op.create_table(
        "calibration",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("bank_id", "item_bank"),
        needed("fitted_at", TIME),
        needed("answers", sa.BigInteger()),
        schema="market",
    )
    op.create_index("ix_calibration_bank_id", "calibration", ["bank_id", "id"], schema="market")
    op.create_table(
        "item_parameter",
        refers("calibration_id", "calibration", key=True),
        sa.Column("place", sa.BigInteger, primary_key=True),
        refers("item_id", "bank_item"),
        needed("slope", sa.Double()),
        needed("ease", sa.Double()),
        needed("answers", sa.BigInteger()),
        sa.Column("share_right", sa.Double),
        sa.Column("chance_negative", sa.Double),
        sa.UniqueConstraint("calibration_id", "item_id"),
        schema="market",
    )
    op.create_index(
        "ix_item_parameter_item_id",
        "item_parameter",
        ["item_id", "calibration_id"],
        schema="market",
    )


def _sittings() -> None:
    op.create_table(
        "sitting",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("qualification_id", "qualification"),
        refers("person_id", "person"),
        refers("bank_id", "item_bank"),
        refers("calibration_id", "calibration"),
        needed("number", sa.SmallInteger()),
        sa.Column("domain", sa.Text),
        needed("pass_score", sa.SmallInteger()),
        needed("is_pilot", sa.Boolean()),
        needed("seed", sa.BigInteger()),
        needed("rules", JSONB()),
        needed("prior_mean", sa.Double()),
        needed("prior_sd", sa.Double()),
        needed("begun_at", TIME),
        needed("ends_at", TIME),
        needed("state", sa.Text()),
        sa.Column("ended_at", TIME),
        sa.Column("stopped", sa.Text),
        needed("scored", sa.BigInteger()),
        sa.Column("result", sa.Text),
        *(sa.Column(name, sa.Double) for name in ("mean", "sd", "chance_above")),
        *(sa.Column(name, sa.SmallInteger) for name in ("score", "score_low", "score_high")),
        sa.Column("tested", sa.Double),
        needed("version", sa.BigInteger()),
        sa.CheckConstraint("state in ('open', 'finished', 'run_out')", name="state"),
        sa.CheckConstraint(f"result in {RESULTS}", name="result"),
        sa.CheckConstraint("(state = 'open') = (ended_at is null)", name="ended_at"),
        sa.CheckConstraint(
            "state = 'open' or (result is not null and mean is not null)", name="told"
        ),
        schema="market",
    )
    op.create_index(
        "uq_sitting_open",
        "sitting",
        ["qualification_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_sitting_qualification_id", "sitting", ["qualification_id", "id"], schema="market"
    )
    op.create_index(
        "ix_sitting_person_id", "sitting", ["person_id", "bank_id", "id"], schema="market"
    )
    op.create_index(
        "ix_sitting_ends_at",
        "sitting",
        ["ends_at"],
        schema="market",
        postgresql_where=sa.text("state = 'open'"),
    )
    _items_and_regrades()


def _items_and_regrades() -> None:
    op.create_table(
        "sitting_item",
        refers("sitting_id", "sitting", key=True),
        sa.Column("step", sa.SmallInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        refers("item_id", "bank_item"),
        needed("is_pretest", sa.Boolean()),
        needed("takers", sa.BigInteger()),
        needed("barred", ARRAY(sa.BigInteger)),
        needed("expected", sa.Double()),
        needed("asked_at", TIME),
        needed("due_at", TIME),
        sa.Column("answer", sa.Text),
        sa.Column("answered_at", TIME),
        sa.Column("closed_at", TIME),
        sa.Column("key_number", sa.BigInteger),
        sa.Column("was_right", sa.Boolean),
        sa.Column("is_right", sa.Boolean),
        sa.UniqueConstraint("seq"),
        sa.CheckConstraint("(closed_at is null) = (is_right is null)", name="closed"),
        sa.CheckConstraint("(answer is null) = (answered_at is null)", name="answered"),
        schema="market",
    )
    op.create_index(
        "uq_sitting_item_open",
        "sitting_item",
        ["sitting_id"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("closed_at is null"),
    )
    op.create_index("ix_sitting_item_item_id", "sitting_item", ["item_id", "seq"], schema="market")
    op.create_index(
        "ix_sitting_item_due_at",
        "sitting_item",
        ["due_at"],
        schema="market",
        postgresql_where=sa.text("closed_at is null"),
    )
    op.create_table(
        "regrade",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("sitting_id", "sitting"),
        refers("person_id", "person"),
        refers("item_id", "bank_item"),
        needed("reason", sa.Text()),
        needed("at", TIME),
        needed("mean_before", sa.Double()),
        needed("sd_before", sa.Double()),
        needed("score_before", sa.SmallInteger()),
        needed("result_before", sa.Text()),
        needed("mean_after", sa.Double()),
        needed("sd_after", sa.Double()),
        needed("score_after", sa.SmallInteger()),
        needed("result_after", sa.Text()),
        needed("effect", sa.Text()),
        sa.UniqueConstraint("sitting_id", "item_id", "reason"),
        sa.CheckConstraint("effect in ('none', 'granted', 'pass_kept', 'held')", name="effect"),
        sa.CheckConstraint(f"result_before in {RESULTS}", name="result_before"),
        sa.CheckConstraint(f"result_after in {RESULTS}", name="result_after"),
        schema="market",
    )
    op.create_index("ix_regrade_sitting_id", "regrade", ["sitting_id", "id"], schema="market")


def _import_kinds(kinds: str) -> None:
    op.drop_constraint("kind", "bulk_import", schema="market", type_="check")
    op.create_check_constraint("kind", "bulk_import", f"kind in ({kinds})", schema="market")


def downgrade() -> None:
    for table in (
        "regrade",
        "sitting_item",
        "sitting",
        "item_parameter",
        "calibration",
        "item_flag",
        "item_key",
        "bank_item",
        "item_bank",
    ):
        op.drop_table(table, schema="market")
    for name in ("bank_item", "sitting"):
        drop_machine(name)
    op.execute(
        "delete from market.import_row r using market.bulk_import b"
        " where b.id = r.import_id and b.kind = 'items'"
    )
    op.execute("delete from market.bulk_import where kind = 'items'")
    _import_kinds("'tasks', 'interests', 'experts'")
