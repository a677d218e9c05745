"""Tasks that are asked back: by a time, with a word on what silence means."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.models import Earning
from market.heartbeats.actions import beat
from market.offers.models import Offer
from market.returns.actions import answer_return, ask_back, end_return, withdraw_return
from market.returns.jobs import end_due_returns
from market.returns.models import ReturnRequest
from market.returns.queries import due_requests
from market.returns.rules import RETURN_REQUEST, NobodyHolds, ReturnUnfit
from market.states import StateConflict
from market.submissions.actions import save_draft, submit_work
from market.submissions.models import Submission
from market.tasks.models import TaskSlot
from market.work.actions import start_session
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.test_console import come_in, send, token

WHY = "The next wave needs this seat."
DUE = AT + timedelta(days=2)


def held(db: Session, *, works: bool = True) -> Offer:
    """A task that its expert holds, with its clock running unless told otherwise."""
    project = make_project(db, rate_minor_per_hour=7200)
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    if works:
        began = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
        proven = AT + timedelta(seconds=60)
        beat(db, began.id, expert_id=offer.expert_id, seq=1, is_active=True, at=proven)
        save_draft(db, offer.id, expert_id=offer.expert_id, payload={"so": "far"}, at=AT)
    return offer


def asked(db: Session, offer: Offer, silence: str = "return") -> ReturnRequest:
    (made,) = ask_back(db, offer.task_id, reason=WHY, silence=silence, due_at=DUE, at=AT)
    return made


def test_the_database_knows_the_same_moves_of_requests_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, RETURN_REQUEST) == RETURN_REQUEST.pairs()


def test_silence_takes_the_task_back_at_its_time_and_pays_the_minutes(
    db: Session, react: Any
) -> None:
    offer = held(db)
    row = asked(db, offer)
    assert due_requests(db, at=DUE - timedelta(seconds=1), limit=9) == []
    assert end_return(db, row.id, at=DUE - timedelta(seconds=1)) is False
    assert due_requests(db, at=DUE, limit=9) == [row.id]
    assert end_return(db, row.id, at=DUE) is True
    assert (row.state, offer.state) == ("taken_back", "released")
    assert db.get_one(TaskSlot, offer.slot_id).state == "open"
    draft = db.scalars(select(Submission).where(Submission.offer_id == offer.id)).one()
    assert (draft.state, draft.payload) == ("returned", {"so": "far"})
    # The timer may fire twice.
    assert end_return(db, row.id, at=DUE) is False
    db.commit()
    react()
    lines = db.scalars(select(Earning).where(Earning.offer_id == offer.id)).all()
    assert [line.kind for line in lines] == ["hours"]
    # A minute at two minor units a second was proven; what came after it was not.
    assert sum(line.pay_minor for line in lines) == 120


def test_silence_leaves_the_task_where_the_request_said_so(db: Session) -> None:
    offer = held(db)
    row = asked(db, offer, "keep")
    assert end_return(db, row.id, at=DUE) is True
    assert (row.state, offer.state) == ("left", "active")
    # It can be asked for again.
    assert asked(db, offer).id != row.id


@pytest.mark.parametrize("works", [True, False])
def test_its_expert_gives_it_back_or_keeps_it_with_a_reason(db: Session, works: bool) -> None:
    offer = held(db, works=works)
    row = asked(db, offer)
    with pytest.raises(ReturnUnfit):
        answer_return(db, row.id, expert_id=offer.expert_id, keeps=True, reason=" no ", at=AT)
    kept = answer_return(
        db, row.id, expert_id=offer.expert_id, keeps=True, reason="Done within the hour.", at=AT
    )
    assert (kept.state, kept.answer) == ("kept", "Done within the hour.")
    again = asked(db, offer)
    at = AT + timedelta(seconds=60)
    given = answer_return(db, again.id, expert_id=offer.expert_id, keeps=False, at=at)
    assert (given.state, offer.state) == ("returned", "released")
    with pytest.raises(StateConflict):
        answer_return(db, again.id, expert_id=offer.expert_id, keeps=False, at=at)


def test_what_is_handed_in_overtakes_the_request(db: Session) -> None:
    offer = held(db)
    row = asked(db, offer)
    at = AT + timedelta(seconds=60)
    submit_work(db, offer.id, expert_id=offer.expert_id, payload={"a": 1}, at=at)
    assert due_requests(db, at=at, limit=9) == [row.id]
    assert end_return(db, row.id, at=at) is True
    assert (row.state, offer.state) == ("overtaken", "completed")


def test_nobody_is_asked_twice_and_a_request_is_withdrawn(db: Session) -> None:
    offer = held(db)
    row = asked(db, offer)
    with pytest.raises(NobodyHolds):
        asked(db, offer)
    for wrong in (
        {"reason": "short"},
        {"silence": "burn"},
        {"due_at": AT + timedelta(minutes=59)},
        {"due_at": AT + timedelta(days=31)},
    ):
        given: dict[str, Any] = {"reason": WHY, "silence": "keep", "due_at": DUE, **wrong}
        with pytest.raises(ReturnUnfit):
            ask_back(db, offer.task_id, at=AT, **given)
    assert withdraw_return(db, row.id, at=AT).state == "withdrawn"
    assert asked(db, offer).state == "asked"


def test_a_lab_asks_over_http_and_its_expert_answers(db: Session, web: TestClient[Any]) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC)
    project = make_project(db, lab.organisation_id, at=at)
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db).id, at=at)
    db.commit()
    url = f"/v1/tasks/tsk_{offer.task_id.hex}/return-requests"
    body = {"reason": WHY, "due_at": (at + timedelta(days=1)).isoformat()}
    assert make_caller(db, web, Part.LAB).post(url, json=body).status_code == 404
    made = lab.post(url, json=body)
    assert made.status_code == 201, made.text
    (row,) = made.json()["items"]
    assert (row["state"], row["silence"]) == ("asked", "return")
    assert lab.post(url, json=body).json()["code"] == "nobody_holds"
    unfit = lab.post(url, json={**body, "reason": "?"})
    assert (unfit.status_code, unfit.json()["code"]) == (422, "return_unfit")
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    assert [one["id"] for one in expert.get("/v1/return-requests").json()["items"]] == [row["id"]]
    answer = f"/v1/return-requests/{row['id']}/answer"
    other = key_for(db, web, make_expert(db).id, Part.EXPERT)
    assert other.post(answer, json={"keeps": False}).json()["code"] == "return_request_not_found"
    given = expert.post(answer, json={"keeps": False})
    assert (given.status_code, given.json()["state"]) == (200, "returned")
    gone = lab.post(f"/v1/return-requests/{row['id']}/withdraw")
    assert (gone.status_code, gone.json()["code"]) == (409, "state_conflict")


def test_the_sweep_ends_what_is_due(db: Session) -> None:
    offer = held(db)
    row = asked(db, offer)
    db.commit()
    end_due_returns("now")
    db.refresh(row)
    assert row.state == "taken_back"


def test_the_pages_of_both_sides_ask_and_answer(db: Session, web: TestClient[Any]) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC)
    project = make_project(db, lab.organisation_id, at=at)
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db).id, at=at)
    db.commit()
    come_in(web, lab)
    page = f"/console/lab/projects/prj_{project.id.hex}/held"
    form = f"/console/lab/held/tsk_{offer.task_id.hex}/ask"
    csrf = token(web, page)
    refused = send(web, form, csrf, reason="?", silence="return", hours="24")
    assert refused.status_code == 422
    assert "must be 10 to" in refused.text
    sent = send(web, form, csrf, reason=WHY, silence="return", hours="24")
    assert sent.headers["location"].endswith("?said=asked-back")
    assert "Ask no longer" in web.get(page).text
    come_in(web, key_for(db, web, offer.expert_id, Part.EXPERT))
    bench = f"/console/expert/offers/ofr_{offer.id.hex}"
    assert "You are asked to give it back" in web.get("/console/expert").text
    shown = web.get(bench).text
    assert WHY in shown
    row = db.scalars(select(ReturnRequest)).one()
    answer = f"/console/expert/returns/rrq_{row.id.hex}"
    kept = send(web, answer, token(web, bench), answer="keep", reason="Done within the hour.")
    assert kept.headers["location"] == f"{bench}?said=kept"
    come_in(web, make_caller(db, web, Part.OPS))
    assert "Done within the hour." in web.get("/console/ops/held").text
    again = f"/console/ops/held/tsk_{offer.task_id.hex}/ask"
    send(web, again, token(web, "/console/ops/held"), reason=WHY, silence="keep", hours="1")
    waits = db.scalars(select(ReturnRequest).where(ReturnRequest.state == "asked")).one()
    drop = f"/console/ops/held/rrq_{waits.id.hex}/withdraw"
    send(web, drop, token(web, "/console/ops/held"))
    db.refresh(waits)
    assert waits.state == "withdrawn"
