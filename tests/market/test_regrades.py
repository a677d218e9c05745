"""Re-grades: a wrong key is repaired for everybody who had the item; a pass is never taken so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.appeals.actions import file_appeal
from market.auth import Part
from market.db import database, now
from market.events import Event, EventRow
from market.item_banks.actions import decide_item
from market.item_banks.models import BankItem, ItemFlag
from market.item_banks.queries import key_of
from market.moves import unfolded
from market.qualifications.actions import invite_to_qualify, revoke_qualification
from market.qualifications.queries import qualification
from market.qualifications.rules import RETAKE_AFTER
from market.regrades.actions import regrade_sitting, remark_answers
from market.regrades.jobs import regrade_item
from market.regrades.models import Regrade
from market.sittings.actions import answer_item, challenge_item, put_item, start_sitting
from market.sittings.models import Sitting
from market.sittings.queries import rechosen, steps_of
from market.sittings.rules import (
    AnsweredOtherwise,
    AnswerUnfit,
    ItemNotOpen,
    SittingHeld,
    SittingNotFound,
)
from tests.factories import AT, make_caller, make_expert
from tests.market.banked import CHOICES, calibrate, make_bank, seat, sit

NOTE = "Two specialists looked at it, and both came to the same answer."
LATER = AT + timedelta(days=1)


def rekey(db: Session, row: Sitting, *, least: int = 0) -> list[UUID]:
    """Let the keys of a sitting's wrong answers be what was answered, and right ones another."""
    done = []
    for step in steps_of(db, row.id):
        before = key_of(db, step.item_id)
        if step.answer is None or (least and step.is_right):
            continue
        key = [step.answer] if not step.is_right else [c for c in CHOICES if c != step.answer][:1]
        assert key != before.key
        decide_item(db, step.item_id, "rekey", key=key, note=NOTE, at=LATER)
        done.append(step.item_id)
    return done


def failed_sitting(db: Session) -> Sitting:
    """A sitting of somebody who got everything wrong, in a bank of sixty."""
    make_bank(db)
    # Easy items are put to somebody who fails; with a low cut, to know them all is to pass.
    row = seat(db, pass_score=30)
    sit(db, row, lambda asked: False)
    assert row.result == "failed"
    return row


def history(db: Session, row: Sitting) -> list[Regrade]:
    """How a sitting was graded again, the first time first."""
    rows = db.scalars(select(Regrade).where(Regrade.sitting_id == row.id).order_by(Regrade.id))
    return list(rows)


def test_wrong_keys_are_repaired_and_a_denial_becomes_a_pass(
    db: Session, react: Callable[[], list[str]]
) -> None:
    row, untouched = failed_sitting(db), seat(db)
    react()
    before, score = row.mean, row.score
    items = rekey(db, row)
    assert react().count("regrade_item") == len(items)
    db.refresh(row)
    assert before is not None
    assert row.mean is not None
    assert (row.result, row.mean > before + 1) == ("passed", True)
    assert qualification(db, row.qualification_id).state == "granted"
    told = history(db, row)
    assert len(told) == len(items)
    assert (told[0].score_before, told[-1].score_after) == (score, row.score)
    assert [one.effect for one in told].count("granted") == 1
    assert all(one.mean_after > one.mean_before for one in told)
    assert history(db, untouched) == []
    notices = db.scalars(
        select(EventRow.person_id).where(EventRow.type == Event.SITTING_REGRADED)
    ).all()
    assert notices == [row.person_id] * len(items)
    # What was asked still follows from how the answers were marked when it was chosen.
    assert all(one.item_id == one.again for one in rechosen(db, row))
    regrade_item(str(items[0]))
    assert len(history(db, row)) == len(items)
    assert unfolded(db) == []


def test_a_pass_is_kept_and_only_ops_take_it_with_reasons_to_appeal(db: Session) -> None:
    make_bank(db)
    row = seat(db)
    sit(db, row, lambda asked: True)
    for item_id in rekey(db, row):
        regrade_item(str(item_id))
    db.refresh(row)
    assert row.result == "failed"
    held = qualification(db, row.qualification_id)
    # Which items were drawn decides with which of the new keys the pass no longer holds.
    effects = {one.effect for one in history(db, row)}
    assert (held.state, effects - {"none"}) == ("granted", {"pass_kept"})
    evidence = [f"sit_{row.id.hex}"]
    revoke_qualification(
        db, held.id, reason_code="wrong_key", note=NOTE, evidence=evidence, at=LATER
    )
    filed = file_appeal(db, "qualification", held.id, person_id=row.person_id, note=NOTE, at=LATER)
    assert filed.state == "filed"


def test_a_withdrawn_item_counts_for_nobody(db: Session) -> None:
    row = failed_sitting(db)
    first = steps_of(db, row.id)[0]
    scored = row.scored
    decide_item(db, first.item_id, "withdraw", note=NOTE, at=LATER)
    regrade_item(str(first.item_id))
    regrade_item(str(first.item_id))
    db.refresh(row)
    assert row.scored == scored - 1
    [told] = history(db, row)
    # Seven answers are too few to say that somebody does not know; the denial stands until then.
    assert (told.reason, told.result_after, told.effect) == ("withdrawn", "thin", "none")


def test_a_retake_that_is_under_way_stands_in_the_place_of_the_old_test(db: Session) -> None:
    row = failed_sitting(db)
    again = invite_to_qualify(
        db, row.person_id, domain="chemistry.organic", at=now() + RETAKE_AFTER
    )
    for item_id in rekey(db, row):
        regrade_item(str(item_id))
    assert [one.effect for one in history(db, row)][-1] == "held"
    assert qualification(db, row.qualification_id).state == "denied"
    assert qualification(db, again.id).state == "invited"


def test_an_open_sitting_ends_by_the_new_key_and_chooses_by_the_old_marks(db: Session) -> None:
    make_bank(db)
    row = seat(db, pass_score=30)
    sit(db, row, lambda asked: False, most=4)
    for item_id in rekey(db, row):
        assert remark_answers(db, item_id) == 1
        assert not regrade_sitting(db, row.id, item_id, at=LATER)
    calibrate(db, at=LATER + timedelta(hours=1))
    assert [(one.was_right, one.is_right) for one in steps_of(db, row.id)] == [(False, True)] * 4
    sit(db, row, lambda asked: True)
    assert (row.result, history(db, row)) == ("passed", [])
    assert all(one.item_id == one.again for one in rechosen(db, row))


def test_a_key_counts_in_every_later_sitting_of_the_same_test(db: Session) -> None:
    make_bank(db)
    first = seat(db)
    sit(db, first, lambda asked: False, most=3)
    first.ends_at = AT + timedelta(minutes=5)
    db.flush()
    assert put_item(db, first.id, person_id=first.person_id, at=first.ends_at) is None
    assert first.result == "thin"
    second = start_sitting(db, first.qualification_id, person_id=first.person_id, at=LATER)
    sit(db, second, lambda asked: False, at=LATER)
    [one, *_] = rekey(db, first)
    regrade_item(str(one))
    assert [len(history(db, row)) for row in (first, second)] == [1, 1]


def test_a_taker_can_say_that_a_key_is_wrong_once_the_test_is_over(db: Session) -> None:
    make_bank(db)
    row = seat(db)
    sit(db, row, lambda asked: False, most=2)
    say = "The solution of item one is green, see any textbook."
    with pytest.raises(ItemNotOpen):
        challenge_item(db, row.id, 1, say, person_id=row.person_id, at=AT)
    sit(db, row, lambda asked: False)
    with pytest.raises(AnswerUnfit):
        challenge_item(db, row.id, 1, "wrong", person_id=row.person_id, at=AT)
    with pytest.raises(SittingNotFound):
        challenge_item(db, row.id, 1, say, person_id=make_expert(db).id, at=AT)
    challenge_item(db, row.id, 1, say, person_id=row.person_id, at=AT)
    challenge_item(db, row.id, 1, say, person_id=row.person_id, at=AT)
    [flag] = db.scalars(select(ItemFlag)).all()
    assert (flag.reason, flag.person_id) == ("challenged", row.person_id)


def test_a_challenge_and_a_regrade_are_seen_over_http(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    make_bank(db)
    ops, mine = (make_caller(db, web, part) for part in (Part.OPS, Part.EXPERT))
    row = seat(db, person_id=mine.person_id)
    sit(db, row, lambda asked: False)
    address = f"/v1/sittings/sit_{row.id.hex}"
    body = {"step": 1, "note": "The solution of item one is green, see any textbook."}
    assert mine.post(f"{address}/challenges", json=body).status_code == 200
    report = mine.get(address).json()
    assert report["what_would_change_it"]["can_appeal"]
    asked = db.get_one(BankItem, steps_of(db, row.id)[0].item_id)
    shown = ops.get(f"/v1/items/itm_{asked.id.hex}").json()
    assert [one["reason"] for one in shown["flags"]] == ["challenged"]
    said = steps_of(db, row.id)[0].answer
    move = {"decision": "rekey", "key": [said], "note": NOTE}
    assert ops.post(f"/v1/items/itm_{asked.id.hex}/decisions", json=move).status_code == 200
    react()
    [told] = mine.get(f"{address}/regrades").json()
    assert (told["reason"], told["effect"]) == ("key 2", "none")
    assert told["score_after"] >= told["score_before"]


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run acts in threads that begin together; what each gave, or was refused with."""
    gate = Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
        gate.wait(timeout=60)
        try:
            return act()
        except (AnsweredOtherwise, SittingHeld) as refusal:
            return refusal

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def test_of_two_answers_at_once_one_stands_and_of_two_sittings_one_begins(committed: str) -> None:
    del committed
    with database.begin() as session:
        make_bank(session)
        person = make_expert(session).id
        asked = invite_to_qualify(session, person, domain="chemistry.organic", at=AT).id

    def start() -> UUID:
        with database.begin() as session:
            return start_sitting(session, asked, person_id=person, at=AT).id

    began = at_once(start, start)
    [which] = [one for one in began if isinstance(one, UUID)]
    assert sum(isinstance(one, SittingHeld) for one in began) == 1

    def put() -> UUID | None:
        with database.begin() as session:
            found = put_item(session, which, person_id=person, at=AT)
            return None if found is None else found.item_id

    assert len(set(at_once(put, put, put))) == 1

    def answer(said: str) -> str:
        with database.begin() as session:
            answer_item(session, which, 1, said, person_id=person, at=AT)
        return said

    said = at_once(*(lambda one=one: answer(one) for one in CHOICES[:3]))
    [stands] = [one for one in said if isinstance(one, str)]
    assert sum(isinstance(one, AnsweredOtherwise) for one in said) == 2
    with database.begin() as session:
        [step] = steps_of(session, which)
        assert (step.answer, session.scalars(select(BankItem.shown)).all().count(1)) == (stands, 1)
