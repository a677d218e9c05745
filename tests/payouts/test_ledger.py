from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.db import Scope, take_scope
from payouts import chart
from payouts.chart import AccountRef, account_id
from payouts.errors import (
    AccountMismatch,
    BadAmount,
    CurrencyMismatch,
    EmptyEntry,
    EntryConflict,
    FloorBreached,
    NotPending,
    NotReversible,
    PendingExceeded,
    PendingResolved,
    SameAccount,
    UnknownEntry,
)
from payouts.invariants import violations
from payouts.ledger import (
    Balance,
    Line,
    balance,
    balances,
    fold_hot_accounts,
    post_entry,
    post_pending,
    reserve,
    reverse_entry,
    trial_balance,
    void_expired,
    void_pending,
)
from payouts.ledger_models import JournalEntry, LedgerAccount, LedgerBalance, Posting

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAB, PROJECT, EXPERT = UUID(int=1), UUID(int=2), UUID(int=3)
CLEARING = chart.stripe_clearing()
FUNDING = chart.lab_funding(LAB)
BUDGET = chart.project_budget(PROJECT, LAB)
OWED = chart.owed_to(EXPERT)
FEE = chart.platform_fee()

Post = Callable[..., JournalEntry]


@pytest.fixture
def post(db: Session) -> Post:
    """Post one line under a key."""

    def post(key: str, debit: AccountRef, credit: AccountRef, amount: int) -> JournalEntry:
        line = Line(debit, credit, amount)
        return post_entry(db, key=key, kind="test", lines=[line], at=AT)

    return post


@pytest.fixture
def budget(db: Session, post: Post) -> AccountRef:
    """A project's budget of 1,000."""
    post("fund", CLEARING, BUDGET, 1_000)
    return BUDGET


def reserve_work(db: Session, pay: int, fee: int, key: str = "work") -> JournalEntry:
    lines = [Line(BUDGET, OWED, pay), Line(BUDGET, FEE, fee)]
    return reserve(db, key=key, kind="work", lines=lines, at=AT)


def test_an_entry_moves_its_lines_and_keeps_what_it_was_told(db: Session) -> None:
    lines = [Line(CLEARING, FUNDING, 995), Line(chart.stripe_fees(), FUNDING, 5)]
    entry = post_entry(db, key="fund:1", kind="funding", lines=lines, at=AT, memo="March")
    assert (entry.key, entry.kind, entry.phase, entry.memo) == (
        "fund:1",
        "funding",
        "posted",
        "March",
    )
    assert entry.at == AT
    assert entry.line_count == 2
    assert balance(db, FUNDING) == Balance(1_000, 0, 0, 1_000)
    assert balance(db, CLEARING).posted_minor == 995
    assert balance(db, chart.stripe_fees()).posted_minor == 5
    kept = db.scalars(select(Posting).where(Posting.entry_id == entry.id).order_by(Posting.number))
    assert [(p.number, p.debit_account_id, p.amount_minor, p.currency) for p in kept] == [
        (1, account_id(CLEARING), 995, "USD"),
        (2, account_id(chart.stripe_fees()), 5, "USD"),
    ]


def test_an_account_that_nothing_was_posted_to_comes_to_nothing(db: Session) -> None:
    assert balance(db, OWED) == Balance(0, 0, 0, 0)


def test_several_balances_are_read_at_one_moment(db: Session, budget: AccountRef) -> None:
    assert balances(db, [budget, CLEARING, OWED, budget]) == {
        budget: Balance(1_000, 0, 0, 1_000),
        CLEARING: Balance(1_000, 0, 0, 1_000),
        OWED: Balance(0, 0, 0, 0),
    }
    assert balances(db, []) == {}


def test_the_same_key_finds_the_entry_and_moves_nothing(
    db: Session, post: Post, budget: AccountRef
) -> None:
    first = post("pay", budget, OWED, 900)
    # Money for a second one is not there, and is not needed.
    again = post("pay", budget, OWED, 900)
    assert again.id == first.id
    assert balance(db, OWED).posted_minor == 900


def test_the_same_key_for_anything_else_is_refused(
    db: Session, post: Post, budget: AccountRef
) -> None:
    post("pay", budget, OWED, 100)
    line = Line(budget, OWED, 100)
    for kind, lines in (
        ("other", [line]),
        ("test", [Line(budget, OWED, 101)]),
        ("test", [Line(budget, chart.held_for(EXPERT), 100)]),
        ("test", [Line(OWED, budget, 100)]),
        ("test", [line, line]),
    ):
        with pytest.raises(EntryConflict) as refusal:
            post_entry(db, key="pay", kind=kind, lines=lines, at=AT)
        assert refusal.value.key == "pay"
    with pytest.raises(EntryConflict):
        reserve(db, key="pay", kind="test", lines=[line], at=AT)
    with pytest.raises(EntryConflict):
        reverse_entry(db, "fund", key="pay", at=AT)
    assert balance(db, OWED).posted_minor == 100


def test_a_floor_refuses_and_leaves_the_transaction_usable(
    db: Session, post: Post, budget: AccountRef
) -> None:
    with pytest.raises(FloorBreached) as refusal:
        post("pay", budget, OWED, 1_001)
    assert refusal.value.account == budget
    assert (refusal.value.available_minor, refusal.value.wanted_minor) == (1_000, 1_001)
    assert db.scalar(select(func.count()).select_from(JournalEntry)) == 1
    post("pay", budget, OWED, 1_000)
    assert balance(db, budget).available_minor == 0


def test_a_floor_counts_all_lines_of_an_entry_together(db: Session, budget: AccountRef) -> None:
    lines = [Line(budget, OWED, 600), Line(budget, FEE, 401)]
    with pytest.raises(FloorBreached) as refusal:
        post_entry(db, key="pay", kind="test", lines=lines, at=AT)
    assert refusal.value.wanted_minor == 1_001


def test_what_an_entry_brings_cannot_be_spent_by_the_same_entry(db: Session) -> None:
    lines = [Line(CLEARING, FUNDING, 100), Line(FUNDING, BUDGET, 100)]
    with pytest.raises(FloorBreached) as refusal:
        post_entry(db, key="both", kind="test", lines=lines, at=AT)
    assert refusal.value.account == FUNDING


def test_an_account_on_the_debit_side_has_its_floor_too(
    db: Session, post: Post, budget: AccountRef
) -> None:
    owes = chart.receivable_from(EXPERT)
    post("clawback", owes, budget, 70)
    assert balance(db, owes) == Balance(70, 0, 0, 70)
    with pytest.raises(FloorBreached) as refusal:
        post("recovered", CLEARING, owes, 71)
    assert (refusal.value.account, refusal.value.available_minor) == (owes, 70)
    line = Line(CLEARING, owes, 50)
    reserve(db, key="recovery", kind="test", lines=[line], at=AT)
    assert balance(db, owes) == Balance(70, 0, 50, 20)


def test_an_account_without_a_floor_may_stand_on_either_side(db: Session, post: Post) -> None:
    post("loss", chart.dispute_loss(), CLEARING, 30)
    assert balance(db, CLEARING) == Balance(-30, 0, 0, -30)


def test_a_reservation_moves_nothing_and_counts_against_the_floor_at_once(
    db: Session, post: Post, budget: AccountRef
) -> None:
    entry = reserve_work(db, 500, 100)
    assert entry.phase == "pending"
    assert balance(db, budget) == Balance(1_000, 600, 0, 400)
    assert balance(db, FEE) == Balance(0, 0, 100, 0)
    with pytest.raises(FloorBreached) as refusal:
        post("pay", budget, OWED, 401)
    assert refusal.value.available_minor == 400


def test_what_is_expected_is_never_available(db: Session, post: Post, budget: AccountRef) -> None:
    reserve_work(db, 500, 100)
    assert balance(db, OWED) == Balance(0, 0, 500, 0)
    with pytest.raises(FloorBreached):
        post("payout", OWED, chart.in_transit_to(EXPERT), 1)


def test_a_reservation_posts_in_part_and_the_rest_is_free_again(
    db: Session, budget: AccountRef
) -> None:
    pending = reserve_work(db, 500, 100)
    lines = [Line(budget, OWED, 300), Line(budget, FEE, 60)]
    entry = post_pending(db, "work", key="work:paid", lines=lines, at=AT)
    assert entry.resolves_id == pending.id
    assert entry.kind == "work"
    assert balance(db, budget) == Balance(640, 0, 0, 640)
    assert balance(db, OWED) == Balance(300, 0, 0, 300)
    assert balance(db, FEE) == Balance(60, 0, 0, 60)


def test_a_reservation_posts_in_full_though_nothing_else_is_free(
    db: Session, post: Post, budget: AccountRef
) -> None:
    reserve_work(db, 500, 100)
    post("rest", budget, FEE, 400)
    lines = [Line(budget, OWED, 500), Line(budget, FEE, 100)]
    post_pending(db, "work", key="work:paid", lines=lines, at=AT)
    assert balance(db, budget) == Balance(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("lines", "reserved", "wanted"),
    [
        ([Line(BUDGET, OWED, 501)], 500, 501),
        ([Line(BUDGET, OWED, 300), Line(BUDGET, OWED, 201)], 500, 501),
        ([Line(BUDGET, FEE, 101)], 100, 101),
        ([Line(BUDGET, chart.held_for(EXPERT), 1)], 0, 1),
        ([Line(OWED, BUDGET, 1)], 0, 1),
    ],
)
def test_no_more_posts_between_two_accounts_than_was_reserved_there(
    db: Session, budget: AccountRef, lines: list[Line], reserved: int, wanted: int
) -> None:
    reserve_work(db, 500, 100)
    with pytest.raises(PendingExceeded) as refusal:
        post_pending(db, "work", key="work:paid", lines=lines, at=AT)
    assert (refusal.value.debit, refusal.value.credit) == (lines[0].debit, lines[0].credit)
    assert (refusal.value.reserved_minor, refusal.value.wanted_minor) == (reserved, wanted)
    assert balance(db, budget).pending_debit_minor == 600


def test_a_voided_reservation_leaves_no_trace_in_the_balances(
    db: Session, budget: AccountRef
) -> None:
    pending = reserve_work(db, 500, 100)
    entry = void_pending(db, "work", key="work:void", at=AT, memo="declined")
    assert (entry.phase, entry.resolves_id, entry.line_count) == ("voided", pending.id, 0)
    assert balances(db, [budget, OWED, FEE]) == {
        budget: Balance(1_000, 0, 0, 1_000),
        OWED: Balance(0, 0, 0, 0),
        FEE: Balance(0, 0, 0, 0),
    }


def test_a_reservation_ends_once(db: Session, budget: AccountRef) -> None:
    reserve_work(db, 500, 100)
    paid = [Line(budget, OWED, 500)]
    first = post_pending(db, "work", key="work:paid", lines=paid, at=AT)
    assert post_pending(db, "work", key="work:paid", lines=paid, at=AT).id == first.id
    with pytest.raises(PendingResolved) as refusal:
        void_pending(db, "work", key="work:void", at=AT)
    assert refusal.value.key == "work"
    with pytest.raises(PendingResolved):
        post_pending(db, "work", key="work:paid:2", lines=paid, at=AT)
    with pytest.raises(EntryConflict):
        void_pending(db, "work", key="work:paid", at=AT)
    assert balance(db, OWED).posted_minor == 500


def test_only_a_reservation_can_be_resolved(db: Session, budget: AccountRef) -> None:
    with pytest.raises(NotPending) as refusal:
        void_pending(db, "fund", key="void", at=AT)
    assert refusal.value.key == "fund"
    with pytest.raises(UnknownEntry) as missing:
        post_pending(db, "nothing", key="paid", lines=[Line(budget, OWED, 1)], at=AT)
    assert missing.value.key == "nothing"


def test_overdue_reservations_are_voided_and_others_are_not(
    db: Session, budget: AccountRef
) -> None:
    hour = timedelta(hours=1)
    for key, expires_at in (("late", AT), ("later", AT + hour), ("paid", AT), ("never", None)):
        line = Line(budget, OWED, 100)
        reserve(db, key=key, kind="work", lines=[line], at=AT - hour, expires_at=expires_at)
    post_pending(db, "paid", key="paid:1", lines=[Line(budget, OWED, 100)], at=AT)
    assert [entry.key for entry in void_expired(db, at=AT)] == ["expiry:late"]
    assert void_expired(db, at=AT) == []
    assert balance(db, budget) == Balance(900, 200, 0, 700)
    assert [entry.key for entry in void_expired(db, at=AT + hour)] == ["expiry:later"]


def test_a_reversal_changes_the_sides_of_every_line_once(db: Session, budget: AccountRef) -> None:
    lines = [Line(budget, OWED, 500), Line(budget, FEE, 100)]
    paid = post_entry(db, key="pay", kind="work", lines=lines, at=AT)
    reversal = reverse_entry(db, "pay", key="pay:back", at=AT, memo="by mistake")
    assert (reversal.kind, reversal.reverses_id, reversal.line_count) == ("reversal", paid.id, 2)
    assert balance(db, budget).posted_minor == 1_000
    assert balance(db, FEE).posted_minor == 0
    assert reverse_entry(db, "pay", key="pay:back", at=AT).id == reversal.id
    with pytest.raises(NotReversible) as refusal:
        reverse_entry(db, "pay", key="pay:back:2", at=AT)
    assert refusal.value.key == "pay"


def test_a_reversal_cannot_take_what_has_been_spent(
    db: Session, post: Post, budget: AccountRef
) -> None:
    post("pay", budget, OWED, 500)
    post("payout", OWED, chart.in_transit_to(EXPERT), 200)
    with pytest.raises(FloorBreached) as refusal:
        reverse_entry(db, "pay", key="pay:back", at=AT)
    assert (refusal.value.account, refusal.value.available_minor) == (OWED, 300)


def test_only_what_moved_money_can_be_reversed(db: Session, budget: AccountRef) -> None:
    reserve_work(db, 500, 100)
    with pytest.raises(NotReversible):
        reverse_entry(db, "work", key="back", at=AT)
    with pytest.raises(UnknownEntry):
        reverse_entry(db, "nothing", key="back", at=AT)


@pytest.mark.parametrize("amount", [0, -5, True, 2.0, 2**63])
def test_a_line_carries_a_positive_whole_amount(amount: int) -> None:
    with pytest.raises(BadAmount):
        Line(BUDGET, OWED, amount)


def test_a_line_has_two_accounts_of_one_currency() -> None:
    with pytest.raises(SameAccount) as same:
        Line(BUDGET, BUDGET, 1)
    assert same.value.account == BUDGET
    with pytest.raises(CurrencyMismatch) as two:
        Line(BUDGET, chart.owed_to(EXPERT, "EUR"), 1)
    assert (two.value.one, two.value.other) == ("USD", "EUR")


def test_an_entry_has_a_line(db: Session) -> None:
    with pytest.raises(EmptyEntry):
        post_entry(db, key="nothing", kind="test", lines=[], at=AT)
    with pytest.raises(EmptyEntry):
        reserve(db, key="nothing", kind="test", lines=[], at=AT)
    with pytest.raises(EmptyEntry):
        post_pending(db, "nothing", key="nothing", lines=[], at=AT)


def test_an_account_keeps_the_tenant_it_was_opened_for(
    db: Session, post: Post, budget: AccountRef
) -> None:
    other = chart.project_budget(PROJECT, uuid4())
    with pytest.raises(AccountMismatch) as refusal:
        post("fund:other", CLEARING, other, 1)
    assert refusal.value.account == other


def test_one_conversion_goes_through_both_currencies(db: Session, post: Post) -> None:
    post("fund", CLEARING, FUNDING, 1_000)
    lines = [
        Line(FUNDING, chart.fx_position("USD"), 1_000),
        Line(chart.fx_position("EUR"), chart.lab_funding(LAB, "EUR"), 920),
    ]
    post_entry(db, key="convert", kind="conversion", lines=lines, at=AT)
    assert balance(db, chart.lab_funding(LAB, "EUR")).posted_minor == 920
    for currency in ("USD", "EUR"):
        rows = [row for row in trial_balance(db) if row.currency == currency]
        assert sum(r.debit_minor for r in rows) == sum(r.credit_minor for r in rows) > 0


def test_an_entry_of_many_lines_is_one_entry(db: Session, budget: AccountRef) -> None:
    lines = [Line(budget, chart.owed_to(UUID(int=n)), n) for n in range(10, 40)]
    entry = post_entry(db, key="run", kind="work", lines=lines, at=AT)
    assert entry.line_count == 30
    assert balance(db, budget).posted_minor == 1_000 - sum(range(10, 40))
    assert balance(db, chart.owed_to(UUID(int=39))).posted_minor == 39


def test_folding_changes_no_balance(db: Session, budget: AccountRef) -> None:
    for number in range(5):
        lines = [Line(budget, OWED, 10), Line(budget, FEE, 2)]
        post_entry(db, key=f"pay:{number}", kind="work", lines=lines, at=AT)
    reserve_work(db, 100, 20)
    accounts = [FEE, CLEARING, budget]
    before = balances(db, accounts)
    folded = db.get_one(LedgerBalance, account_id(FEE))
    assert folded.posted_minor == 0
    # Five fees, one expected fee, one funding.
    assert fold_hot_accounts(db) == 7
    assert balances(db, accounts) == before
    db.refresh(folded)
    assert (folded.posted_minor, folded.expected_minor) == (10, 20)
    assert fold_hot_accounts(db) == 0
    void_pending(db, "work", key="work:void", at=AT)
    assert balance(db, FEE) == Balance(10, 0, 0, 10)


def test_an_accounts_history_has_no_gap(db: Session, post: Post, budget: AccountRef) -> None:
    for number in (1, 2, 3):
        post(f"pay:{number}", budget, OWED, number * 100)
    history = db.execute(
        select(Posting.debit_version, Posting.debit_balance_after_minor)
        .where(Posting.debit_account_id == account_id(budget))
        .order_by(Posting.debit_version)
    ).all()
    assert [tuple(row) for row in history] == [(2, 900), (3, 700), (4, 400)]


@pytest.mark.parametrize("table", ["ledger_account", "journal_entry", "posting", "chain_link"])
def test_nothing_in_the_books_is_ever_changed(db: Session, budget: AccountRef, table: str) -> None:
    column = {"ledger_account": "code", "journal_entry": "memo", "posting": "currency"}
    changed = column.get(table, "digest")
    db.execute(text("select payouts.chain_entries(10)"))
    statements = (
        f"update payouts.{table} set {changed} = {changed}",
        f"delete from payouts.{table}",
        f"truncate payouts.{table} cascade",
    )
    for statement in statements:
        with pytest.raises(DBAPIError, match="permission denied"), db.begin_nested():
            db.execute(text(statement))
    # Not even by the owner of the tables, who runs the migrations.
    db.execute(text("set constraints all immediate"))
    db.execute(text("reset role"))
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"), db.begin_nested():
            db.execute(text(statement))


def test_labs_and_experts_see_their_own_rows_and_no_others(
    db: Session, post: Post, budget: AccountRef
) -> None:
    post("pay", budget, OWED, 500)
    other = chart.owed_to(UUID(int=9))
    post("pay:other", budget, other, 100)
    post("fee", budget, FEE, 50)
    shown = {
        Scope("stumpwork_lab", LAB): ({BUDGET}, 4),
        Scope("stumpwork_lab", UUID(int=8)): (set(), 0),
        Scope("stumpwork_expert", EXPERT): ({OWED}, 1),
        Scope("stumpwork_expert", UUID(int=9)): ({other}, 1),
        # An expert's role with a lab's tenant is still that tenant.
        Scope("stumpwork_expert", UUID(int=7)): (set(), 0),
    }
    for scope, (accounts, entries) in shown.items():
        db.expire_all()
        take_scope(db, scope)
        seen = db.scalars(select(LedgerAccount.id)).all()
        assert set(seen) == {account_id(a) for a in accounts}
        assert set(db.scalars(select(LedgerBalance.account_id))) == set(seen)
        assert len(db.scalars(select(JournalEntry)).all()) == entries
        assert len(db.scalars(select(Posting)).all()) == entries
        for account in (BUDGET, OWED, other, FEE):
            if account not in accounts:
                assert balance(db, account) == Balance(0, 0, 0, 0)
    take_scope(db, Scope("stumpwork_expert", EXPERT))
    assert balance(db, OWED).available_minor == 500


def test_nobody_reads_the_other_ends_balance_in_a_posting(
    db: Session, post: Post, budget: AccountRef
) -> None:
    post("pay", budget, OWED, 500)
    take_scope(db, Scope("stumpwork_expert", EXPERT))
    for column in (Posting.debit_balance_after_minor, Posting.debit_version):
        with pytest.raises(DBAPIError, match="permission denied"), db.begin_nested():
            db.scalars(select(column)).all()


def test_nobody_but_the_platform_posts_and_reviewers_see_what_is_theirs(
    db: Session, budget: AccountRef
) -> None:
    for role in ("stumpwork_lab", "stumpwork_expert", "stumpwork_reviewer"):
        with db.begin_nested() as attempt:
            take_scope(db, Scope(role, LAB))
            with pytest.raises(DBAPIError, match="permission denied"), db.begin_nested():
                post_entry(db, key="x", kind="x", lines=[Line(CLEARING, budget, 1)], at=AT)
            attempt.rollback()
    reserve_work(db, 500, 100)
    owned = select(LedgerAccount.tenant_id).distinct()
    for tenant, seen in ((EXPERT, [EXPERT]), (uuid4(), [])):
        with db.begin_nested() as attempt:
            take_scope(db, Scope("stumpwork_reviewer", tenant))
            assert db.scalars(owned).all() == seen
            attempt.rollback()


def test_the_books_of_all_this_are_whole(db: Session, post: Post, budget: AccountRef) -> None:
    reserve_work(db, 500, 100)
    post_pending(db, "work", key="paid", lines=[Line(budget, OWED, 400)], at=AT)
    reserve_work(db, 300, 60, key="more")
    reverse_entry(db, "paid", key="back", at=AT)
    assert violations(db) == []
