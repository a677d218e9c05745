"""Qualifications: invited, tested, graded, granted or denied, lost, graded again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.errors import MarketError
from market.events import Event, EventRow
from market.experts.models import ExpertDomain
from market.moves import unfolded
from market.people.rules import PersonNotFound
from market.qualifications.actions import (
    begin_qualification,
    expire_qualification,
    grade_qualification,
    invite_to_qualify,
    regrade_qualification,
    revoke_qualification,
)
from market.qualifications.jobs import expire_qualifications
from market.qualifications.models import Qualification
from market.qualifications.queries import ended_qualifications
from market.qualifications.rules import (
    HELD_FOR,
    INVITED_FOR,
    RETAKE_AFTER,
    QualificationHeld,
    QualificationNotFound,
    QualificationUnfit,
    RetakeTooSoon,
)
from tests.factories import AT, make_caller, make_expert

NOTE = "Two of the answers were taken word for word from a published key."


def graded_test(db: Session, score: int) -> Qualification:
    """An expert's graded test in organic chemistry."""
    person = make_expert(db).id
    asked = invite_to_qualify(db, person, domain="chemistry.organic", at=AT)
    begin_qualification(db, asked.id, person_id=person, at=AT)
    return grade_qualification(db, asked.id, score=score, at=AT)


def level(db: Session, row: Qualification) -> str | None:
    """How sure the house is of the domain that was tested."""
    wanted = select(ExpertDomain.level).where(
        ExpertDomain.expert_id == row.person_id, ExpertDomain.domain == row.domain
    )
    return db.scalar(wanted)


def test_a_passed_test_qualifies_its_domain_until_it_ends(db: Session) -> None:
    row = graded_test(db, 70)
    assert (row.state, level(db, row), row.ends_at) == ("granted", "qualified", AT + HELD_FOR)
    assert ended_qualifications(db, at=row.ends_at - timedelta(seconds=1), limit=9) == []
    assert not expire_qualification(db, row.id, at=row.ends_at - timedelta(seconds=1))
    assert expire_qualification(db, row.id, at=row.ends_at)
    assert not expire_qualification(db, row.id, at=row.ends_at)
    assert (row.state, level(db, row)) == ("expired", "claimed")
    assert unfolded(db) == []


def test_what_nobody_begins_or_ends_in_time_is_over_by_the_clock(db: Session) -> None:
    person = make_expert(db).id
    asked = invite_to_qualify(db, person, domain="chemistry", at=datetime.now(UTC) - INVITED_FOR)
    expire_qualifications("2026-01-01T00:00:00+00:00")
    db.refresh(asked)
    assert (asked.state, level(db, asked)) == ("expired", "claimed")
    assert invite_to_qualify(db, person, domain="chemistry", at=AT).state == "invited"


def test_a_test_that_was_not_passed_can_be_taken_again_later(db: Session) -> None:
    row = graded_test(db, 69)
    assert (row.state, level(db, row)) == ("denied", "claimed")
    invite = partial(invite_to_qualify, db, row.person_id, domain="chemistry.organic")
    with pytest.raises(RetakeTooSoon):
        invite(at=AT + RETAKE_AFTER - timedelta(seconds=1))
    again = invite(at=AT + RETAKE_AFTER)
    with pytest.raises(QualificationHeld):
        invite(at=AT + RETAKE_AFTER)
    # While a retake runs, the old test is not graded again beside it.
    with pytest.raises(QualificationHeld):
        regrade_qualification(db, row.id, score=99, reason_code="wrong_key", at=AT)
    assert again.state == "invited"


def test_a_wrong_key_is_repaired_for_whoever_was_denied_and_whoever_was_not(db: Session) -> None:
    denied, granted = graded_test(db, 60), graded_test(db, 72)
    regrade_qualification(db, denied.id, score=80, reason_code="wrong_key", at=AT)
    regrade_qualification(db, granted.id, score=50, reason_code="wrong_key", at=AT)
    assert [(one.state, level(db, one)) for one in (denied, granted)] == [
        ("granted", "qualified"),
        ("denied", "claimed"),
    ]
    told = db.scalars(select(EventRow.type).where(EventRow.subject_id == denied.id)).all()
    assert told[-2:] == [Event.QUALIFICATION_REGRADED, Event.QUALIFICATION_GRANTED]
    assert unfolded(db) == []


def test_what_is_taken_away_says_why_and_on_what_evidence(db: Session) -> None:
    row = graded_test(db, 90)
    revoke = partial(revoke_qualification, db, row.id, at=AT)
    for reason, note, evidence in (
        ("", NOTE, ["sub_1"]),
        ("copied", "They cheated.", ["sub_1"]),
        ("copied", NOTE, []),
    ):
        with pytest.raises(QualificationUnfit):
            revoke(reason_code=reason, note=note, evidence=evidence)
    with pytest.raises(IntegrityError, match="ck_qualification_revoked"), db.begin_nested():
        db.execute(text("update market.qualification set state = 'revoked', note = 'no'"))
    revoke(reason_code="copied", note=NOTE, evidence=["sub_1"])
    assert (row.state, level(db, row)) == ("revoked", "claimed")


@pytest.mark.parametrize(
    "given_",
    [
        {},
        {"domain": "chemistry", "review_level": 2},
        {"domain": "Not A Domain"},
        {"review_level": 1},
        {"review_level": 7},
        {"domain": "chemistry", "pass_score": 0},
    ],
)
def test_an_invitation_to_nothing_that_can_be_tested_is_refused(
    db: Session, given_: dict[str, Any]
) -> None:
    with pytest.raises(QualificationUnfit):
        invite_to_qualify(db, make_expert(db).id, at=AT, **given_)
    with pytest.raises(PersonNotFound):
        invite_to_qualify(db, new_id(), domain="chemistry", at=AT)
    with pytest.raises(QualificationNotFound):
        grade_qualification(db, new_id(), score=1, at=AT)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), max_size=12))
def test_no_sequence_of_actions_leaves_the_table_and_the_domain_follows(
    db: Session, actions: list[tuple[int, int]]
) -> None:
    with db.begin_nested() as attempt:
        person = make_expert(db).id
        row = invite_to_qualify(db, person, domain="chemistry.organic", at=AT)
        at = AT
        for action, score in actions:
            at += timedelta(days=20)
            acts: list[Callable[[], object]] = [
                partial(begin_qualification, db, row.id, person_id=person, at=at),
                partial(grade_qualification, db, row.id, score=score, at=at),
                partial(regrade_qualification, db, row.id, score=score, reason_code="key", at=at),
                partial(
                    revoke_qualification,
                    db,
                    row.id,
                    reason_code="copied",
                    note=NOTE,
                    evidence=["sub_1"],
                    at=at,
                ),
                partial(expire_qualification, db, row.id, at=at),
            ]
            try:
                with db.begin_nested():
                    acts[action]()
            except MarketError:
                db.expire_all()
        db.expire_all()
        assert (level(db, row) == "qualified") == (row.state == "granted")
        assert unfolded(db) == []
        attempt.rollback()
    db.expire_all()


def test_a_test_goes_over_http_from_ops_to_its_person_and_back(
    db: Session, web: TestClient[Any]
) -> None:
    ops, mine, other = (
        make_caller(db, web, part) for part in (Part.OPS, Part.REVIEWER, Part.REVIEWER)
    )
    body = {"person_id": f"per_{mine.person_id.hex}", "review_level": 3}
    made = ops.post("/v1/qualifications", json=body).json()
    address = f"/v1/qualifications/{made['id']}"
    again = ops.post("/v1/qualifications", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "qualification_held")
    assert mine.post("/v1/qualifications", json=body).json()["code"] == "scope_missing"
    assert other.post(f"{address}/begin").status_code == 404
    assert other.get(address).status_code == 404
    assert other.get("/v1/qualifications").json()["items"] == []
    early = ops.post(f"{address}/transitions", json={"action": "grade", "score": 10})
    assert (early.status_code, early.json()["code"]) == (409, "state_conflict")
    assert mine.post(f"{address}/begin").json()["state"] == "in_progress"
    missing = ops.post(f"{address}/transitions", json={"action": "grade"})
    assert (missing.status_code, missing.json()["code"]) == (422, "qualification_unfit")
    graded = ops.post(f"{address}/transitions", json={"action": "grade", "score": 10})
    assert graded.json()["state"] == "denied"
    soon = ops.post("/v1/qualifications", json=body)
    assert (soon.status_code, soon.json()["code"]) == (409, "retake_too_soon")
    move = {"action": "regrade", "score": 95, "reason_code": "wrong_key"}
    assert ops.post(f"{address}/transitions", json=move).json()["state"] == "granted"
    move = {"action": "revoke", "reason_code": "copied", "note": NOTE, "evidence": ["sub_1"]}
    assert ops.post(f"{address}/transitions", json=move).json()["state"] == "revoked"
    [seen] = mine.get("/v1/qualifications").json()["items"]
    assert (seen["state"], seen["note"], seen["evidence"]) == ("revoked", NOTE, ["sub_1"])
