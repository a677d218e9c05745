"""Policies, matching runs and offers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

RUN = {
    ("", "pending"),
    ("pending", "running"),
    ("running", "succeeded"),
    ("pending", "failed"),
    ("running", "failed"),
    ("pending", "cancelled"),
    ("running", "cancelled"),
}

OFFER = {
    ("", "pending"),
    ("pending", "accepted"),
    ("pending", "declined"),
    ("pending", "timed_out"),
    ("pending", "rescinded"),
    ("pending", "canceled"),
    ("accepted", "active"),
    ("accepted", "released"),
    ("active", "released"),
    ("active", "abandoned"),
    ("active", "grace"),
    ("active", "completed"),
    ("grace", "completed"),
}

LIVE = "state in ('pending', 'accepted', 'active', 'grace')"
TAKEN = "state not in ('timed_out', 'rescinded', 'canceled')"

COMMON = {
    "exploration": 0.0,
    "randomness": 1.0,
    "perturbation": 0.5,
    "newcomer_share": 0.0,
    "newcomer_price": 0.5,
    "share_cap": 1.0,
    "open_seat_price": 0.0,
    "min_load_price": 0.5,
    "floor": False,
    "default_interest": 0.25,
}

BALANCED = {
    "weights": {
        "stump": 1.0,
        "quality": 0.25,
        "interest": 0.1,
        "affinity": 0.1,
        "learning": 0.05,
        "cost": 0.0,
        "concentration": 0.1,
        "urgency": 0.1,
    },
    **COMMON,
}

INTEREST_ONLY = {
    "weights": {
        "stump": 0.0,
        "quality": 0.0,
        "interest": 1.0,
        "affinity": 0.0,
        "learning": 0.0,
        "cost": 0.0,
        "concentration": 0.0,
        "urgency": 0.0,
    },
    **COMMON,
}

SEEDED = (
    (
        "01890a5d-ac00-7000-8000-000000000001",
        "balanced",
        BALANCED,
        "d7dbd7a08b35b94d231ea4567c568419d180c23258e714b974c8cd88b3398786",
        "The policy to begin with: chance of a stump first, then quality, interest and nearness.",
    ),
    (
        "01890a5d-ac00-7000-8000-000000000002",
        "interest-only",
        INTEREST_ONLY,
        "44da5aa414c0790452576f1f0a6ff28b8040653139db8eba417849d57c00f461",
        "A pair is worth exactly the interest that its expert declared.",
    ),
)


def upgrade() -> None:
    _policies()
    _runs()
    _offers()


def downgrade() -> None:
    for table in ("project", "task"):
        op.execute(f"drop policy expert_select on market.{table}")
        op.execute(f"revoke select on market.{table} from {EXPERT}")
    for table in ("offer", "open_seat", "run_snapshot", "matching_run"):
        op.drop_table(table, schema="market")
    op.execute("drop function market.refuse_other_terms()")
    drop_machine("offer")
    drop_machine("matching_run")
    op.drop_table("policy_default", schema="market")
    op.drop_table("policy", schema="market")


def _policies() -> None:
    op.create_table(
        "policy",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version_no", sa.BigInteger, nullable=False),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("author_id", sa.Uuid),
        sa.UniqueConstraint("name", "version_no"),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,62}$'", name="name"),
        sa.CheckConstraint("version_no > 0", name="version_no"),
        schema="market",
    )
    op.create_table(
        "policy_default",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("policy_id", sa.Uuid, sa.ForeignKey("market.policy.id"), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("name = 'default'", name="name"),
        schema="market",
    )
    policy = sa.table(
        "policy",
        sa.column("id", sa.Uuid),
        sa.column("name"),
        sa.column("version_no"),
        sa.column("document", JSONB),
        sa.column("digest"),
        sa.column("reason"),
        sa.column("created_at", TIME),
        schema="market",
    )
    for found, name, document, digest, reason in SEEDED:
        op.execute(
            sa.insert(policy).values(
                id=sa.text(f"'{found}'::uuid"),
                name=name,
                version_no=1,
                document=document,
                digest=digest,
                reason=reason,
                created_at=sa.text("timestamptz '2020-01-01 00:00:00+00'"),
            )
        )
    op.execute(
        "insert into market.policy_default (name, policy_id, since, version)"
        f" values ('default', '{SEEDED[0][0]}', '2020-01-01 00:00:00+00', 1)"
    )
    append_only("market.policy")
    for table in ("policy", "policy_default"):
        guard_rows(f"market.{table}")
    platform_may("market.policy", "select, insert")
    platform_may("market.policy_default", "select, update")


def _runs() -> None:
    op.create_table(
        "matching_run",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("policy_id", sa.Uuid, sa.ForeignKey("market.policy.id"), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("organisation_id", sa.Uuid),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id")),
        sa.Column("requested_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("input_digest", sa.Text),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("tasks", "experts", "pairs", "offers", "open_seats")
        ),
        *(sa.Column(name, sa.Double) for name in ("objective", "bound", "gap")),
        sa.Column("seconds", JSONB, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
        ),
        sa.CheckConstraint("seed >= 0", name="seed"),
        schema="market",
    )
    op.create_index(
        "ix_matching_run_project_id", "matching_run", ["project_id", "id"], schema="market"
    )
    op.create_table(
        "run_snapshot",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        sa.Column("arrays", sa.LargeBinary, nullable=False),
        schema="market",
    )
    # Compressed already.
    op.execute("alter table market.run_snapshot alter column arrays set storage external")
    op.create_table(
        "open_seat",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("market.matching_run.id"), nullable=False),
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id"), nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("seats", sa.BigInteger, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "task_id", "rule"),
        sa.CheckConstraint("seats > 0", name="seats"),
        schema="market",
    )
    machine("market.matching_run", "matching_run", RUN)
    for table in ("matching_run", "run_snapshot", "open_seat"):
        guard_rows(f"market.{table}")
    platform_may("market.matching_run", "select, insert, update")
    platform_may("market.run_snapshot", "select, insert, delete")
    platform_may("market.open_seat", "select, insert")
    tenant_may("market.open_seat", LAB, "select", "organisation_id = (select market.tenant())")


def _offers() -> None:
    op.create_table(
        "offer",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id"), nullable=False),
        sa.Column("slot_id", sa.Uuid, sa.ForeignKey("market.task_slot.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.expert.id"), nullable=False),
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("parts", JSONB, nullable=False),
        sa.Column("explanation", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("task_price", sa.Double, nullable=False),
        sa.Column("expert_price", sa.Double, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("terms_digest", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("expected_s", sa.BigInteger, nullable=False),
        sa.Column("reserved_minor", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("accepted_at", TIME),
        sa.Column("lease_until", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('pending', 'accepted', 'declined', 'timed_out', 'rescinded', 'canceled',"
            " 'active', 'grace', 'completed', 'released', 'abandoned')",
            name="state",
        ),
        sa.CheckConstraint("reserved_minor > 0", name="reserved_minor"),
        sa.CheckConstraint("expected_s > 0", name="expected_s"),
        sa.CheckConstraint("expires_at > created_at", name="expires_at"),
        sa.CheckConstraint("probability > 0 and probability <= 1", name="probability"),
        schema="market",
    )
    for name, columns, unique, where in (
        ("uq_offer_live_slot", ["slot_id"], True, LIVE),
        ("uq_offer_task_expert", ["task_id", "expert_id"], True, TAKEN),
        ("ix_offer_expert_id", ["expert_id", "id"], False, None),
        ("ix_offer_run_id", ["run_id", "id"], False, None),
        ("ix_offer_project_id", ["project_id", "id"], False, None),
        ("ix_offer_expiring", ["expires_at"], False, "state = 'pending'"),
        ("ix_offer_leased", ["lease_until"], False, "state = 'accepted'"),
    ):
        op.create_index(
            name,
            "offer",
            columns,
            unique=unique,
            schema="market",
            postgresql_where=None if where is None else sa.text(where),
        )
    machine("market.offer", "offer", OFFER)
    op.execute(
        """
        create function market.refuse_other_terms() returns trigger language plpgsql as $$
        begin
            raise exception 'the terms of an offer are frozen'
                using errcode = 'restrict_violation';
        end $$
        """
    )
    # What an expert was offered binds: neither the terms nor the parties can be changed later.
    op.execute(
        """
        create trigger offer_terms before update on market.offer for each row
        when (
            (new.terms, new.terms_digest, new.reserved_minor, new.currency, new.expert_id,
             new.task_id, new.slot_id, new.project_id, new.organisation_id, new.created_at)
            is distinct from
            (old.terms, old.terms_digest, old.reserved_minor, old.currency, old.expert_id,
             old.task_id, old.slot_id, old.project_id, old.organisation_id, old.created_at)
        ) execute function market.refuse_other_terms()
        """
    )
    guard_rows("market.offer")
    platform_may("market.offer", "select, insert, update")
    tenant_may("market.offer", LAB, "select", "organisation_id = (select market.tenant())")
    tenant_may("market.offer", EXPERT, "select", "expert_id = (select market.tenant())")
    # An expert reads what it was offered; the offers that a role sees are its own already.
    for table in ("project", "task"):
        tenant_may(
            f"market.{table}",
            EXPERT,
            "select",
            f"exists (select from market.offer o where o.{table}_id = {table}.id)",
        )
