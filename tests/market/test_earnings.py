"""From time to pay, to the cent and once."""

import csv
import io
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import database, new_id
from market.earnings.actions import accrue_earning, accrue_submission
from market.earnings.jobs import credit_earning, credit_time
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.earnings.rules import Line, OfferNotOver, Stretch, plain_cell, priced, week_of
from market.events import Event, EventRow, emit
from market.offers.models import Offer
from market.pay_tiers.actions import assign_tier
from market.projects.models import Project
from market.work.models import TimeEntry
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance, void_pending
from payouts.pay import RateSpan, pay_minor
from tests.factories import AT, make_caller, make_expert, make_project, make_task
from tests.market.earned import end_offer, hand_in, make_active_offer, work_on

HOUR = 3600


def owed(db: Session, expert_id: UUID) -> int:
    """What an expert has earned, approved or not."""
    both = (chart.owed_to(expert_id), chart.held_for(expert_id))
    return sum(balance(db, one).posted_minor for one in both)


def fees(db: Session) -> int:
    return balance(db, chart.platform_fee()).posted_minor


def budget(db: Session, project: Project) -> tuple[int, int]:
    """What a project's budget comes to, and how much of it is promised."""
    found = balance(db, chart.project_budget(project.id, project.organisation_id))
    return found.posted_minor, found.pending_debit_minor


def assert_books_hold(db: Session) -> None:
    assert violations(db) == []
    assert unbacked_lines(db) == []


def make_active(db: Session, tier: str = "T1", **terms: Any) -> tuple[Project, Offer]:
    expert = make_expert(db, tier=tier, at=AT - timedelta(days=30))
    project = make_project(db, **terms)
    return project, make_active_offer(db, project, make_task(db, project), expert.id)


def test_time_is_paid_at_the_tiers_rate_and_the_rest_of_the_reservation_is_free(
    db: Session,
) -> None:
    project, offer = make_active(db)
    work_on(db, offer, AT, 2 * HOUR + 600)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert (earning.seconds, earning.rate_minor_per_hour) == (7800, 2200)
    assert (earning.pay_minor, earning.fee_minor) == (4767, 953)
    assert earning.week == date(2026, 3, 2)
    assert owed(db, offer.expert_id) == 4767
    assert fees(db) == 953
    assert budget(db, project) == (1_000_000 - 5720, 0)
    assert_books_hold(db)


@pytest.mark.parametrize(
    ("tier", "seconds", "pay", "fee"),
    [
        ("T1", 7800, 4767, 953),
        ("T2", 11100, 9250, 1850),
        ("T3", 26730, 70538, 14108),
        ("T4", 6000, 25000, 5000),
    ],
)
def test_the_worked_example_of_the_books_comes_out_to_the_cent(
    db: Session, tier: str, seconds: int, pay: int, fee: int
) -> None:
    _, offer = make_active(db, tier=tier, cap_s=10 * HOUR)
    work_on(db, offer, AT, seconds)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert (earning.pay_minor, earning.fee_minor) == (pay, fee)


def test_crediting_twice_credits_once(db: Session) -> None:
    _, offer = make_active(db)
    work_on(db, offer, AT, HOUR)
    submission = hand_in(db, offer)
    credit_earning(str(submission.id))
    credit_earning(str(submission.id))
    credit_time(str(offer.id))
    lines = db.scalars(select(Earning).where(Earning.offer_id == offer.id)).all()
    assert [line.pay_minor for line in lines] == [2200]
    assert lines[0].submission_id == submission.id
    assert owed(db, offer.expert_id) == 2200
    told = db.scalars(select(EventRow).where(EventRow.type == Event.EARNING_ACCRUED)).all()
    assert [row.person_id for row in told] == [offer.expert_id]


def test_rejected_work_is_paid_for_its_time(db: Session, react: Callable[[], list[str]]) -> None:
    _, offer = make_active(db)
    work_on(db, offer, AT, HOUR)
    submission = hand_in(db, offer)
    submission.state = "in_review"
    db.flush()
    submission.state, submission.decided_at = "rejected", AT
    db.flush()
    emit(db, Event.VERDICT_RECORDED, submission.id, at=AT)
    db.commit()
    assert "credit_earning" in react()
    assert owed(db, offer.expert_id) == 2200


def test_time_given_back_without_a_submission_is_paid(
    db: Session, react: Callable[[], list[str]]
) -> None:
    project, offer = make_active(db)
    work_on(db, offer, AT, 900)
    end_offer(db, offer, "released")
    emit(db, Event.OFFER_RELEASED, offer.id, at=AT)
    db.commit()
    assert "credit_time" in react()
    assert owed(db, offer.expert_id) == 550
    assert budget(db, project) == (1_000_000 - 660, 0)


def test_an_offer_without_a_second_of_work_gives_all_its_money_back(db: Session) -> None:
    project, offer = make_active(db)
    end_offer(db, offer, "abandoned")
    assert accrue_earning(db, offer.id, at=AT) == []
    assert accrue_earning(db, offer.id, at=AT) == []
    assert budget(db, project) == (1_000_000, 0)


def test_a_second_that_is_worth_nothing_is_listed_and_keeps_no_money(db: Session) -> None:
    project, offer = make_active(db, rate_minor_per_hour=1000)
    work_on(db, offer, AT, 1)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert (earning.seconds, earning.pay_minor, earning.fee_minor) == (1, 0, 0)
    assert budget(db, project) == (1_000_000, 0)
    assert_books_hold(db)


def test_work_that_goes_on_earns_nothing_yet(db: Session) -> None:
    _, offer = make_active(db)
    work_on(db, offer, AT, HOUR)
    with pytest.raises(OfferNotOver):
        accrue_earning(db, offer.id, at=AT)


def test_a_promotion_counts_from_its_second_on(db: Session) -> None:
    _, offer = make_active(db, cap_s=4 * HOUR)
    assign_tier(
        db, offer.expert_id, "T2", at=AT + timedelta(seconds=HOUR + 1), reason="did well in March"
    )
    work_on(db, offer, AT, 2 * HOUR)
    end_offer(db, offer)
    lines = accrue_earning(db, offer.id, at=AT)
    assert [(one.rate_minor_per_hour, one.seconds) for one in lines] == [(2200, 3601), (3000, 3599)]
    assert sum(one.pay_minor for one in lines) == 2201 + 2999
    assert_books_hold(db)


def test_time_at_no_tiers_rate_is_paid_at_the_rate_of_the_terms(db: Session) -> None:
    expert = make_expert(db, tier="T2", at=AT + timedelta(minutes=30))
    project = make_project(db)
    offer = make_active_offer(
        db, project, make_task(db, project), expert.id, rate_minor_per_hour=2500
    )
    work_on(db, offer, AT, HOUR)
    end_offer(db, offer)
    lines = accrue_earning(db, offer.id, at=AT)
    assert [(one.rate_minor_per_hour, one.seconds) for one in lines] == [(2500, 1800), (3000, 1800)]


def test_a_demotion_never_touches_work_that_was_accepted(db: Session) -> None:
    _, offer = make_active(db, tier="T3")
    assign_tier(db, offer.expert_id, "T1", at=AT + timedelta(minutes=1), reason="from next week")
    work_on(db, offer, AT + timedelta(minutes=10), HOUR)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert earning.rate_minor_per_hour == 9500


def test_a_projects_own_rate_is_the_one_of_the_terms(db: Session) -> None:
    expert = make_expert(db, tier="T4", at=AT - timedelta(days=1))
    project = make_project(db, rate_minor_per_hour=5000)
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    project.rate_minor_per_hour = 9000
    work_on(db, offer, AT, HOUR)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert (earning.rate_minor_per_hour, earning.pay_minor) == (5000, 5000)


def test_time_beyond_a_cap_is_not_paid(db: Session) -> None:
    _, offer = make_active(db, cap_s=HOUR)
    work_on(db, offer, AT, 2 * HOUR, capped_s=HOUR)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert earning.seconds == HOUR


def test_a_week_ends_with_sunday_by_utc(db: Session) -> None:
    _, offer = make_active(db)
    sunday_night = datetime(2026, 3, 8, 23, 30, tzinfo=UTC)
    work_on(db, offer, sunday_night, HOUR)
    end_offer(db, offer)
    lines = accrue_earning(db, offer.id, at=AT)
    assert [(one.week, one.seconds) for one in lines] == [
        (date(2026, 3, 2), 1800),
        (date(2026, 3, 9), 1800),
    ]
    # Half a week's cents each: 1100 and 1100, with the fee of each line.
    assert [(one.pay_minor, one.fee_minor) for one in lines] == [(1100, 220), (1100, 220)]


def test_time_that_a_person_granted_later_is_rounded_with_the_rest(db: Session) -> None:
    project, offer = make_active(db)
    work_on(db, offer, AT, 1000)
    submission = hand_in(db, offer)
    (first,) = accrue_submission(db, submission.id, at=AT)
    assert first.seconds == 1000
    starts_at = AT + timedelta(hours=1)
    db.add(
        TimeEntry(
            session_id=None,
            offer_id=offer.id,
            expert_id=offer.expert_id,
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            during=Range(starts_at, starts_at + timedelta(seconds=500), bounds="[)"),
            seconds=500,
            capped_s=0,
            recorded_at=starts_at,
            source="granted",
            decision_id=new_id(),
        )
    )
    db.flush()
    (second,) = accrue_submission(db, submission.id, at=AT)
    assert (second.seconds, second.part) == (500, 2)
    # Rounded once over both: not 611 and 306.
    assert first.pay_minor + second.pay_minor == pay_minor(1500, 2200) == 917
    assert budget(db, project)[1] == 0
    assert_books_hold(db)


def test_a_rate_that_rose_is_paid_beyond_the_reservation(db: Session) -> None:
    project, offer = make_active(db, cap_s=HOUR)
    assign_tier(db, offer.expert_id, "T4", at=AT + timedelta(minutes=1), reason="a late promotion")
    work_on(db, offer, AT + timedelta(minutes=2), HOUR)
    end_offer(db, offer)
    accrue_earning(db, offer.id, at=AT)
    assert owed(db, offer.expert_id) == 15000
    assert budget(db, project) == (1_000_000 - 18_000, 0)
    assert_books_hold(db)


def test_work_is_paid_in_full_when_the_budget_is_too_small_for_it(db: Session) -> None:
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=1))
    project = make_project(db, budget_minor=2700)
    offer = make_active_offer(db, project, make_task(db, project), expert.id, reserved_s=HOUR)
    assign_tier(db, expert.id, "T2", at=AT + timedelta(minutes=1), reason="a late promotion")
    work_on(db, offer, AT + timedelta(minutes=2), HOUR)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    # 3000 is owed and a fee of 600 would be; the project has 2700 in all.
    assert owed(db, expert.id) == earning.pay_minor == 3000
    assert earning.fee_minor == 440
    assert budget(db, project) == (0, 0)
    assert fees(db) == 440 - 740
    told = db.scalars(select(EventRow).where(EventRow.type == Event.BUDGET_EXHAUSTED)).one()
    assert (told.data["covered_minor"], told.data["waived_minor"]) == (740, 160)
    assert_books_hold(db)


def test_time_is_paid_though_its_reservation_ran_out(db: Session) -> None:
    project, offer = make_active(db)
    void_pending(db, f"offer:{offer.id}", key="expiry", at=AT)
    work_on(db, offer, AT, HOUR)
    end_offer(db, offer)
    (earning,) = accrue_earning(db, offer.id, at=AT)
    assert owed(db, offer.expert_id) == earning.pay_minor == 2200
    assert budget(db, project) == (1_000_000 - 2640, 0)
    assert_books_hold(db)


@given(
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    rate=st.integers(1, 30_000),
)
def test_cutting_time_into_sessions_and_credits_changes_nothing(cuts: list[int], rate: int) -> None:
    at, spans = AT, [RateSpan(rate, AT, None)]
    stretches: list[Stretch] = []
    credited: list[Line] = []
    for seconds in cuts:
        stretches.append(Stretch(at, seconds))
        at += timedelta(seconds=seconds)
        credited += priced(stretches, spans, fee_basis_points=2000, credited=credited)
    assert sum(line.seconds for line in credited) == sum(cuts)
    assert sum(line.pay_minor for line in credited) == pay_minor(sum(cuts), rate)


def test_a_week_begins_on_monday_wherever_the_clock_stands() -> None:
    late = datetime.fromisoformat("2026-03-01T20:00:00-05:00")
    assert week_of(late) == date(2026, 3, 2)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_cell_never_begins_as_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"


def test_an_expert_reads_its_own_lines_and_nobody_elses(db: Session, web: TestClient[Any]) -> None:
    _, other = make_active(db)
    work_on(db, other, AT, HOUR)
    end_offer(db, other)
    accrue_earning(db, other.id, at=AT)
    me = make_caller(db, web, Part.EXPERT)
    expert_offer = make_own_offer(db, me.person_id)
    db.commit()
    items = me.get("/v1/earnings").json()["items"]
    assert [(one["seconds"], one["pay_minor"], one["state"]) for one in items] == [
        (HOUR, 2200, "accrued")
    ]
    assert items[0]["offer_id"] == f"ofr_{expert_offer.id.hex}"
    assert "fee_minor" not in items[0]
    assert me.get("/v1/earnings?week=2026-02-23").json()["items"] == []
    ops = make_caller(db, web, Part.OPS)
    assert len(ops.get("/v1/earnings").json()["items"]) == 2
    lab = make_caller(db, web, Part.LAB)
    assert lab.get("/v1/earnings").status_code == 403


def test_a_statement_lists_every_line_and_runs_no_formula(
    db: Session, web: TestClient[Any]
) -> None:
    me = make_caller(db, web, Part.EXPERT)
    make_own_offer(db, me.person_id, project_name='=HYPERLINK("http://x")')
    db.commit()
    answer = me.get("/v1/earnings.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (line,) = list(csv.DictReader(io.StringIO(answer.text)))
    assert line["project"] == '\'=HYPERLINK("http://x")'
    assert (line["pay"], line["rate_an_hour"], line["seconds"]) == ("22.00", "22.00", "3600")
    assert me.get("/v1/earnings.csv?first=2026-03-09").text.count("\r\n") == 1


def make_own_offer(db: Session, person_id: UUID, *, project_name: str = "project") -> Offer:
    """An hour at the lowest tier, credited to somebody with a key."""
    from market.experts.actions import create_profile
    from market.experts.rules import Claim, Profile

    create_profile(
        db, person_id, Profile(claims=(Claim("chemistry"),)), at=AT - timedelta(days=1), tier="T1"
    )
    project = make_project(db)
    project.name = project_name
    offer = make_active_offer(db, project, make_task(db, project), person_id)
    work_on(db, offer, AT, HOUR)
    end_offer(db, offer)
    accrue_earning(db, offer.id, at=AT)
    return offer


def test_two_workers_at_once_credit_one_offer_once(committed: str) -> None:
    del committed
    with database.begin() as session:
        project, offer = make_active(session)
        work_on(session, offer, AT, HOUR)
        end_offer(session, offer)
    start = threading.Barrier(6)
    failed: list[Exception] = []

    def credit() -> None:
        start.wait()
        try:
            credit_time(str(offer.id))
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=credit) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failed == []
    with database.begin() as session:
        assert owed(session, offer.expert_id) == 2200
        assert budget(session, project) == (1_000_000 - 2640, 0)
        assert_books_hold(session)


def test_two_offers_of_one_expert_are_credited_at_once_to_the_cent(committed: str) -> None:
    del committed
    with database.begin() as session:
        expert = make_expert(session, at=AT - timedelta(days=30))
        projects = [make_project(session) for _ in range(8)]
        offers = []
        for n, project in enumerate(projects):
            task = make_task(session, project)
            offers.append(make_active_offer(session, project, task, expert.id))
            work_on(session, offers[n], AT + timedelta(hours=n), HOUR)
            end_offer(session, offers[n])
    workers = [
        threading.Thread(target=credit_time, args=(str(offer.id),))
        for offer in offers
        for _ in "ab"
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with database.begin() as session:
        assert owed(session, expert.id) == 8 * 2200
        assert_books_hold(session)
