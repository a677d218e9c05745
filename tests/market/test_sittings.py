"""Sittings: item by item, once each, to a result that is a verdict only where it can be."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, new_id, now, take_scope
from market.events import Event, EventRow
from market.item_banks.models import BankItem, ItemBank
from market.item_banks.queries import key_of
from market.item_banks.rules import BankMissing
from market.moves import unfolded
from market.predictions.queries import Profiles
from market.qualifications.actions import invite_to_qualify
from market.qualifications.queries import qualification
from market.qualifications.rules import RETAKE_AFTER, QualificationNotFound
from market.sittings.actions import answer_item, end_late, put_item, start_sitting
from market.sittings.jobs import end_sittings
from market.sittings.models import Sitting
from market.sittings.queries import ended_sittings, rechosen, steps_of
from market.sittings.rules import (
    GRACE,
    SITTING_FOR,
    SITTINGS_EACH,
    YEAR,
    AnsweredOtherwise,
    AnswerTooLate,
    AnswerUnfit,
    BankExhausted,
    BankOutOfReach,
    ItemNotOpen,
    SittingHeld,
    SittingNotFound,
    SittingsUsedUp,
    prospects,
    result_of,
    weakened,
)
from market.states import StateConflict
from matching.adaptive import Evidence
from tests.factories import AT, make_caller, make_expert
from tests.market.banked import BANK, CHOICES, knows, make_bank, seat, sit


def all_known(asked: BankItem) -> bool:
    return True


def told_of(db: Session, person_id: UUID) -> float:
    """What the stump model is told of a person's test."""
    return float(Profiles(db, [person_id]).columns([person_id], [BANK])[0, 2])


def none_known(asked: BankItem) -> bool:
    return False


def test_who_knows_passes_and_who_does_not_fails_by_the_interval(db: Session) -> None:
    make_bank(db)
    able, unable = seat(db), seat(db)
    assert 8 <= sit(db, able, all_known) <= 26
    sit(db, unable, none_known)
    found = [qualification(db, one.qualification_id) for one in (able, unable)]
    assert [one.state for one in found] == ["granted", "denied"]
    assert [one.result for one in (able, unable)] == ["passed", "failed"]
    assert able.chance_above is not None
    assert able.chance_above > 0.85
    assert (able.score or 0) >= able.pass_score > (unable.score or 0)
    assert able.score_low is not None
    assert able.score_high is not None
    assert able.score_low <= (able.score or 0) <= able.score_high
    assert found[0].evidence == [f"sit_{able.id.hex}"]
    assert unfolded(db) == []
    told = db.scalars(
        select(EventRow.type).where(EventRow.subject_id == able.id).order_by(EventRow.position)
    ).all()
    assert told == [Event.SITTING_STARTED, Event.SITTING_ENDED]


def test_one_item_is_open_at_a_time_and_an_answer_stands_once_given(db: Session) -> None:
    make_bank(db)
    row = seat(db)
    act = partial(answer_item, db, row.id, person_id=row.person_id, at=AT)
    with pytest.raises(ItemNotOpen):
        act(1, "red")
    put = put_item(db, row.id, person_id=row.person_id, at=AT)
    again = put_item(db, row.id, person_id=row.person_id, at=AT)
    assert put is not None
    assert put is again
    with pytest.raises(AnswerUnfit):
        act(1, "a colour that is not among the choices")
    with pytest.raises(AnswerUnfit):
        act(1, "   ")
    act(1, " RED ")
    assert act(1, " RED ").state == "open"
    with pytest.raises(AnsweredOtherwise):
        act(1, "green")
    with pytest.raises(ItemNotOpen) as refusal:
        act(2, "green")
    assert refusal.value.open_step is None
    second = put_item(db, row.id, person_id=row.person_id, at=AT)
    assert second is not None
    assert (second.step, second.item_id != put.item_id) == (2, True)
    act(2, None)
    assert [one.is_right for one in steps_of(db, row.id)] == [
        "red" in key_of(db, put.item_id).key,
        False,
    ]


def test_nobody_sits_a_test_of_somebody_else_s(db: Session) -> None:
    make_bank(db)
    row, other = seat(db), make_expert(db).id
    with pytest.raises(SittingNotFound):
        put_item(db, row.id, person_id=other, at=AT)
    with pytest.raises(SittingNotFound):
        answer_item(db, row.id, 1, "red", person_id=other, at=AT)
    with pytest.raises(SittingNotFound):
        put_item(db, new_id(), person_id=other, at=AT)
    with pytest.raises(QualificationNotFound):
        start_sitting(db, row.qualification_id, person_id=other, at=AT)
    with pytest.raises(SittingHeld):
        start_sitting(db, row.qualification_id, person_id=row.person_id, at=AT)


def test_what_is_not_answered_in_time_is_not_known_and_the_test_goes_on(db: Session) -> None:
    make_bank(db)
    row = seat(db)
    put = put_item(db, row.id, person_id=row.person_id, at=AT)
    assert put is not None
    late = put.due_at + GRACE + timedelta(seconds=1)
    with pytest.raises(AnswerTooLate):
        answer_item(db, row.id, 1, "red", person_id=row.person_id, at=late)
    assert ended_sittings(db, at=late, limit=9) == [row.id]
    assert not end_late(db, row.id, at=late)
    assert (put.is_right, put.answer) == (False, None)
    with pytest.raises(AnswerTooLate):
        answer_item(db, row.id, 1, "red", person_id=row.person_id, at=late)
    following = put_item(db, row.id, person_id=row.person_id, at=late)
    assert following is not None
    assert following.step == 2


def test_a_sitting_that_is_left_gives_no_verdict(db: Session) -> None:
    make_bank(db)
    began = now() - SITTING_FOR - timedelta(minutes=5)
    row = seat(db, at=began)
    sit(db, row, none_known, at=began, most=3)
    end_sittings("2026-01-01T00:00:00+00:00")
    db.refresh(row)
    assert (row.state, row.result, row.scored <= 3) == ("run_out", "thin", True)
    held = qualification(db, row.qualification_id)
    assert (held.state, held.score) == ("in_progress", None)
    assert put_item(db, row.id, person_id=row.person_id, at=now()) is None


def test_the_same_record_leads_to_the_same_items_to_the_last_one(db: Session) -> None:
    make_bank(db)
    first, second = seat(db), seat(db)
    for n, row in enumerate((first, second, first, second)):
        sit(db, row, knows(0.8, seed=n), most=2)
    # An item that is out of play from here on is out of play when it is chosen again, too.
    asked = {one.item_id for row in (first, second) for one in steps_of(db, row.id)}
    flagged = db.scalars(select(BankItem).where(BankItem.id.not_in(asked)).limit(20)).all()
    for one in flagged:
        db.execute(
            text("update market.bank_item set state = 'flagged' where id = :id"), {"id": one.id}
        )
    for row in (first, second):
        sit(db, row, knows(0.8, seed=9), most=4)
        found = rechosen(db, row)
        assert len(found) == 8
        assert [one.item_id for one in found] == [one.again for one in found]
        put = {one.item_id for one in steps_of(db, row.id)}
        assert not put & {one.id for one in flagged}


def test_no_item_is_shown_to_more_than_its_share_of_takers(db: Session) -> None:
    make_bank(db)
    for n in range(8):
        sit(db, seat(db), knows(0.0, seed=n), most=2)
    bank = db.scalars(select(ItemBank)).one()
    shown = db.scalars(select(BankItem.shown)).all()
    assert (bank.takers, sum(shown)) == (8, 16)
    assert max(shown) <= 0.25 * 8 + 1


def test_a_result_near_the_cut_is_no_verdict_and_further_sittings_add_to_it(db: Session) -> None:
    make_bank(db, 120)
    row = seat(db)
    # Alternating answers keep ability in the middle; the cut is put there, too.
    toggle = iter([n % 2 == 0 for n in range(1000)])
    row.rules = {**row.rules, "cut": 0.0}
    db.flush()
    sit(db, row, lambda asked: next(toggle))
    assert row.result == "borderline"
    held = qualification(db, row.qualification_id)
    assert held.state == "in_progress"
    seen = {one.item_id for one in steps_of(db, row.id)}
    further = start_sitting(db, held.id, person_id=row.person_id, at=AT)
    assert (further.prior_mean, further.number) == (row.mean, 2)
    assert further.prior_sd < 1
    sit(db, further, none_known)
    assert not seen & {one.item_id for one in steps_of(db, further.id)}
    assert further.result == "failed"
    # Both sittings count: the second one alone would have said less.
    assert further.scored > sum(not one.is_pretest for one in steps_of(db, further.id))
    assert qualification(db, held.id).state == "denied"


def test_sittings_are_limited_by_test_and_by_year_and_retakes_wait(db: Session) -> None:
    make_bank(db, 240)
    row = seat(db)
    person, at = row.person_id, AT
    for _ in range(SITTINGS_EACH - 1):
        end_late(db, row.id, at=row.ends_at)
        row = start_sitting(db, row.qualification_id, person_id=person, at=at)
    end_late(db, row.id, at=row.ends_at)
    with pytest.raises(SittingsUsedUp) as used:
        start_sitting(db, row.qualification_id, person_id=person, at=at)
    assert used.value.again_at is None
    db.execute(text("update market.qualification set state = 'expired'"))
    db.expire_all()
    later = AT + timedelta(days=1)
    row = seat(db, person_id=person, at=later)
    for _ in range(2):
        end_late(db, row.id, at=row.ends_at)
        row = start_sitting(db, row.qualification_id, person_id=person, at=later)
    end_late(db, row.id, at=row.ends_at)
    db.execute(text("update market.qualification set state = 'expired'"))
    db.expire_all()
    asked = invite_to_qualify(db, person, domain=BANK, at=later + RETAKE_AFTER)
    with pytest.raises(SittingsUsedUp) as year:
        start_sitting(db, asked.id, person_id=person, at=later + RETAKE_AFTER)
    assert year.value.again_at == (AT + YEAR).isoformat()


def test_a_retake_has_other_items_and_none_are_left_in_a_small_bank(db: Session) -> None:
    make_bank(db, 26)
    row = seat(db)
    sit(db, row, none_known)
    assert row.result == "failed"
    for _ in range(3):
        db.execute(text("update market.qualification set decided_at = :at"), {"at": AT})
        db.expire_all()
        asked = invite_to_qualify(db, row.person_id, domain=BANK, at=AT + RETAKE_AFTER)
        try:
            row = start_sitting(db, asked.id, person_id=row.person_id, at=AT + RETAKE_AFTER)
        except BankExhausted:
            return
        sit(db, row, none_known, at=AT + RETAKE_AFTER)
    pytest.fail("26 items were enough for four tests without one twice")


def test_a_bank_that_is_not_calibrated_gives_pilots_and_no_verdicts(db: Session) -> None:
    make_bank(db, 40, calibrated=False)
    row = seat(db)
    sit(db, row, all_known)
    assert (row.is_pilot, row.result, row.tested) == (True, "pilot", None)
    assert qualification(db, row.qualification_id).state == "in_progress"


def test_there_is_no_sitting_without_a_bank_that_can_tell(db: Session) -> None:
    person = make_expert(db).id
    asked = invite_to_qualify(db, person, domain=BANK, at=AT)
    with pytest.raises(BankMissing):
        start_sitting(db, asked.id, person_id=person, at=AT)
    make_bank(db)
    strict = invite_to_qualify(db, make_expert(db).id, domain=BANK, pass_score=100, at=AT)
    with pytest.raises(BankOutOfReach):
        start_sitting(db, strict.id, person_id=strict.person_id, at=AT)
    passed = start_sitting(db, asked.id, person_id=person, at=AT)
    sit(db, passed, all_known)
    with pytest.raises(StateConflict):
        start_sitting(db, asked.id, person_id=person, at=AT)


def test_the_stump_model_is_told_what_a_test_said_and_less_of_a_thin_one(db: Session) -> None:
    make_bank(db)
    person = make_expert(db, domains=(BANK,)).id
    assert np.isnan(told_of(db, person))
    row = seat(db, person_id=person)
    sit(db, row, all_known)
    assert row.tested is not None
    assert row.mean is not None
    assert told_of(db, person) == row.tested
    assert 0 < row.tested < row.mean
    assert weakened(1.0, 1.4, 1.75) == 0.0
    assert weakened(1.0, 0.1, 1.75) == pytest.approx(1.0, abs=0.02)


def test_what_a_result_means_does_not_hang_on_few_answers() -> None:
    sure = Evidence(2.0, 0.3, 0.99, 12)
    assert result_of(sure, is_pilot=False, least=8) == "passed"
    assert result_of(Evidence(2.0, 0.3, 0.99, 7), is_pilot=False, least=8) == "thin"
    assert result_of(sure, is_pilot=True, least=8) == "pilot"
    assert result_of(Evidence(0.1, 0.5, 0.6, 25), is_pilot=False, least=8) == "borderline"
    assert result_of(Evidence(-1.0, 0.5, 0.15, 25), is_pilot=False, least=8) == "failed"


@pytest.mark.parametrize(
    ("result", "state", "left", "said"),
    [
        ("passed", "granted", 2, "nothing more is needed"),
        ("failed", "denied", 2, "From 2026-03-09"),
        ("borderline", "in_progress", 2, "2 more with other items"),
        ("thin", "in_progress", 1, "Too few items"),
        ("pilot", "in_progress", 1, "being calibrated"),
        ("borderline", "in_progress", 0, "ops decide"),
        ("borderline", "expired", 1, "begins with an invitation"),
    ],
)
def test_a_result_says_what_would_change_it(result: str, state: str, left: int, said: str) -> None:
    told = prospects(result, pass_score=70, state=state, sittings_left=left, decided_at=AT)
    assert said in told.text
    assert told.can_appeal == (state == "denied")


def test_takers_read_their_own_sittings_and_nobody_s_keys(db: Session) -> None:
    make_bank(db)
    mine, other = seat(db), seat(db)
    take_scope(db, Scope("stumpwork_expert", mine.person_id))
    assert list(db.scalars(select(Sitting.id))) == [mine.id]
    for table in ("item_key", "bank_item", "sitting_item", "item_parameter", "item_flag"):
        with pytest.raises(ProgrammingError, match="permission denied"), db.begin_nested():
            db.execute(text(f"select from market.{table}"))
    with pytest.raises(ProgrammingError, match="permission denied"), db.begin_nested():
        db.execute(text("update market.sitting set score = 100"))
    take_scope(db, Scope("stumpwork_platform"))
    assert other.id in set(db.scalars(select(Sitting.id)))
    with pytest.raises(ProgrammingError, match="permission denied"), db.begin_nested():
        db.execute(text("update market.bank_item set prompt = 'another question'"))


def test_a_test_is_sat_over_http_and_read_with_its_interval(
    db: Session, web: TestClient[Any]
) -> None:
    make_bank(db)
    ops, mine, other = (make_caller(db, web, one) for one in (Part.OPS, Part.EXPERT, Part.EXPERT))
    body = {"person_id": f"per_{mine.person_id.hex}", "domain": BANK}
    made = ops.post("/v1/qualifications", json=body).json()
    started = mine.post(f"/v1/qualifications/{made['id']}/sittings")
    assert started.status_code == 201
    address = f"/v1/sittings/{started.json()['id']}"
    held = mine.post(f"/v1/qualifications/{made['id']}/sittings").json()
    assert (held["code"], held["sitting_id"]) == ("sitting_held", started.json()["id"])
    assert other.post(f"{address}/next-item").status_code == 404
    assert other.get(address).status_code == 404
    assert ops.post(f"{address}/next-item").json()["code"] == "scope_missing"
    early = mine.post(f"{address}/answers", json={"step": 1, "answer": "red"})
    assert (early.status_code, early.json()["code"]) == (409, "item_not_open")
    open_ = mine.get(address).json()
    assert (open_["what_would_change_it"], open_["topics"]) == (None, [])
    seen: list[str] = []
    for _ in range(60):
        put = mine.post(f"{address}/next-item").json()
        if put["is_over"]:
            break
        assert set(put) == {"is_over", "step", "prompt", "choices", "asked_at", "due_at"}
        seen.append(put["prompt"])
        number = int(put["prompt"].split()[-1].rstrip("?"))
        said = {"step": put["step"], "answer": CHOICES[number % 4]}
        answered = mine.post(f"{address}/answers", json=said)
        assert answered.status_code == 200
        assert not {"is_right", "key"} & set(answered.json())
    assert len(set(seen)) == len(seen)
    wrong = mine.post(f"{address}/answers", json={"step": 1, "answer": None})
    assert wrong.json()["code"] == "answered_otherwise"
    report = mine.get(address).json()
    told = report["sitting"]
    assert (told["result"], told["score_low"] <= told["score"]) == ("passed", True)
    assert sum(one["put"] for one in report["topics"]) == len(seen)
    assert "nothing more" in report["what_would_change_it"]["text"]
    assert mine.get(f"/v1/qualifications/{made['id']}").json()["state"] == "granted"
    assert [one["id"] for one in mine.get("/v1/sittings").json()["items"]] == [told["id"]]
    assert other.get("/v1/sittings").json()["items"] == []
    assert mine.get(f"{address}/regrades").json() == []
    assert mine.get(f"{address}/replay").json()["code"] == "scope_missing"
    replay = ops.get(f"{address}/replay").json()
    assert replay["is_equal"]
    assert len(replay["steps"]) == len(seen)
    over = mine.post(f"/v1/qualifications/{made['id']}/sittings")
    assert (over.status_code, over.json()["code"]) == (409, "state_conflict")


def test_an_expert_reads_on_its_own_page_what_a_test_came_to_and_what_would_change_it(
    db: Session, web: TestClient[Any]
) -> None:
    make_bank(db)
    mine = make_caller(db, web, Part.EXPERT)
    row = seat(db, person_id=mine.person_id)
    sit(db, row, none_known)
    entered = web.post("/console/enter", data={"key": mine.key}, follow_redirects=False)
    assert entered.status_code == 303
    page = web.get("/console/expert/profile").text
    assert f"Failed: {row.score} % of the items, {row.score_low} to {row.score_high} %" in page
    assert "you may be invited to a new test" in page


@pytest.mark.parametrize(
    ("rows", "score", "code"),
    [(0, 70, "item_bank_missing"), (60, 100, "item_bank_out_of_reach")],
)
def test_a_sitting_that_cannot_be_is_refused_with_what_to_do(
    db: Session, web: TestClient[Any], rows: int, score: int, code: str
) -> None:
    if rows:
        make_bank(db, rows)
    ops, mine = (make_caller(db, web, one) for one in (Part.OPS, Part.EXPERT))
    body = {"person_id": f"per_{mine.person_id.hex}", "domain": BANK, "pass_score": score}
    made = ops.post("/v1/qualifications", json=body).json()
    refused = mine.post(f"/v1/qualifications/{made['id']}/sittings")
    assert (refused.status_code, refused.json()["code"]) == (409, code)
