"""Who is tied to whom; qualifications; review plans; rework, parts of work, corrected verdicts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.grants import (
    EXPERT,
    LAB,
    REVIEWER,
    allow_moves,
    append_only,
    drop_machine,
    forbid_moves,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OF_LAB = "organisation_id = (select market.tenant())"

QUALIFICATION = {
    ("", "invited"),
    ("invited", "in_progress"),
    ("in_progress", "graded"),
    ("graded", "granted"),
    ("graded", "denied"),
    ("regraded", "granted"),
    ("regraded", "denied"),
    ("invited", "expired"),
    ("in_progress", "expired"),
    ("granted", "expired"),
    ("granted", "revoked"),
    ("granted", "regraded"),
    ("denied", "regraded"),
    ("revoked", "regraded"),
}
MOVES = {
    "submission": {("appealed", "partially_accepted")},
    "attempt": {("refuted", "verified"), ("not_stumped", "verified"), ("verified", "refuted")},
    "task": {("disputed", "active")},
    "task_slot": {("open", "released")},
    "offer": {("completed", "active")},
    "review": {("voted", "recused")},
}
REVIEW_CHECKS = {
    "verdict": "verdict in ('accept', 'accept_share', 'rework', 'reject')",
    "rework": "verdict is distinct from 'rework' or length(btrim(note)) >= 40",
    "share": "(verdict is not distinct from 'accept_share') = (share is not null)"
    " and share between 1 and 99",
    "kind": "kind in ('vote', 'adjudication')",
}
VERDICT_CHECKS = {
    "share": "share between 0 and 100 and (share > 0 or not is_accepted)",
    "basis": "basis in ('votes', 'silence', 'sample', 'adjudication', 'appeal', 'unreject',"
    " 'case')",
}


def refers(name: str, table: str, *, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.Uuid,
        sa.ForeignKey(f"market.{table}.id"),
        nullable=False,
        primary_key=primary_key,
    )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _identities()
    _qualifications()
    _plans()
    _reviews()
    _verdicts()
    for name, pairs in MOVES.items():
        allow_moves(name, pairs)


def _identities() -> None:
    op.create_table(
        "identity_claim",
        refers("person_id", "person", primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint(
            "kind in ('email', 'device', 'payout_account', 'phone', 'document', 'institution')",
            name="kind",
        ),
        schema="market",
    )
    op.create_index(
        "ix_identity_claim_kind_digest", "identity_claim", ["kind", "digest"], schema="market"
    )
    guard_rows("market.identity_claim")
    platform_may("market.identity_claim", "select, insert, delete")
    op.execute(
        """
        create function market.canonical_email(address text) returns text
        language sql immutable parallel safe as $$
            select case when host in ('gmail.com', 'googlemail.com')
                then replace(box, '.', '') || '@gmail.com' else box || '@' || host end
            from (
                select split_part(split_part(lower(address), '@', 1), '+', 1) as box,
                    split_part(lower(address), '@', 2) as host
            ) parts
        $$
        """
    )
    claim = (
        "insert into market.identity_claim (person_id, kind, digest, source, at)"
        " select id, 'email', sha256(convert_to('email:' || market.canonical_email(email),"
        " 'UTF8')), 'sign-up', created_at from {} on conflict do nothing"
    )
    op.execute(
        f"""
        create function market.claim_emails() returns trigger language plpgsql security definer
        set search_path = market, pg_temp as $$
        begin
            {claim.format("added")};
            return null;
        end $$
        """
    )
    op.execute(
        "create trigger person_claim_emails after insert on market.person"
        " referencing new table as added for each statement"
        " execute function market.claim_emails()"
    )
    op.execute(claim.format("market.person"))
    reach = """
        {name}(person_id) as (
            select {start}
            union
            select c.person_id from {name}
            join market.identity_claim m
                on m.person_id = {name}.person_id and m.kind <> 'institution'
            join market.identity_claim c on c.kind = m.kind and c.digest = m.digest
        )
    """
    op.execute(
        f"""
        create function market.in_conflict(one uuid, other uuid) returns boolean
        language sql stable security definer set search_path = market, pg_temp as $$
            with recursive {reach.format(name="mine", start="one")},
                {reach.format(name="theirs", start="other")}
            select exists (select from mine where mine.person_id = other)
                or exists (
                    select from mine join market.identity_claim a on a.person_id = mine.person_id
                    join market.identity_claim b on b.kind = a.kind and b.digest = a.digest
                    join theirs on theirs.person_id = b.person_id
                    where a.kind = 'institution'
                )
                or exists (
                    select from mine join market.membership a on a.person_id = mine.person_id
                    join market.membership b on b.organisation_id = a.organisation_id
                    join theirs on theirs.person_id = b.person_id
                    where a.ended_at is null and b.ended_at is null
                )
        $$
        """
    )
    op.execute(
        """
        create function market.guard_conflict() returns trigger language plpgsql as $$
        begin
            if market.in_conflict(new.reviewer_id, new.expert_id) then
                raise exception 'conflict_of_interest: a reviewer is tied to the author'
                    using errcode = 'check_violation', constraint = 'conflict_of_interest';
            end if;
            return new;
        end $$
        """
    )
    op.execute(
        "create trigger review_conflict before insert or update of reviewer_id on market.review"
        " for each row when (new.reviewer_id is not null and new.reviewer_id <> new.expert_id)"
        " execute function market.guard_conflict()"
    )


def _qualifications() -> None:
    op.create_table(
        "qualification",
        sa.Column("id", sa.Uuid, primary_key=True),
        refers("person_id", "person"),
        sa.Column("pass_score", sa.SmallInteger, nullable=False),
        sa.Column("invited_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("domain", sa.Text),
        sa.Column("review_level", sa.SmallInteger),
        sa.Column("invited_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("score", sa.SmallInteger),
        sa.Column("begun_at", TIME),
        sa.Column("decided_at", TIME),
        sa.Column("decided_by", sa.Uuid),
        sa.Column("reason_code", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("evidence", ARRAY(sa.Text), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('invited', 'in_progress', 'graded', 'granted', 'denied', 'expired',"
            " 'revoked', 'regraded')",
            name="state",
        ),
        sa.CheckConstraint("(domain is null) <> (review_level is null)", name="subject"),
        sa.CheckConstraint("review_level between 2 and 6", name="review_level"),
        sa.CheckConstraint(
            "score between 0 and 100 and pass_score between 1 and 100", name="scores"
        ),
        sa.CheckConstraint(
            "score is not null or state in ('invited', 'in_progress', 'expired')", name="graded"
        ),
        sa.CheckConstraint(
            "state <> 'revoked' or (reason_code is not null and length(btrim(note)) >= 40"
            " and cardinality(evidence) > 0)",
            name="revoked",
        ),
        schema="market",
    )
    op.create_index(
        "uq_qualification_running",
        "qualification",
        ["person_id", "domain", "review_level"],
        unique=True,
        schema="market",
        postgresql_where=sa.text(
            "state in ('invited', 'in_progress', 'graded', 'regraded', 'granted')"
        ),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "ix_qualification_ends_at",
        "qualification",
        ["ends_at"],
        schema="market",
        postgresql_where=sa.text("state in ('invited', 'in_progress', 'granted')"),
    )
    machine("market.qualification", "qualification", QUALIFICATION)
    guard_rows("market.qualification")
    platform_may("market.qualification", "select, insert, update")
    for role in (EXPERT, REVIEWER):
        tenant_may("market.qualification", role, "select", "person_id = (select market.tenant())")


def _plans() -> None:
    op.create_table(
        "review_plan",
        refers("project_id", "project", primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        refers("organisation_id", "organisation"),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor_id", sa.Uuid),
        sa.CheckConstraint("version > 0", name="version"),
        schema="market",
    )
    op.create_table(
        "review_draw",
        refers("submission_id", "submission", primary_key=True),
        sa.Column("round", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("plan_version", sa.BigInteger, nullable=False),
        sa.Column("votes", sa.SmallInteger, nullable=False),
        sa.Column("rate", sa.Double, nullable=False),
        sa.Column("draw", sa.Double, nullable=False),
        sa.Column("is_control", sa.Boolean, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("rule", sa.SmallInteger),
        sa.Column("decided", sa.BigInteger, nullable=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.CheckConstraint("draw >= 0 and draw < 1", name="draw"),
        sa.CheckConstraint("rate between 0 and 1", name="rate"),
        sa.CheckConstraint("votes between 0 and 15", name="votes"),
        schema="market",
    )
    for table in ("review_plan", "review_draw"):
        append_only(f"market.{table}")
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert")
    tenant_may("market.review_plan", LAB, "select, insert", OF_LAB)
    tenant_may("market.review_draw", LAB, "select", OF_LAB)
    tenant_may(
        "market.review_draw",
        EXPERT,
        "select",
        "exists (select from market.submission s where s.id = submission_id"
        " and s.expert_id = (select market.tenant()))",
    )


def _reviews() -> None:
    for column in (
        sa.Column("due_at", TIME),
        sa.Column("kind", sa.Text, nullable=False, server_default="vote"),
        sa.Column("reserved_for", sa.Uuid),
        sa.Column("reserved_until", TIME),
        sa.Column("criterion", sa.Text),
        sa.Column("share", sa.SmallInteger),
        sa.Column("task_broken", sa.Boolean),
    ):
        op.add_column("review", column, schema="market")
    op.drop_constraint("ck_review_verdict", "review", schema="market")
    for name, condition in REVIEW_CHECKS.items():
        op.create_check_constraint(name, "review", condition, schema="market")
    op.drop_index("ix_review_queue", "review", schema="market")
    waiting = sa.text("state = 'queued'")
    op.create_index(
        "ix_review_queue", "review", ["number", "id"], schema="market", postgresql_where=waiting
    )
    op.create_index(
        "ix_review_due_at", "review", ["due_at"], schema="market", postgresql_where=waiting
    )


def _verdicts() -> None:
    for column in (
        sa.Column("share", sa.SmallInteger, nullable=False, server_default="100"),
        sa.Column("basis", sa.Text, nullable=False, server_default="votes"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    ):
        op.add_column("verdict", column, schema="market")
    op.execute("update market.verdict set share = 0 where not is_accepted")
    op.execute("update market.verdict set basis = 'silence' where is_silent")
    for name, condition in VERDICT_CHECKS.items():
        op.create_check_constraint(name, "verdict", condition, schema="market")
    op.create_table(
        "verdict_change",
        sa.Column(
            "submission_id",
            sa.Uuid,
            sa.ForeignKey("market.verdict.submission_id"),
            primary_key=True,
        ),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("verdict", JSONB, nullable=False),
        sa.Column("replaced_at", TIME, nullable=False),
        schema="market",
    )
    append_only("market.verdict_change")
    guard_rows("market.verdict_change")
    platform_may("market.verdict_change", "select, insert")
    op.execute(
        """
        create function market.keep_verdict() returns trigger language plpgsql as $$
        begin
            if new.version <> old.version + 1 then
                raise exception 'verdict_version: a verdict is corrected one version at a time'
                    using errcode = 'check_violation', constraint = 'verdict_version';
            end if;
            insert into market.verdict_change (submission_id, version, verdict, replaced_at)
            values (old.submission_id, old.version, to_jsonb(old), new.decided_at);
            return new;
        end $$
        """
    )
    op.execute(
        "create trigger verdict_keep before update on market.verdict"
        " for each row execute function market.keep_verdict()"
    )
    platform_may("market.verdict", "update")


def downgrade() -> None:
    for name, pairs in MOVES.items():
        forbid_moves(name, pairs)
    op.execute("revoke update on market.verdict from stumpwork_platform")
    op.execute("drop trigger verdict_keep on market.verdict")
    op.execute("drop function market.keep_verdict()")
    op.drop_table("verdict_change", schema="market")
    for name in VERDICT_CHECKS:
        op.drop_constraint(f"ck_verdict_{name}", "verdict", schema="market")
    for name in ("share", "basis", "version"):
        op.drop_column("verdict", name, schema="market")
    for name in ("ix_review_queue", "ix_review_due_at"):
        op.drop_index(name, "review", schema="market")
    op.create_index(
        "ix_review_queue",
        "review",
        ["id"],
        schema="market",
        postgresql_where=sa.text("state = 'queued'"),
    )
    for name in REVIEW_CHECKS:
        op.drop_constraint(f"ck_review_{name}", "review", schema="market")
    op.create_check_constraint(
        "verdict", "review", "verdict in ('accept', 'reject')", schema="market"
    )
    for name in (
        "due_at",
        "kind",
        "reserved_for",
        "reserved_until",
        "criterion",
        "share",
        "task_broken",
    ):
        op.drop_column("review", name, schema="market")
    for table in ("review_draw", "review_plan", "qualification"):
        op.drop_table(table, schema="market")
    drop_machine("qualification")
    op.execute("drop trigger review_conflict on market.review")
    op.execute("drop trigger person_claim_emails on market.person")
    op.drop_table("identity_claim", schema="market")
    for function in (
        "guard_conflict()",
        "in_conflict(uuid, uuid)",
        "claim_emails()",
        "canonical_email(text)",
    ):
        op.execute(f"drop function market.{function}")
