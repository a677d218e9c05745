"""Labs are told before a budget ends, and experts what work on a project came to an hour."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_earning
from market.events import EventRow
from market.fundings.actions import warn_of_budgets
from market.fundings.rules import budget_state
from market.offers.models import Offer
from market.projects.actions import allocate_budget
from market.projects.models import Project
from market.settings import Settings, in_force
from market.treasury.actions import hold_policy
from market.wages.queries import Wage
from payouts import chart
from payouts.chart import project_budget
from payouts.ledger import Line, balance, post_entry
from payouts.money import Money
from tests.factories import (
    AT,
    give_money,
    make_caller,
    make_expert,
    make_project,
    make_task,
)
from tests.market.earned import end_offer, make_active_offer, work_on

HOUR = 3600
DAY_S = 24 * HOUR


def told(db: Session) -> list[tuple[str, UUID, UUID | None]]:
    """What was said of budgets, in order."""
    wanted = select(EventRow).where(EventRow.type.in_(("budget.low", "budget.exhausted")))
    rows = db.scalars(wanted.order_by(EventRow.id))
    return [(str(row.type), row.subject_id, row.organisation_id) for row in rows]


def worked(db: Session, project: Project, seconds: int, *, capped_s: int = 0) -> Offer:
    """An hour at 22 dollars a new expert's work, credited."""
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    work_on(db, offer, AT, seconds, capped_s=capped_s)
    offer.accepted_at = AT - timedelta(hours=5)
    offer.ended_at = AT + timedelta(seconds=seconds)
    end_offer(db, offer)
    accrue_earning(db, offer.id, at=AT)
    return offer


def leave(db: Session, project: Project, free_minor: int) -> None:
    """Spend what the project has, but for an amount."""
    budget = project_budget(project.id, project.organisation_id, project.currency)
    rest = balance(db, budget).available_minor - free_minor
    line = Line(budget, chart.platform_fee(project.currency), rest)
    post_entry(db, key=f"spent:{project.id}:{free_minor}", kind="test", lines=[line], at=AT)


def warn(db: Session) -> list[UUID]:
    return warn_of_budgets(db, last_s=DAY_S, at=AT + timedelta(hours=1))


def test_a_lab_is_told_once_that_a_budget_is_low_and_once_that_it_is_used_up(db: Session) -> None:
    project = make_project(db, state="live")
    lab = project.organisation_id
    worked(db, project, 2 * HOUR)
    assert warn(db) == []
    # A day cost 44 dollars and a fifth on top.
    leave(db, project, 5_281)
    assert warn(db) == []
    leave(db, project, 5_280)
    assert (warn(db), warn(db)) == ([project.id], [])
    leave(db, project, 0)
    assert (warn(db), warn(db)) == ([project.id], [])
    assert told(db) == [("budget.low", project.id, lab), ("budget.exhausted", project.id, lab)]


def test_money_that_comes_in_lets_a_lab_be_told_again(db: Session) -> None:
    project = make_project(db, state="live")
    worked(db, project, 2 * HOUR)
    leave(db, project, 0)
    warn(db)
    for number, amount in enumerate((1_000, 100_000), start=1):
        give_money(db, project.organisation_id, amount)
        allocate_budget(db, project.id, Money(amount, "USD"), key=f"more:{number}", at=AT)
        # It is still low after the first: better than before, which alarms nobody.
        assert warn(db) == []
    db.refresh(project)
    assert project.budget_warned is None
    leave(db, project, 5_000)
    warn(db)
    assert [kind for kind, _, _ in told(db)] == ["budget.exhausted", "budget.low"]


def test_a_project_at_rest_alarms_nobody(db: Session) -> None:
    for state in ("draft", "paused", "draining"):
        leave(db, make_project(db, state=state), 0)
    quiet = make_project(db, state="live")
    leave(db, quiet, 1)
    assert warn(db) == []


@pytest.mark.parametrize(
    ("free", "spent", "days", "state"),
    [
        (0, 0, 1.0, "exhausted"),
        (-5, 10, 1.0, "exhausted"),
        (1, 0, 1.0, None),
        (100, 100, 1.0, "low"),
        (101, 100, 1.0, None),
        (300, 100, 3.0, "low"),
    ],
)
def test_a_budget_is_low_by_what_a_day_costs(
    free: int, spent: int, days: float, state: str | None
) -> None:
    assert budget_state(free, spent, days) == state


def test_the_least_payout_is_what_whoever_operates_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Settings(database_url="", secret_key="", payout_minimum_minor=2_500)
    monkeypatch.setattr(in_force, "_settings", kept)
    assert hold_policy().least_minor == 2_500


def test_the_wage_of_a_project_counts_every_minute_and_is_shown_to_experts(
    db: Session, web: TestClient[Any]
) -> None:
    project = make_project(db, state="live")
    expert = make_caller(db, web, Part.EXPERT)
    path = f"/v1/projects/prj_{project.id.hex}/effective-wage"
    worked(db, project, 2 * HOUR)
    worked(db, project, HOUR)
    db.commit()
    nobody = expert.get(path).json()
    assert (nobody["minor_per_hour"], nobody["experts"]) == (None, None)
    # Half of this hour lies beyond its cap, and counts as time all the same.
    worked(db, project, HOUR, capped_s=HOUR // 2)
    db.commit()
    found = expert.get(path).json()
    assert (found["experts"], found["seconds"], found["pay_minor"]) == (3, 4 * HOUR, 7_700)
    assert (found["minor_per_hour"], found["currency"]) == (1_925, "USD")
    lab = make_caller(db, web, Part.LAB)
    db.commit()
    assert lab.get(path).status_code == 403
    assert expert.get(f"/v1/projects/prj_{'0' * 31}1/effective-wage").status_code == 404


def test_an_hour_s_wage_is_rounded_to_the_nearest_unit() -> None:
    assert Wage("USD", 3, 3600, 100).minor_per_hour == 100
    assert Wage("USD", 3, 7200, 101).minor_per_hour == 50
    assert Wage("USD", 3, 10_800, 200).minor_per_hour == 67
