"""That the books cannot be broken, and that the queries would see it if they were."""

from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from payouts import chart
from payouts.chart import AccountRef, account_id
from payouts.errors import FloorBreached, NotReversible
from payouts.invariants import INVARIANTS, LEDGER_INVARIANTS, violations
from payouts.ledger import (
    Balance,
    Line,
    balances,
    chain_entries,
    fold_hot_accounts,
    post_entry,
    post_pending,
    reserve,
    reverse_entry,
    trial_balance,
    void_pending,
)

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAB, PROJECT, EXPERT = UUID(int=1), UUID(int=2), UUID(int=3)
CLEARING = chart.stripe_clearing()
BUDGET = chart.project_budget(PROJECT, LAB)
OWED = chart.owed_to(EXPERT)
FEE = chart.platform_fee()


ENTRY = """
insert into payouts.journal_entry (id, key, kind, phase, line_count, at, resolves_id)
values (:id, :key, 'raw', :phase, :lines, now(), :resolves)
"""
POSTING = """
insert into payouts.posting
    (entry_id, number, debit_account_id, credit_account_id, currency, amount_minor)
values (:id, :number, :debit, :credit, :currency, :amount)
"""


class Raw:
    """Rows written by hand, as the platform's role, with no function of ours in between."""

    def __init__(self, db: Session) -> None:
        self._db = db

    def entry(
        self, key: str, phase: str = "posted", lines: int = 1, resolves: UUID | None = None
    ) -> UUID:
        entry = uuid4()
        values = {"id": entry, "key": key, "phase": phase, "lines": lines, "resolves": resolves}
        self._db.execute(text(ENTRY), values)
        return entry

    def posting(
        self,
        entry: UUID,
        debit: AccountRef,
        credit: AccountRef,
        amount: int,
        *,
        number: int = 1,
        currency: str = "USD",
    ) -> None:
        values = {
            "id": entry,
            "number": number,
            "debit": account_id(debit),
            "credit": account_id(credit),
            "currency": currency,
            "amount": amount,
        }
        self._db.execute(text(POSTING), values)

    def commit_checks(self) -> None:
        self._db.execute(text("set constraints all immediate"))
        self._db.execute(text("set constraints all deferred"))


@pytest.fixture
def raw(db: Session) -> Raw:
    """Books with a budget of 1,000 and 300 of it reserved, and a hand to write into them."""
    euros = chart.project_budget(uuid4(), LAB, "EUR")
    post_entry(db, key="fund", kind="fund", lines=[Line(CLEARING, BUDGET, 1_000)], at=AT)
    post_entry(db, key="euros", kind="fund", lines=[Line(chart.bank("EUR"), euros, 500)], at=AT)
    reserve(db, key="work", kind="work", lines=[Line(BUDGET, OWED, 300)], at=AT)
    return Raw(db)


def id_of(db: Session, key: str) -> UUID:
    found = db.execute(
        text("select id from payouts.journal_entry where key = :key"), {"key": key}
    ).scalar_one()
    assert isinstance(found, UUID)
    return found


def test_a_posting_by_hand_keeps_the_balances_too(db: Session, raw: Raw) -> None:
    entry = raw.entry("by hand")
    raw.posting(entry, BUDGET, OWED, 700)
    raw.commit_checks()
    assert balances(db, [BUDGET, OWED]) == {
        BUDGET: Balance(300, 300, 0, 0),
        OWED: Balance(700, 0, 300, 700),
    }
    assert violations(db) == []


def test_i1_the_database_refuses_an_entry_that_does_not_balance(db: Session, raw: Raw) -> None:
    entry = raw.entry("one-sided")
    for credit, amount, currency in (
        (BUDGET, 1, "USD"),
        (OWED, 0, "USD"),
        (OWED, -5, "USD"),
        # Dollars that leave as euros.
        (chart.bank("EUR"), 5, "USD"),
        (OWED, 5, "EUR"),
    ):
        with pytest.raises(IntegrityError), db.begin_nested():
            raw.posting(entry, BUDGET, credit, amount, currency=currency)
    with pytest.raises(IntegrityError, match="has not the 1 lines"), db.begin_nested():
        raw.commit_checks()


def test_i1_no_line_is_added_to_an_entry_later(db: Session, raw: Raw) -> None:
    for key, number in (("fund", 2), ("fund", 1), ("fund", 0), ("work", 2)):
        with pytest.raises(IntegrityError), db.begin_nested():
            raw.posting(id_of(db, key), BUDGET, OWED, 1, number=number)
    with pytest.raises(IntegrityError, match="not there"), db.begin_nested():
        raw.posting(uuid4(), BUDGET, OWED, 1)


@pytest.mark.parametrize("phase", ["posted", "pending"])
def test_i4_the_database_refuses_to_go_below_a_floor(db: Session, raw: Raw, phase: str) -> None:
    entry = raw.entry("too much", phase)
    with pytest.raises(IntegrityError, match="ck_ledger_balance_floor"), db.begin_nested():
        raw.posting(entry, BUDGET, OWED, 701)
    raw.posting(entry, BUDGET, OWED, 700)
    raw.commit_checks()


def test_i6_the_database_refuses_a_second_resolution(db: Session, raw: Raw) -> None:
    work = id_of(db, "work")
    raw.entry("void", "voided", 0, resolves=work)
    for phase, lines in (("voided", 0), ("posted", 1)):
        with pytest.raises(IntegrityError, match="resolves_id"), db.begin_nested():
            raw.entry("again", phase, lines, resolves=work)


def test_i6_the_database_refuses_more_than_was_reserved(db: Session, raw: Raw) -> None:
    entry = raw.entry("paid", "posted", 2, resolves=id_of(db, "work"))
    for debit, credit, amount in ((BUDGET, OWED, 301), (BUDGET, FEE, 1), (OWED, BUDGET, 1)):
        with pytest.raises(IntegrityError), db.begin_nested():
            raw.posting(entry, debit, credit, amount)
    raw.posting(entry, BUDGET, OWED, 200)
    with pytest.raises(IntegrityError, match="posts 301 where 300"), db.begin_nested():
        raw.posting(entry, BUDGET, OWED, 101, number=2)
    raw.posting(entry, BUDGET, OWED, 100, number=2)
    raw.commit_checks()
    assert violations(db) == []


def test_i6_only_a_reservation_can_be_resolved_and_only_wholly(db: Session, raw: Raw) -> None:
    with pytest.raises(IntegrityError, match="reserves nothing"), db.begin_nested():
        raw.entry("void", "voided", 0, resolves=id_of(db, "fund"))
    for phase, lines, resolves in (
        ("voided", 0, None),
        ("voided", 1, id_of(db, "work")),
        ("pending", 1, id_of(db, "work")),
        ("posted", 0, None),
        ("draft", 1, None),
    ):
        with pytest.raises(IntegrityError, match="ck_journal_entry_phase"), db.begin_nested():
            raw.entry("wrong", phase, lines, resolves=resolves)


def test_i7_the_database_refuses_a_second_entry_of_a_key(db: Session, raw: Raw) -> None:
    with pytest.raises(IntegrityError, match="uq_journal_entry_key"), db.begin_nested():
        raw.entry("fund")


BREAKS = {
    "I1": "delete from payouts.posting where entry_id = '{fund}'",
    "I2": "alter table payouts.posting disable trigger posting_append_only",
    "I3": "update payouts.ledger_balance set expected_minor = expected_minor + 1"
    " where account_id = '{owed}'",
    "I4": "delete from payouts.posting where entry_id = '{fund}'",
    "I5": "update payouts.posting set currency = 'EUR' where entry_id = '{fund}'",
    "I6": "update payouts.posting set amount_minor = 299 where entry_id = '{work}'",
    "I7": "update payouts.journal_entry set key = 'fund' where key = 'work'",
    "I8": "update payouts.posting set debit_account_id = '{other}' where entry_id = '{fund}'",
    "I9": "update payouts.posting set amount_minor = 299 where entry_id = '{fund}'",
    "I14": "update payouts.posting set amount_minor = 299 where entry_id = '{earned}'",
    "I21": "update payouts.ledger_balance set posted_minor = posted_minor + 1"
    " where account_id = '{owed}'",
    "I23": "update payouts.posting set credit_version = 7 where entry_id = '{earned}'",
    "I24": "update payouts.journal_entry set memo = 'forged' where id = '{fund}'",
}


GUARDS_ON = (
    "alter table payouts.posting enable trigger user",
    "alter table payouts.journal_entry enable trigger user",
)


def test_every_invariant_has_a_way_to_be_broken_here() -> None:
    assert set(BREAKS) == set(LEDGER_INVARIANTS)


@pytest.mark.parametrize("invariant", LEDGER_INVARIANTS)
def test_the_queries_see_books_that_were_broken_by_force(db: Session, invariant: str) -> None:
    other = chart.project_budget(uuid4(), uuid4())
    lines = [Line(CLEARING, BUDGET, 300)]
    post_entry(db, key="fund", kind="fund", lines=lines, at=AT)
    post_entry(db, key="other", kind="fund", lines=[Line(CLEARING, other, 500)], at=AT)
    reserve(db, key="work", kind="work", lines=[Line(BUDGET, OWED, 300)], at=AT)
    line = Line(BUDGET, OWED, 300)
    post_pending(db, "work", key="earned", lines=[line], at=AT)
    sent = [
        Line(OWED, chart.in_transit_to(EXPERT), 300),
        Line(chart.connected_balance(EXPERT), CLEARING, 300),
    ]
    post_entry(db, key="sent", kind="transfer", lines=sent, at=AT)
    assert chain_entries(db) == 5
    assert violations(db) == []
    names = {key: id_of(db, key) for key in ("fund", "work", "earned")}
    names |= {"owed": account_id(OWED), "other": account_id(other)}
    db.execute(text("set constraints all immediate"))
    # Only the owner of the tables can do what follows, and has to take its guards off first.
    db.execute(text("reset role"))
    for statement in (
        "alter table payouts.posting disable trigger user",
        "alter table payouts.journal_entry disable trigger user",
        "alter table payouts.posting drop constraint fk_posting_debit_account_id_currency",
        "alter table payouts.posting drop constraint fk_posting_credit_account_id_currency",
        "alter table payouts.journal_entry drop constraint uq_journal_entry_key",
        BREAKS[invariant].format(**names),
        *GUARDS_ON[invariant == "I2" :],
        "set local role stumpwork_platform",
    ):
        db.execute(text(statement))
    found = violations(db)
    seen = {violation.invariant for violation in found}
    assert invariant in seen
    assert ("I2" in seen) == (invariant == "I2")
    assert all(violation.sentence == INVARIANTS[violation.invariant][0] for violation in found)


def test_the_chain_grows_by_batches_and_covers_every_entry(db: Session) -> None:
    for number in range(5):
        line = Line(CLEARING, BUDGET, 10 + number)
        post_entry(db, key=f"fund:{number}", kind="fund", lines=[line], at=AT)
    assert [chain_entries(db, 2) for _ in range(4)] == [2, 2, 1, 0]
    numbers = db.scalars(text("select number from payouts.chain_link order by number")).all()
    assert numbers == [1, 2, 3, 4, 5]
    digests = db.scalars(text("select digest from payouts.chain_link")).all()
    assert len(set(digests)) == 5
    assert violations(db) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["post", "reserve", "pay", "void", "reverse", "again", "fold", "chain"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 400),
    ),
    max_size=25,
)


class Model:
    """The same books in plain Python: what each account has, promises and expects."""

    def __init__(self, accounts: list[AccountRef]) -> None:
        self.accounts = accounts
        self.posted = dict.fromkeys(accounts, 0)
        self.promised = dict.fromkeys(accounts, 0)
        self.expected = dict.fromkeys(accounts, 0)

    def can_give(self, account: AccountRef, amount: int) -> bool:
        return not account.row.has_floor or self.posted[account] - self.promised[account] >= amount

    def move(self, line: Line) -> None:
        self.posted[line.debit] -= line.amount_minor
        self.posted[line.credit] += line.amount_minor

    def promise(self, line: Line, sign: int) -> None:
        self.promised[line.debit] += sign * line.amount_minor
        self.expected[line.credit] += sign * line.amount_minor

    def balances(self) -> dict[AccountRef, Balance]:
        return {
            account: Balance(
                self.posted[account],
                self.promised[account],
                self.expected[account],
                self.posted[account] - self.promised[account],
            )
            for account in self.accounts
        }


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_whatever_is_done_in_whatever_order_the_books_say_what_a_model_says(
    db: Session, steps: list[tuple[str, int, int, int]]
) -> None:
    # All on the credit side, two with a floor and one without, funded alike.
    accounts = [BUDGET, OWED, chart.lab_funding(LAB), FEE]
    with db.begin_nested() as undo:
        play(db, Model(accounts), steps)
        undo.rollback()
    db.expire_all()


def play(db: Session, model: Model, steps: list[tuple[str, int, int, int]]) -> None:
    accounts = model.accounts
    for account in accounts:
        line = Line(CLEARING, account, 500)
        post_entry(db, key=f"fund:{account}", kind="fund", lines=[line], at=AT)
        model.posted[account] = 500
    keys = (f"step:{number}" for number in count())
    moved: list[tuple[str, Line]] = []
    pending: list[tuple[str, Line]] = []
    reversed_keys: set[str] = set()
    for step, one, other, amount in steps:
        key = next(keys)
        if step == "fold":
            fold_hot_accounts(db)
        elif step == "chain":
            chain_entries(db, one)
        elif step == "again" and moved:
            told, line = moved[one % len(moved)]
            post_entry(db, key=told, kind="move", lines=[line], at=AT)
        elif step == "reverse" and moved:
            told, line = moved[one % len(moved)]
            if told in reversed_keys:
                with pytest.raises(NotReversible):
                    reverse_entry(db, told, key=key, at=AT)
            elif model.can_give(line.credit, line.amount_minor):
                reverse_entry(db, told, key=key, at=AT)
                model.move(Line(line.credit, line.debit, line.amount_minor))
                reversed_keys.add(told)
            else:
                with pytest.raises(FloorBreached):
                    reverse_entry(db, told, key=key, at=AT)
        elif step in ("pay", "void") and pending:
            told, line = pending.pop(one % len(pending))
            model.promise(line, -1)
            if step == "void":
                void_pending(db, told, key=key, at=AT)
            else:
                part = Line(line.debit, line.credit, min(amount, line.amount_minor))
                post_pending(db, told, key=key, lines=[part], at=AT)
                model.move(part)
        elif step in ("post", "reserve") and one != other:
            line = Line(accounts[one], accounts[other], amount)
            write = post_entry if step == "post" else reserve
            if not model.can_give(line.debit, amount):
                with pytest.raises(FloorBreached):
                    write(db, key=key, kind="move", lines=[line], at=AT)
            else:
                write(db, key=key, kind="move", lines=[line], at=AT)
                if step == "post":
                    model.move(line)
                    moved.append((key, line))
                else:
                    model.promise(line, 1)
                    pending.append((key, line))
        assert balances(db, accounts) == model.balances()
    rows = trial_balance(db)
    assert sum(row.debit_minor for row in rows) == sum(row.credit_minor for row in rows)
    assert violations(db) == []
