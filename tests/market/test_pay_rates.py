"""What an hour was paid on average: to the cent, by every group, and of one's own alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_earning
from market.earnings.rules import week_of
from market.pay_rates.queries import pay_rates
from market.pay_rates.rules import average_minor
from market.projects.models import Project
from market.verdicts.models import Verdict
from tests.factories import AT, Caller, make_caller, make_expert, make_project, make_task
from tests.market.earned import end_offer, hand_in, make_active_offer, work_on
from tests.market.test_console import visit


def pay(
    db: Session,
    project: Project,
    rate: int,
    seconds: int,
    *,
    is_judged: bool = False,
    at: datetime = AT,
) -> None:
    """An expert's time on a project, worked and credited at a rate of minor units an hour."""
    expert = make_expert(db, at=at - timedelta(days=30))
    task = make_task(db, project, domain=project.domains[0])
    offer = make_active_offer(db, project, task, expert.id, rate_minor_per_hour=rate, at=at)
    work_on(db, offer, at, seconds)
    if is_judged:
        handed = hand_in(db, offer, at=at)
        db.add(
            Verdict(
                submission_id=handed.id,
                organisation_id=offer.organisation_id,
                project_id=offer.project_id,
                task_id=offer.task_id,
                expert_id=offer.expert_id,
                votes=1,
                rejects=1,
                is_accepted=False,
                share=0,
                is_tested=False,
                is_validated=False,
                is_stump=False,
                is_silent=False,
                decided_at=at,
            )
        )
        db.flush()
    else:
        end_offer(db, offer, "released")
    accrue_earning(db, offer.id, at=at + timedelta(days=14))


def pool(db: Session, domain: str, *paid: tuple[int, int]) -> Project:
    """A lab's project on which experts were paid at a rate for so many seconds."""
    project = make_project(db, domains=(domain,), state="live")
    for rate, seconds in paid:
        pay(db, project, rate, seconds)
    return project


def test_37_experts_average_95_dollars_to_the_cent_and_another_pool_30(db: Session) -> None:
    # Around 95.00 in pairs of equal time, and one at 95.00: no two rates alike, times that differ.
    spread = [
        (9_500 + sign * 36 * nth, 1_800 + 100 * nth) for nth in range(1, 19) for sign in (1, -1)
    ]
    dear = pool(db, "chemistry", *spread, (9_500, 1_440))
    pool(db, "search", (2_400, 3_600), (3_600, 3_600))
    found = {one.name: one for one in pay_rates(db, "domain")}
    assert (found["chemistry"].experts, found["chemistry"].minor_per_hour) == (37, 9_500)
    assert (found["search"].experts, found["search"].minor_per_hour) == (2, 3_000)
    (lab,) = pay_rates(db, "lab", organisation_id=dear.organisation_id)
    assert (lab.key, lab.minor_per_hour) == (str(dear.organisation_id), 9_500)
    (project,) = pay_rates(db, "project", organisation_id=dear.organisation_id)
    assert (project.minor_per_hour, project.seconds) == (9_500, lab.seconds)
    assert sum(one.seconds for one in pay_rates(db, "tier")) == lab.seconds + 7_200


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1))
def test_an_average_lies_among_its_rates_and_is_the_nearest_unit(
    paid: list[tuple[int, int]],
) -> None:
    seconds = sum(time for _, time in paid)
    thousandths = sum(rate * time for rate, time in paid)
    # Pay that is exact, so that the average is too, before it is rounded.
    found = average_minor(thousandths, seconds * 3600)
    assert min(rate for rate, _ in paid) <= found <= max(rate for rate, _ in paid)
    assert abs(found * seconds - thousandths) * 2 <= seconds


def test_time_counts_as_measured_when_its_work_has_a_verdict(db: Session) -> None:
    project = make_project(db, state="live")
    pay(db, project, 3_600, 1_000, is_judged=True)
    pay(db, project, 3_600, 500)
    (found,) = pay_rates(db, "project", first=week_of(AT), last=week_of(AT))
    assert (found.seconds, found.measured_s, found.pay_minor) == (1_500, 1_000, 1_500)
    # Where all that was handed in is decided, every paid hour has its measurement.
    decided = make_project(db, state="live")
    for seconds in (3_000, 600):
        pay(db, decided, 3_600, seconds, is_judged=True)
    names = {one.key: one for one in pay_rates(db, "project")}
    assert names[str(decided.id)].measured_s == names[str(decided.id)].seconds == 3_600
    assert pay_rates(db, "project", first=week_of(AT) + timedelta(days=7)) == []


def test_a_lab_reads_its_own_averages_and_ops_those_of_all(
    db: Session, web: TestClient[Any]
) -> None:
    lab, ops = make_caller(db, web, Part.LAB), make_caller(db, web, Part.OPS)
    other = pool(db, "search", (3_000, 3_600)).organisation_id
    mine = make_project(db, lab.organisation_id, domains=("chemistry",), state="live")
    pay(db, mine, 9_500, 3_600)
    db.commit()

    def read(caller: Caller, query: str) -> list[tuple[str, int]]:
        found = caller.get(f"/v1/pay-rates?{query}").json()
        return [(row["name"], row["average_per_hour"]["amount_minor"]) for row in found]

    assert read(lab, "") == [(mine.name, 9_500)]
    assert read(lab, f"by=domain&organisation_id=org_{other.hex}") == [("chemistry", 9_500)]
    assert read(ops, "by=domain") == [("chemistry", 9_500), ("search", 3_000)]
    assert read(ops, f"by=lab&organisation_id=org_{other.hex}")[0][1] == 3_000
    assert ops.get("/v1/pay-rates?by=weather").status_code == 400


def test_ops_see_what_an_hour_costs_on_the_page_of_money(db: Session, web: TestClient[Any]) -> None:
    visit(web, db, Part.OPS)
    project = make_project(db, domains=("chemistry.organic",), state="live")
    # The page tells of the last weeks only.
    lately = datetime.now(UTC) - timedelta(days=15)
    pay(db, project, 9_500, 1_000, is_judged=True, at=lately)
    pay(db, project, 9_500, 1_000, at=lately)
    db.commit()
    shown = web.get("/console/ops/money").text
    assert "95.00\u00a0USD" in shown
    assert "50.0\u00a0%" in shown
