"""Tasks that turn out not to be for their expert: the code that says so, and what it pays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_earning
from market.offers.models import Offer
from market.projects.models import Project
from market.screeners.actions import set_screener, take_screener_code
from market.screeners.rules import ScreenerCodeUnknown, ScreenerNotFound
from market.states import StateConflict
from market.submissions.actions import save_draft, submit_work
from market.submissions.models import Submission
from market.tasks.models import TaskSlot
from market.work.actions import end_session, start_session
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.test_console import come_in, send, token

CODES = ("NOT-FOR-ME-1", "NOT-FOR-ME-2")
RATE = 7200
"""Two minor units a second."""


def screened(db: Session, *, pay_minor: int, worked_s: int = 0) -> Offer:
    """An accepted offer of a project that screens, with some time recorded on it."""
    project = make_project(db, rate_minor_per_hour=RATE)
    set_screener(db, project.id, codes=CODES, pay_minor=pay_minor, at=AT)
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    if worked_s:
        row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
        end_session(db, row.id, expert_id=offer.expert_id, at=AT + timedelta(seconds=worked_s))
    return offer


def paid(db: Session, offer: Offer) -> list[tuple[str, int]]:
    """What an offer comes to, kind by kind; crediting it again adds nothing."""
    lines = accrue_earning(db, offer.id, at=AT + timedelta(hours=1))
    assert accrue_earning(db, offer.id, at=AT + timedelta(hours=2)) == []
    return sorted((line.kind, line.pay_minor) for line in lines)


def test_whoever_is_screened_out_is_paid_for_it_and_the_seat_is_open_again(db: Session) -> None:
    offer = screened(db, pay_minor=150)
    row = take_screener_code(db, offer.id, f" {CODES[1]} ", expert_id=offer.expert_id, at=AT)
    assert (row.state, offer.state) == ("screened_out", "released")
    assert db.get_one(TaskSlot, offer.slot_id).state == "open"
    assert paid(db, offer) == [("screening", 150)]


@pytest.mark.parametrize(
    ("worked_s", "lines"),
    [(60, [("hours", 120), ("screening", 30)]), (80, [("hours", 160)])],
)
def test_the_minutes_count_and_are_never_worth_less_than_they_are(
    db: Session, worked_s: int, lines: list[tuple[str, int]]
) -> None:
    offer = screened(db, pay_minor=150, worked_s=worked_s)
    save_draft(db, offer.id, expert_id=offer.expert_id, payload={"so": "far"}, at=AT)
    row = take_screener_code(
        db, offer.id, CODES[0], expert_id=offer.expert_id, at=AT + timedelta(minutes=2)
    )
    assert row.payload == {"so": "far"}
    assert paid(db, offer) == lines


def test_an_offer_is_bound_by_the_screener_that_it_was_made_under(db: Session) -> None:
    offer = screened(db, pay_minor=150)
    later = AT + timedelta(minutes=1)
    set_screener(db, offer.project_id, codes=(), pay_minor=0, at=later)
    task = make_task(db, db.get_one(Project, offer.project_id), at=later)
    next_one = make_offer(db, task, make_expert(db).id, at=later)
    with pytest.raises(ScreenerNotFound):
        take_screener_code(db, next_one.id, CODES[0], expert_id=next_one.expert_id, at=later)
    with pytest.raises(ScreenerCodeUnknown):
        take_screener_code(db, offer.id, "NOT-A-CODE", expert_id=offer.expert_id, at=later)
    take_screener_code(db, offer.id, CODES[0], expert_id=offer.expert_id, at=later)
    assert paid(db, offer) == [("screening", 150)]


def test_what_was_handed_in_is_not_screened_out(db: Session) -> None:
    offer = screened(db, pay_minor=150)
    start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    ends = AT + timedelta(seconds=60)
    submit_work(db, offer.id, expert_id=offer.expert_id, payload={"a": 1}, at=ends)
    with pytest.raises(StateConflict):
        take_screener_code(db, offer.id, CODES[0], expert_id=offer.expert_id, at=ends)


def test_labs_set_screeners_and_experts_end_by_them_over_http(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC) - timedelta(minutes=1)
    project = make_project(db, lab.organisation_id, at=at)
    db.commit()
    url = f"/v1/projects/prj_{project.id.hex}/screener"
    assert lab.get(url).json()["code"] == "screener_not_found"
    for bad in (
        {"codes": ["abc"], "pay_minor": 1},
        {"codes": ["abcd", "abcd "], "pay_minor": 1},
        {"codes": ["abcd"], "pay_minor": 10_001},
    ):
        assert lab.put(url, json=bad).json()["code"] == "screener_unfit"
    body = {"codes": list(CODES), "pay_minor": 150}
    assert lab.put(url, json=body).status_code == 200
    assert lab.get(url).json()["version"] == 1
    at = datetime.now(UTC)
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db).id, at=at)
    db.commit()
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    told = expert.get(f"/v1/offers/ofr_{offer.id.hex}/screener").json()
    assert told["pay"] == {"amount_minor": 150, "currency": "USD"}
    end = f"/v1/offers/ofr_{offer.id.hex}/screen-out"
    wrong = expert.post(end, json={"code": "NOT-A-CODE"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "screener_code_unknown")
    done = expert.post(end, json={"code": CODES[0]})
    assert (done.status_code, done.json()["state"]) == (200, "screened_out")
    assert db.scalars(select(Submission.state)).one() == "screened_out"


def test_a_lab_sets_its_screener_and_an_expert_ends_by_it_on_their_pages(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, at=datetime.now(UTC))
    db.commit()
    come_in(web, lab)
    page = f"/console/lab/projects/prj_{project.id.hex}/screener"
    assert "does not screen" in web.get(page).text
    refused = send(web, page, token(web, page), codes="abc", pay="1.50")
    assert refused.status_code == 422
    assert "each of 4 to 64 characters" in refused.text
    sent = send(web, page, token(web, page), codes="\n".join(CODES), pay="1.50")
    assert sent.headers["location"] == f"{page}?said=saved"
    assert 'value="1.50"' in web.get(page).text
    at = datetime.now(UTC)
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db).id, at=at)
    db.commit()
    come_in(web, key_for(db, web, offer.expert_id, Part.EXPERT))
    bench = f"/console/expert/offers/ofr_{offer.id.hex}"
    assert "1.50" in web.get(bench).text
    wrong = send(web, f"{bench}/screen-out", token(web, bench), code="NOT-A-CODE")
    assert wrong.status_code == 422
    done = send(web, f"{bench}/screen-out", token(web, bench), code=CODES[0])
    assert done.headers["location"] == "/console/expert?said=screened"
    assert db.scalars(select(Submission.state)).one() == "screened_out"
