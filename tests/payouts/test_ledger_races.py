"""Threads that want the same thing at the same moment, with commits that are real."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier, Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from market.db import database
from payouts import chart
from payouts.chart import AccountRef, account_id
from payouts.errors import FloorBreached, NotReversible, PendingResolved
from payouts.invariants import violations
from payouts.ledger import (
    Balance,
    Line,
    balance,
    balances,
    chain_entries,
    fold_hot_accounts,
    post_entry,
    post_pending,
    reserve,
    reverse_entry,
    void_pending,
)
from payouts.ledger_models import JournalEntry, LedgerBalance

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAB = UUID(int=1)
BUDGET = chart.project_budget(UUID(int=2), LAB)
OTHER_BUDGET = chart.project_budget(UUID(int=3), LAB)
CLEARING = chart.stripe_clearing()
FEE = chart.platform_fee()

pytestmark = pytest.mark.usefixtures("whole_books")


@pytest.fixture
def whole_books(committed: str) -> Iterator[None]:
    """A database of the test's own, whose books are whole when the test ends."""
    del committed
    yield
    with database.begin() as session:
        assert violations(session) == []


def fund(account: AccountRef, amount: int) -> None:
    with database.begin() as session:
        line = Line(CLEARING, account, amount)
        post_entry(session, key=f"fund:{uuid4()}", kind="fund", lines=[line], at=AT)


def at_once(calls: Sequence[Callable[[], object]]) -> list[object]:
    """Run every call in a thread of its own, all released together; what each came to."""
    gate = Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        gate.wait(timeout=120)
        try:
            return call()
        except Exception as refusal:
            return refusal

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def posted(account: AccountRef) -> Balance:
    with database.begin() as session:
        return balance(session, account)


def test_of_32_claims_on_a_budget_for_31_one_is_refused() -> None:
    fund(BUDGET, 31 * 114)

    def claim(number: int) -> Callable[[], str]:
        def run() -> str:
            lines = [
                Line(BUDGET, chart.owed_to(UUID(int=100 + number)), 95),
                Line(BUDGET, FEE, 19),
            ]
            with database.begin() as session:
                return reserve(session, key=f"claim:{number}", kind="work", lines=lines, at=AT).key

        return run

    outcomes = at_once([claim(number) for number in range(32)])
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 1
    assert isinstance(refused[0], FloorBreached)
    assert (refused[0].available_minor, refused[0].wanted_minor) == (0, 114)
    assert posted(BUDGET) == Balance(31 * 114, 31 * 114, 0, 0)
    assert posted(FEE).pending_credit_minor == 31 * 19


def test_a_reservation_is_resolved_by_one_of_all_who_try() -> None:
    fund(BUDGET, 1_000)
    expert = chart.owed_to(uuid4())
    with database.begin() as session:
        reserve(session, key="work", kind="work", lines=[Line(BUDGET, expert, 600)], at=AT)

    def post(number: int) -> Callable[[], str]:
        def run() -> str:
            with database.begin() as session:
                line = Line(BUDGET, expert, 500 + number)
                return post_pending(session, "work", key=f"paid:{number}", lines=[line], at=AT).key

        return run

    def void(number: int) -> Callable[[], str]:
        def run() -> str:
            with database.begin() as session:
                return void_pending(session, "work", key=f"void:{number}", at=AT).key

        return run

    outcomes = at_once([post(n) for n in range(6)] + [void(n) for n in range(6)])
    won = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(won) == 1
    assert all(isinstance(o, PendingResolved) for o in outcomes if not isinstance(o, str))
    moved = 500 + int(won[0].split(":")[1]) if won[0].startswith("paid") else 0
    assert posted(expert) == Balance(moved, 0, 0, moved)
    assert posted(BUDGET) == Balance(1_000 - moved, 0, 0, 1_000 - moved)


def test_a_key_told_by_many_threads_is_one_entry() -> None:
    fund(BUDGET, 100)
    expert = chart.owed_to(uuid4())

    def pay() -> UUID:
        with database.begin() as session:
            line = Line(BUDGET, expert, 100)
            return post_entry(session, key="pay", kind="work", lines=[line], at=AT).id

    # The budget is for one of them, and nobody is told that it is spent.
    outcomes = at_once([pay] * 8)
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], UUID)
    assert posted(expert).posted_minor == 100


def test_a_resolution_told_by_many_threads_is_one_entry() -> None:
    fund(BUDGET, 100)
    expert = chart.owed_to(uuid4())
    line = Line(BUDGET, expert, 100)
    with database.begin() as session:
        reserve(session, key="work", kind="work", lines=[line], at=AT)

    def pay() -> UUID:
        with database.begin() as session:
            return post_pending(session, "work", key="paid", lines=[line], at=AT).id

    outcomes = at_once([pay] * 8)
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], UUID)


def test_an_entry_is_reversed_by_one_of_all_who_try() -> None:
    fund(BUDGET, 100)
    with database.begin() as session:
        line = Line(BUDGET, OTHER_BUDGET, 100)
        post_entry(session, key="move", kind="move", lines=[line], at=AT)

    def back(number: int) -> Callable[[], str]:
        def run() -> str:
            with database.begin() as session:
                return reverse_entry(session, "move", key=f"back:{number}", at=AT).key

        return run

    outcomes = at_once([back(number) for number in range(8)])
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, NotReversible) for outcome in outcomes) == 7
    assert posted(BUDGET).posted_minor == 100


def test_200_posts_through_one_floor_account_leave_no_gap() -> None:
    fund(BUDGET, 200 * 12 - 12)

    def post(worker: int) -> Callable[[], int]:
        def run() -> int:
            refused = 0
            for number in range(20):
                lines = [Line(BUDGET, chart.owed_to(UUID(int=50 + worker)), 10)]
                lines.append(Line(BUDGET, FEE, 2))
                try:
                    with database.begin() as session:
                        key = f"post:{worker}:{number}"
                        post_entry(session, key=key, kind="work", lines=lines, at=AT)
                except FloorBreached:
                    refused += 1
            return refused

        return run

    outcomes = at_once([post(worker) for worker in range(10)])
    assert sum(o for o in outcomes if isinstance(o, int)) == 1
    assert all(isinstance(outcome, int) for outcome in outcomes)
    assert posted(BUDGET) == Balance(0, 0, 0, 0)
    assert posted(FEE).posted_minor == 199 * 2
    with database.begin() as session:
        version = session.get_one(LedgerBalance, account_id(BUDGET)).version
    # The funding, and two lines of each of the 199 that there was money for.
    assert version == 1 + 2 * 199


def test_money_that_goes_both_ways_at_once_never_waits_in_a_circle() -> None:
    fund(BUDGET, 10_000)
    fund(OTHER_BUDGET, 10_000)

    def move(worker: int, line: Line) -> Callable[[], None]:
        def run() -> None:
            for number in range(25):
                with database.begin() as session:
                    key = f"move:{worker}:{number}"
                    post_entry(session, key=key, kind="move", lines=[line], at=AT)

        return run

    there, back = Line(BUDGET, OTHER_BUDGET, 3), Line(OTHER_BUDGET, BUDGET, 2)
    outcomes = at_once([move(n, there if n % 2 else back) for n in range(8)])
    assert outcomes == [None] * 8
    assert posted(BUDGET).posted_minor == 10_000 - 100 * 3 + 100 * 2


def test_a_balance_is_whole_while_others_post_fold_and_chain() -> None:
    fund(BUDGET, 1_000)
    done = Event()

    def post(worker: int) -> Callable[[], None]:
        def run() -> None:
            for number in range(40):
                with database.begin() as session:
                    key, line = f"fee:{worker}:{number}", Line(BUDGET, FEE, 1)
                    post_entry(session, key=key, kind="fee", lines=[line], at=AT)

        return run

    def posters() -> None:
        try:
            assert at_once([post(worker) for worker in range(4)]) == [None] * 4
        finally:
            done.set()

    def fold() -> None:
        while not done.is_set():
            with database.begin() as session:
                fold_hot_accounts(session)

    def chain() -> None:
        while not done.is_set():
            with database.begin() as session:
                chain_entries(session, 7)

    def read() -> int:
        reads = 0
        while not done.is_set():
            with database.begin() as session:
                found = balances(session, [BUDGET, FEE])
            assert found[BUDGET].posted_minor + found[FEE].posted_minor == 1_000
            reads += 1
        return reads

    outcomes = at_once([posters, fold, fold, chain, chain, read])
    assert outcomes[:5] == [None] * 5
    assert isinstance(outcomes[5], int)
    assert posted(FEE).posted_minor == 160
    with database.begin() as session:
        while chain_entries(session, 1_000):
            pass
        entries = session.scalar(select(func.count()).select_from(JournalEntry))
        assert chain_entries(session) == 0
        assert entries == 161
