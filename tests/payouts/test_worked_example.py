"""The books of one lab's first weeks, entry by entry, to the cent.

Source: the worked example of the payouts design, section 3.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from payouts import chart
from payouts.chart import AccountRef, Code
from payouts.ledger import (
    Line,
    balance,
    post_entry,
    post_pending,
    reserve,
    trial_balance,
)
from payouts.models import JournalEntry
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
    post((chart.owed_to(E1), chart.reserve_of(E1), fee_minor(14_017, 500)))
    for expert, sent in ((E1, 13_316), (E2, 82_538), (E3, 19_000)):
        assert balance(db, chart.owed_to(expert)).available_minor == sent
        post(
            (chart.owed_to(expert), chart.in_transit_to(expert), sent),
            (chart.connected_balance(expert), CLEARING, sent),
        )
    for expert, paid in ((E1, 13_316), (E2, 82_538)):
        post((chart.in_transit_to(expert), chart.connected_balance(expert), paid))
    post((chart.connected_balance(E2), chart.in_transit_to(E2), 82_538))


def posted(db: Session, accounts: Sequence[AccountRef]) -> list[int]:
    return [balance(db, account).posted_minor for account in accounts]


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
