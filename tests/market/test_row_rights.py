"""What the database itself lets somebody read, table by table: rows of its own, and no others."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

OWNED = {
    "market.earning": "expert_id",
    "market.expert": "id",
    "market.time_entry": "expert_id",
    "market.offer": "expert_id",
    "market.fraud_case": "expert_id",
    "market.recovery_case": "expert_id",
    "market.dispute": "expert_id",
    "payouts.payee": "owner_id",
    "payouts.payout": "owner_id",
    "payouts.payout_move": "owner_id",
    "payouts.payout_hold": "owner_id",
    "payouts.transfer": "owner_id",
    "payouts.recovery": "owner_id",
    "payouts.ledger_account": "tenant_id",
}
"""Tables about an expert's work and pay that a reviewer reads, and the column that says whose."""

OF_AN_ACCOUNT = ("payouts.ledger_balance", "payouts.unfolded_line")
"""Tables whose rows belong to whomever their ledger account does."""

FILL = {
    "uuid": "gen_random_uuid()",
    "text": "cast(gen_random_uuid() as text)",
    "timestamp with time zone": "now()",
    "date": "current_date",
    "jsonb": "'{}'",
    "boolean": "false",
    "bytea": "''",
}
"""A value of each type; what has none here is a number, an array or a range."""

COLUMNS = text(
    """
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type
    from pg_attribute a
    where a.attrelid = cast(:called as regclass) and a.attnum > 0 and not a.attisdropped
        and a.attgenerated = '' and (a.attnotnull and not a.atthasdef or a.attname = :owner)
        and a.attidentity = ''
    """
)

CHECKS = text(
    """
    select conname from pg_constraint
    where conrelid = cast(:called as regclass) and contype in ('c', 'f')
    """
)


@pytest.fixture
def bare(server: str) -> Iterator[Connection]:
    """A transaction in which rows need no rows beside them and no sense; it is rolled back."""
    engine = create_engine(server)
    with engine.connect() as connection, connection.begin() as outer:
        for called in (*OWNED, *OF_AN_ACCOUNT):
            connection.execute(text(f"alter table {called} disable trigger user"))
            for (name,) in connection.execute(CHECKS, {"called": called}).all():
                connection.execute(text(f'alter table {called} drop constraint "{name}"'))
        yield connection
        outer.rollback()
    engine.dispose()


def put(bare: Connection, called: str, owner: str, value: UUID) -> None:
    """A row of a table that belongs to somebody, with whatever fits in its other columns."""
    names, values = [], []
    for name, kind in bare.execute(COLUMNS, {"called": called, "owner": owner}):
        names.append(name)
        if name == owner:
            values.append(":value")
        elif kind.endswith(("[]", "range")):
            values.append(
                f"cast('{{}}' as {kind})" if "multi" in kind or "[]" in kind else "'empty'"
            )
        else:
            values.append(FILL.get(kind, f"cast('7' as {kind})"))
    said = f"insert into {called} ({', '.join(names)}) values ({', '.join(values)})"
    bare.execute(text(said), {"value": value})


def seen_by(bare: Connection, role: str, tenant: UUID, asked: str) -> list[UUID]:
    """What a role reads as somebody."""
    with bare.begin_nested() as attempt:
        bare.execute(
            text(
                "select set_config('role', :role, true), set_config('stumpwork.tenant', :t, true)"
            ),
            {"role": role, "t": str(tenant)},
        )
        found = list(bare.scalars(text(asked)))
        attempt.rollback()
    return found


def test_a_reviewer_reads_of_work_and_pay_what_is_its_own_and_nothing_else(
    bare: Connection,
) -> None:
    me, other, nobody = uuid4(), uuid4(), uuid4()
    for called, owner in OWNED.items():
        for person in (me, other):
            put(bare, called, owner, person)
    for called, owner in OWNED.items():
        for person, rows in ((me, [me]), (other, [other]), (nobody, [])):
            asked = f"select {owner} from {called}"
            assert seen_by(bare, "stumpwork_reviewer", person, asked) == rows, called


def test_a_reviewer_reads_the_sums_of_its_own_ledger_accounts_only(bare: Connection) -> None:
    me, other = uuid4(), uuid4()
    for person in (me, other):
        put(bare, "payouts.ledger_account", "tenant_id", person)
    accounts = bare.execute(text("select tenant_id, id from payouts.ledger_account"))
    whose = {row.tenant_id: row.id for row in accounts}
    for called in OF_AN_ACCOUNT:
        for person in (me, other):
            put(bare, called, "account_id", whose[person])
        for person in (me, other, uuid4()):
            rows = [whose[person]] if person in whose else []
            asked = f"select account_id from {called}"
            assert seen_by(bare, "stumpwork_reviewer", person, asked) == rows, called
