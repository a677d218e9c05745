"""The books of one lab's first weeks, entry by entry, to the cent.

Source: the worked example of the payouts design, section 3.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.chart import AccountRef, Code
from payouts.invariants import violations
from payouts.ledger import (
    Line,
    balance,
    post_entry,
    post_pending,
    reserve,
    reverse_entry,
    trial_balance,
)
from payouts.ledger_models import JournalEntry
from payouts.pay import fee_minor, pay_minor, worst_case_minor

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
FEE_BASIS_POINTS = 2_000

Entries = Callable[..., JournalEntry]

CLEARING = chart.stripe_clearing()
FEES = chart.stripe_fees()
FEE = chart.platform_fee()
LAB_A, LAB_B, P, Q, E1, E2, E3, E4, AUTHORITY = (uuid4() for _ in range(9))
BUDGET_P = chart.project_budget(P, LAB_A)
BUDGET_Q = chart.project_budget(Q, LAB_B)


@pytest.fixture
def post(db: Session) -> Entries:
    """Post lines `(debit, credit, amount)` under a fresh key."""
    numbers = count(1)

    def post(*lines: tuple[AccountRef, AccountRef, int], kind: str = "example") -> JournalEntry:
        return post_entry(
            db,
            key=f"example:{next(numbers)}",
            kind=kind,
            lines=[Line(*line) for line in lines],
            at=AT,
        )

    return post


def work_lines(expert: UUID, seconds: int, rate: int) -> list[tuple[AccountRef, AccountRef, int]]:
    pay = pay_minor(seconds, rate)
    return [
        (BUDGET_P, chart.owed_to(expert), pay),
        (BUDGET_P, FEE, fee_minor(pay, FEE_BASIS_POINTS)),
    ]


def run_the_weeks(db: Session, post: Entries) -> None:
    post((CLEARING, chart.lab_funding(LAB_A), 999_500), (FEES, chart.lab_funding(LAB_A), 500))
    post((chart.lab_funding(LAB_A), BUDGET_P, 600_000))
    pay, fee = worst_case_minor(10 * 3600, 95_00, FEE_BASIS_POINTS)
    assert (pay, fee) == (95_000, 19_000)
    reserve(
        db,
        key="week:E2",
        kind="work",
        lines=[Line(BUDGET_P, chart.owed_to(E2), pay), Line(BUDGET_P, FEE, fee)],
        at=AT,
    )
    assert balance(db, BUDGET_P).available_minor == 600_000 - 114_000
    post(*work_lines(E1, 2 * 3600 + 10 * 60, 22_00))
    post(*work_lines(E1, 3 * 3600 + 5 * 60, 30_00))
    post_pending(
        db,
        "week:E2",
        key="week:E2:paid",
        lines=[Line(*line) for line in work_lines(E2, 7 * 3600 + 25 * 60 + 30, 95_00)],
        at=AT,
    )
    post(*work_lines(E3, 1 * 3600 + 40 * 60, 150_00))
    post((BUDGET_P, chart.owed_to(E2), 12_000), (BUDGET_P, FEE, fee_minor(12_000, 2_000)))
    post((chart.owed_to(E3), chart.tax_withheld(AUTHORITY), fee_minor(25_000, 2_400)))
    post((chart.owed_to(E1), chart.reserve_of(E1), fee_minor(14_017, 500)), kind="reserve")
    for expert, sent in ((E1, 13_316), (E2, 82_538), (E3, 19_000)):
        assert balance(db, chart.owed_to(expert)).available_minor == sent
        post(
            (chart.owed_to(expert), chart.in_transit_to(expert), sent),
            (chart.connected_balance(expert), CLEARING, sent),
        )
    for expert, paid in ((E1, 13_316), (E2, 82_538)):
        post((chart.in_transit_to(expert), chart.connected_balance(expert), paid))
    post((chart.connected_balance(E2), chart.in_transit_to(E2), 82_538))


def posted(db: Session, *accounts: AccountRef) -> list[int]:
    return [balance(db, account).posted_minor for account in accounts]


def dispute_opens(post: Entries) -> None:
    """Lab B's card payment: 500.00 less 14.80, 300.00 given to Q, 120.00 of it spent; disputed."""
    post((CLEARING, chart.lab_funding(LAB_B), 48_520), (FEES, chart.lab_funding(LAB_B), 1_480))
    post((chart.lab_funding(LAB_B), BUDGET_Q, 30_000))
    post((BUDGET_Q, chart.owed_to(E4), 10_000), (BUDGET_Q, FEE, 2_000))
    post((chart.dispute_clearing(LAB_B), CLEARING, 50_000), (FEES, CLEARING, 1_500))


def test_the_weeks_end_with_the_trial_balance_of_the_design(db: Session, post: Entries) -> None:
    run_the_weeks(db, post)
    rows = trial_balance(db)
    assert {row.code: row.debit_minor for row in rows if row.debit_minor} == {
        Code.STRIPE_CLEARING: 884_646,
        Code.CONNECTED_BALANCE: 101_538,
        Code.STRIPE_FEES: 500,
    }
    assert {row.code: row.credit_minor for row in rows if row.credit_minor} == {
        Code.LAB_FUNDING: 400_000,
        Code.PROJECT_ESCROW: 454_134,
        Code.PLATFORM_FEE: 24_311,
        Code.TAX_WITHHELD: 6_000,
        Code.RESERVE: 701,
        Code.PAYOUT_IN_TRANSIT: 101_538,
    }
    assert sum(row.debit_minor for row in rows) == 986_684
    assert sum(row.credit_minor for row in rows) == 986_684
    assert violations(db) == []


def test_a_payout_that_bounced_is_with_stripe_again_and_still_on_its_way(
    db: Session, post: Entries
) -> None:
    run_the_weeks(db, post)
    assert posted(db, chart.connected_balance(E2), chart.in_transit_to(E2)) == [82_538, 82_538]
    assert posted(db, chart.connected_balance(E1), chart.in_transit_to(E1)) == [0, 0]
    assert posted(db, chart.connected_balance(E3), chart.in_transit_to(E3)) == [19_000, 19_000]


def test_a_lost_dispute_takes_free_money_first_then_budget_then_ours(
    db: Session, post: Entries
) -> None:
    dispute_opens(post)
    clearing = chart.dispute_clearing(LAB_B)
    post(
        (chart.lab_funding(LAB_B), clearing, 20_000),
        (BUDGET_Q, clearing, 18_000),
        (chart.dispute_loss(), clearing, 12_000),
    )
    assert posted(db, chart.lab_funding(LAB_B), BUDGET_Q, clearing) == [0, 0, 0]
    assert posted(db, chart.dispute_loss(), FEES, CLEARING) == [12_000, 2_980, -2_980]
    # The expert does not bear it.
    assert posted(db, chart.owed_to(E4)) == [10_000]
    assert violations(db) == []


def test_a_won_dispute_costs_its_fee_only(db: Session, post: Entries) -> None:
    dispute_opens(post)
    post((CLEARING, chart.dispute_clearing(LAB_B), 50_000))
    assert posted(db, chart.dispute_clearing(LAB_B), FEES, CLEARING) == [0, 2_980, 47_020]
    assert posted(db, chart.lab_funding(LAB_B), BUDGET_Q) == [20_000, 18_000]
    assert violations(db) == []


def test_fraud_found_after_the_transfer_is_clawed_back_and_reversed(
    db: Session, post: Entries
) -> None:
    run_the_weeks(db, post)
    owes = chart.receivable_from(E3)
    post(
        (owes, BUDGET_P, 19_000),
        (chart.tax_withheld(AUTHORITY), BUDGET_P, 6_000),
        (FEE, BUDGET_P, 5_000),
    )
    assert posted(db, BUDGET_P, owes, chart.tax_withheld(AUTHORITY)) == [484_134, 19_000, 0]
    assert violations(db) == []
    # The money is still on the expert's balance at Stripe, so that the transfer can be reversed.
    post(
        (CLEARING, chart.connected_balance(E3), 19_000),
        (chart.in_transit_to(E3), owes, 19_000),
    )
    assert posted(db, owes, chart.connected_balance(E3), chart.in_transit_to(E3)) == [0, 0, 0]
    assert posted(db, CLEARING) == [884_646 + 19_000]
    assert violations(db) == []


def test_a_reserve_is_released_by_taking_its_entry_back(db: Session, post: Entries) -> None:
    run_the_weeks(db, post)
    reserved = db.scalars(select(JournalEntry).where(JournalEntry.kind == "reserve")).one()
    reverse_entry(db, reserved.key, key="reserve:released", at=AT)
    assert posted(db, chart.reserve_of(E1), chart.owed_to(E1)) == [0, 701]
    assert violations(db) == []


def test_a_refund_is_on_its_way_before_it_is_final(db: Session, post: Entries) -> None:
    run_the_weeks(db, post)
    post((chart.lab_funding(LAB_A), chart.refund_to(LAB_A), 150_000))
    assert posted(db, chart.lab_funding(LAB_A), chart.refund_to(LAB_A)) == [250_000, 150_000]
    post((chart.refund_to(LAB_A), CLEARING, 150_000))
    assert posted(db, chart.refund_to(LAB_A), CLEARING) == [0, 734_646]
    assert violations(db) == []
