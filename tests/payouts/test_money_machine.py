"""The life of money as a state machine, step by step beside a model of it in plain numbers.

The model is a dictionary: what each account holds, and the promises that are open. It knows no
phases, versions or hot accounts, and shares no code with the ledger; after every step each balance
and what is available of it is the same on both sides, and a step is refused on one side exactly
when it is on the other.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.orm import Session

from payouts import chart
from payouts.chart import AccountRef
from payouts.errors import FloorBreached
from payouts.invariants import violations
from payouts.ledger import (
    Line,
    balances,
    chain_entries,
    fold_hot_accounts,
    post_entry,
    post_pending,
    reserve,
    void_pending,
)

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAB, PROJECT = UUID(int=1), UUID(int=2)
EXPERTS = (UUID(int=3), UUID(int=4))

STRIPE, BANK, FEE, COST = (
    chart.stripe_clearing(),
    chart.bank(),
    chart.platform_fee(),
    chart.stripe_fees(),
)
FREE, BUDGET, REFUND = (
    chart.lab_funding(LAB),
    chart.project_budget(PROJECT, LAB),
    chart.refund_to(LAB),
)
DISPUTED, LOSS = chart.dispute_clearing(LAB), chart.dispute_loss()
ACCOUNTS = [STRIPE, BANK, FEE, COST, FREE, BUDGET, REFUND, DISPUTED, LOSS]
for _one in EXPERTS:
    ACCOUNTS += [
        chart.owed_to(_one),
        chart.held_for(_one),
        chart.in_transit_to(_one),
        chart.connected_balance(_one),
        chart.receivable_from(_one),
    ]

# What the books call a credit account, in the model's own words.
OWES = {
    *(FEE, FREE, BUDGET, REFUND),
    *(kind(one) for one in EXPERTS for kind in (chart.owed_to, chart.held_for)),
    *(chart.in_transit_to(one) for one in EXPERTS),
}
MAY_BE_NEGATIVE = {STRIPE, BANK, FEE, COST, DISPUTED, LOSS} | {
    chart.connected_balance(one) for one in EXPERTS
}


@dataclass(slots=True)
class Purse:
    """The same money in plain numbers: what there is, and what is promised."""

    held: Counter[AccountRef] = field(default_factory=Counter)
    promises: dict[str, list[Line]] = field(default_factory=dict)

    @staticmethod
    def change(account: AccountRef, line: Line) -> int:
        """What a line does to an account, on its own side."""
        grows = line.credit if account in OWES else line.debit
        return line.amount_minor if account == grows else -line.amount_minor

    def spendable(self, account: AccountRef) -> int:
        """What could still be taken from an account."""
        taken = sum(
            min(self.change(account, line), 0)
            for lines in self.promises.values()
            for line in lines
            if account in (line.debit, line.credit)
        )
        return self.held[account] + taken

    def can(self, lines: list[Line]) -> bool:
        """Whether every account that must not be overdrawn has enough for all lines."""
        wanted: Counter[AccountRef] = Counter()
        for line in lines:
            for account in (line.debit, line.credit):
                if account not in MAY_BE_NEGATIVE:
                    wanted[account] += max(-self.change(account, line), 0)
        return all(self.spendable(one) >= amount for one, amount in wanted.items() if amount)

    def move(self, lines: list[Line]) -> None:
        """Money goes where the lines say."""
        for line in lines:
            for account in (line.debit, line.credit):
                self.held[account] += self.change(account, line)


AMOUNT = st.integers(1, 400)
WHO = st.sampled_from(EXPERTS)
PART = st.integers(1, 100)


class Money(RuleBasedStateMachine):
    """Everything that happens to money between a lab's payment and an expert's bank."""

    session: ClassVar[Session]

    def __init__(self) -> None:
        super().__init__()
        self.undo = self.session.begin_nested()
        self.purse = Purse()
        self.number = 0
        self.week: dict[str, list[Line]] = {}
        self.payouts: dict[str, list[Line]] = {}
        self.disputes: dict[str, list[Line]] = {}

    def teardown(self) -> None:
        """The books hold, and are as they were before."""
        assert violations(self.session) == []
        self.undo.rollback()
        self.session.expire_all()

    # How a step is taken on both sides ------------------------------------------------------------

    def key(self, what: str) -> str:
        self.number += 1
        return f"{what}:{self.number}"

    def post(self, what: str, *lines: Line) -> bool:
        """Move money on both sides; whether there was enough."""
        told, key = list(lines), self.key(what)
        try:
            post_entry(self.session, key=key, kind=what, lines=told, at=AT)
        except FloorBreached:
            assert not self.purse.can(told), f"{what} was refused with money there"
            return False
        assert self.purse.can(told), f"{what} went through without money"
        self.purse.move(told)
        return True

    def promise(self, what: str, *lines: Line) -> str | None:
        """Promise money on both sides; the key of the promise."""
        told, key = list(lines), self.key(what)
        try:
            reserve(self.session, key=key, kind=what, lines=told, at=AT)
        except FloorBreached:
            assert not self.purse.can(told), f"{what} was refused with money there"
            return None
        assert self.purse.can(told), f"{what} went through without money"
        self.purse.promises[key] = told
        return key

    def keep(self, key: str, *lines: Line) -> None:
        """Post a promise, or part of it; the rest is free again."""
        told = list(lines)
        post_pending(self.session, key, key=f"{key}:kept", lines=told, at=AT)
        del self.purse.promises[key]
        self.purse.move(told)

    def let_go(self, key: str) -> None:
        """End a promise without moving anything."""
        void_pending(self.session, key, key=f"{key}:over", at=AT)
        del self.purse.promises[key]

    # What happens ---------------------------------------------------------------------------------

    @rule(amount=AMOUNT, fee=st.integers(0, 9))
    def fund(self, amount: int, fee: int) -> None:
        lines = [Line(STRIPE, FREE, amount)]
        self.post("fund", *lines, *([Line(COST, FREE, fee)] if fee else []))

    @rule(amount=AMOUNT)
    def commit_to_project(self, amount: int) -> None:
        self.post("commit", Line(FREE, BUDGET, amount))

    @rule(who=WHO, amount=AMOUNT, fee=st.integers(1, 40))
    def reserve_week(self, who: UUID, amount: int, fee: int) -> None:
        lines = [Line(BUDGET, chart.held_for(who), amount), Line(BUDGET, FEE, fee)]
        key = self.promise("week", *lines)
        if key is not None:
            self.week[key] = lines

    @precondition(lambda self: self.week)
    @rule(which=st.integers(0), part=PART)
    def earn(self, which: int, part: int) -> None:
        key = sorted(self.week)[which % len(self.week)]
        whole = self.week.pop(key)
        lines = [
            Line(one.debit, one.credit, amount)
            for one in whole
            if (amount := one.amount_minor * part // 100)
        ]
        if lines:
            self.keep(key, *lines)
        else:
            self.let_go(key)

    @rule(who=WHO, amount=AMOUNT)
    def approve(self, who: UUID, amount: int) -> None:
        self.post("approve", Line(chart.held_for(who), chart.owed_to(who), amount))

    @rule(who=WHO, amount=AMOUNT)
    def withhold(self, who: UUID, amount: int) -> None:
        self.post("withhold", Line(chart.held_for(who), BUDGET, amount))

    @rule(who=WHO, amount=AMOUNT)
    def open_payout(self, who: UUID, amount: int) -> None:
        lines = [
            Line(chart.owed_to(who), chart.in_transit_to(who), amount),
            Line(chart.connected_balance(who), STRIPE, amount),
        ]
        key = self.promise("payout", *lines)
        if key is not None:
            self.payouts[key] = lines

    @precondition(lambda self: self.payouts)
    @rule(which=st.integers(0), is_sent=st.booleans())
    def answer(self, which: int, *, is_sent: bool) -> None:
        key = sorted(self.payouts)[which % len(self.payouts)]
        lines = self.payouts.pop(key)
        if is_sent:
            self.keep(key, *lines)
        else:
            self.let_go(key)

    @rule(who=WHO, amount=AMOUNT)
    def pay(self, who: UUID, amount: int) -> None:
        self.post("pay", Line(chart.in_transit_to(who), chart.connected_balance(who), amount))

    @rule(who=WHO, amount=AMOUNT)
    def give_back(self, who: UUID, amount: int) -> None:
        back, on_its_way = chart.connected_balance(who), chart.in_transit_to(who)
        self.post("return", Line(back, on_its_way, amount))

    @rule(who=WHO, amount=AMOUNT, fee=st.integers(1, 40))
    def claw_back(self, who: UUID, amount: int, fee: int) -> None:
        self.post(
            "clawback", Line(chart.receivable_from(who), BUDGET, amount), Line(FEE, BUDGET, fee)
        )

    @rule(who=WHO, amount=AMOUNT)
    def recover(self, who: UUID, amount: int) -> None:
        self.post("recover", Line(chart.owed_to(who), chart.receivable_from(who), amount))

    @rule(amount=AMOUNT)
    def refund(self, amount: int) -> None:
        key = self.promise("refund", Line(FREE, REFUND, amount))
        if key is not None:
            self.keep(key, Line(FREE, REFUND, amount))
            self.post("refund_left", Line(REFUND, STRIPE, amount))

    @rule(amount=AMOUNT)
    def dispute(self, amount: int) -> None:
        self.post("taken", Line(DISPUTED, STRIPE, amount))
        part = min(amount, max(self.purse.spendable(FREE), 0))
        if part:
            key = self.promise("withheld", Line(FREE, DISPUTED, part))
            assert key is not None
            self.disputes[key] = [Line(FREE, DISPUTED, part)]

    @precondition(lambda self: self.disputes)
    @rule(which=st.integers(0), is_won=st.booleans())
    def decide_dispute(self, which: int, *, is_won: bool) -> None:
        key = sorted(self.disputes)[which % len(self.disputes)]
        (line,) = self.disputes.pop(key)
        if is_won:
            self.let_go(key)
            self.post("won", Line(STRIPE, DISPUTED, line.amount_minor))
        else:
            self.keep(key, line)

    @rule()
    def keep_books(self) -> None:
        fold_hot_accounts(self.session)
        chain_entries(self.session)

    @invariant()
    def both_sides_say_the_same(self) -> None:
        for account, found in balances(self.session, ACCOUNTS).items():
            assert found.posted_minor == self.purse.held[account], str(account)
            assert found.available_minor == self.purse.spendable(account), str(account)


def test_money_is_where_a_model_in_plain_numbers_has_it(db: Session) -> None:
    Money.session = db
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
