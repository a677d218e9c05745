"""What a person takes along: all that is kept about it, and a word that others can trust."""

import base64
import json
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import MetaData
from sqlalchemy.orm import Session

import payouts.models
from market.auth import Part, keyring
from market.experts.rules import EXPERT_FIELDS
from market.http import wire_id
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.records.rules import (
    DECIDED_BY,
    OTHERS,
    SOURCES,
    AttestationRefused,
    canonical,
    verified,
)
from market.tables import Base
from tests.conftest import SECRET
from tests.factories import AT, key_for, make_caller, make_expert
from tests.market.reviewed import ACCEPT, cast, hand_in

Web = TestClient[Any]
BY = ("actor_id", "tenant_id", "decider_id")
"""Columns that say who of ops or of a lab did something, or whose feed it is."""


def names_people(metadata: MetaData) -> dict[str, set[str]]:
    """Each table with the columns that say whom its rows are about."""
    found: dict[str, set[str]] = {}
    for table in metadata.sorted_tables:
        for column in table.columns:
            targets = {key.target_fullname for key in column.foreign_keys}
            is_about = column.name in (
                *("person_id", "expert_id", "reviewer_id", "owner_id", "unit_id", "people"),
                *("author_id", "membership_id"),
            ) or targets & {"market.person.id", "market.expert.id"}
            if is_about and not column.name.endswith("_by") and column.name not in BY:
                found.setdefault(str(table.fullname), set()).add(str(column.name))
    return found


def record(db: Session, web: Web, person_id: Any, part: Part = Part.EXPERT) -> list[Any]:
    answer = key_for(db, web, person_id, part).get("/v1/record/me")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_every_table_that_is_about_a_person_is_in_its_record_or_named_with_a_reason() -> None:
    about = {**names_people(Base.metadata), **names_people(payouts.models.Base.metadata)}
    taken = {source.table for source in SOURCES}
    missing = {
        table: columns for table, columns in about.items() if table not in taken | OTHERS.keys()
    }
    assert missing == {}
    assert all(len(reason) > 10 for reason in OTHERS.values())


def test_a_column_is_left_out_only_if_there_is_one() -> None:
    tables = {
        str(table.fullname): {str(column.name) for column in table.columns}
        for metadata in (Base.metadata, payouts.models.Base.metadata)
        for table in metadata.sorted_tables
    }
    for source in SOURCES:
        assert set(source.without) <= tables[source.table], source.kind
        assert source.order in tables[source.table], source.kind


def test_every_field_by_which_people_are_chosen_stands_in_their_record(
    db: Session, web: Web
) -> None:
    assert DECIDED_BY.keys() == {field.name for field in EXPERT_FIELDS}
    handed = hand_in(db, with_attempt=False)
    seen: dict[str, set[str]] = {}
    for line in record(db, web, handed.expert_id):
        seen.setdefault(line["kind"], set()).update(line.get("row", {}))
    for name, (kind, column) in DECIDED_BY.items():
        assert column in seen[kind], name


def test_a_record_has_work_verdict_and_pay_and_nobody_elses_name(db: Session, web: Web) -> None:
    handed = hand_in(db)
    other = make_expert(db)
    lines = record(db, web, handed.expert_id)
    assert lines[0]["kind"] == "record"
    assert lines[-1] == {"kind": "end", "rows": len(lines) - 2}
    kinds = {line["kind"] for line in lines}
    assert {"person", "expert", "offer", "submission", "attempt", "work_session"} <= kinds
    sent = next(line["row"] for line in lines if line["kind"] == "submission")
    assert (sent["id"], sent["expert_id"]) == (
        str(handed.id),
        wire_id("per", handed.expert_id),
    )
    text = json.dumps(lines)
    assert other.id.hex not in text.replace("-", "")
    keys = [line["row"] for line in lines if line["kind"] == "api_key"]
    assert keys
    assert all("digest" not in key for key in keys)


def test_of_votes_on_ones_work_the_reviewer_stays_unknown(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False, reviews=1)
    assert all(x["kind"] != "vote_on_own_work" for x in record(db, web, handed.expert_id))
    cast(db, handed, ACCEPT)
    lines = record(db, web, handed.expert_id)
    (vote,) = [line["row"] for line in lines if line["kind"] == "vote_on_own_work"]
    assert vote["verdict"] == "accept"
    assert "reviewer_id" not in vote
    assert any(line["kind"] == "verdict" for line in lines)


def qualified(db: Session) -> Any:
    expert = make_expert(db)
    asked = invite_to_qualify(db, expert.id, domain="chemistry", at=AT)
    begin_qualification(db, asked.id, person_id=expert.id, at=AT)
    assert grade_qualification(db, asked.id, score=90, at=AT).state == "granted"
    return expert


def test_verified_skills_are_signed_and_anybody_can_check_them(db: Session, web: Web) -> None:
    expert = qualified(db)
    made = key_for(db, web, expert.id, Part.EXPERT).post("/v1/attestations")
    assert made.status_code == 201, made.text
    given = made.json()
    published = web.get("/v1/attestation-keys").json()["keys"]
    keys = {
        one["kid"]: base64.urlsafe_b64decode(one["x"] + "=" * (-len(one["x"]) % 4))
        for one in published
    }
    said = verified(given["document"], given["signature"], keys)
    assert canonical(said) == given["document"]
    assert [(one["domain"], one["score"]) for one in said["skills"]] == [("chemistry", 90)]
    answer = web.post("/v1/attestations:verify", json=given)
    assert answer.status_code == 200, answer.text
    assert answer.json()["person_id"] == wire_id("per", expert.id)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x: {**x, "document": x["document"].replace("90", "99")}, "does not fit"),
        (lambda x: {**x, "signature": "AAAA"}, "does not fit"),
        (lambda x: {**x, "signature": "not base64 at all!"}, "does not fit"),
        (lambda x: {**x, "document": "{"}, "no JSON"),
        (lambda x: {**x, "document": '{"type":"other"}'}, "another type"),
    ],
)
def test_a_changed_attestation_is_refused(db: Session, web: Web, change: Any, why: str) -> None:
    expert = qualified(db)
    given = key_for(db, web, expert.id, Part.EXPERT).post("/v1/attestations").json()
    refused = web.post("/v1/attestations:verify", json=change(given))
    assert (refused.status_code, refused.json()["code"]) == (422, "attestation_refused")
    assert why in refused.json()["detail"]


def test_what_was_signed_under_an_earlier_secret_still_verifies(db: Session, web: Web) -> None:
    expert = qualified(db)
    caller = key_for(db, web, expert.id, Part.EXPERT)
    given = caller.post("/v1/attestations").json()
    keyring.open("another secret that is long enough for it")
    try:
        later = caller.post("/v1/attestations").json()
        for one in (given, later):
            assert web.post("/v1/attestations:verify", json=one).status_code == 200
        assert len(web.get("/v1/attestation-keys").json()["keys"]) == 2
    finally:
        keyring.open(SECRET)
    with pytest.raises(AttestationRefused, match="never published"):
        verified(given["document"], given["signature"], {})


def test_nobody_is_vouched_for_without_a_verified_skill(db: Session, web: Web) -> None:
    refused = make_caller(db, web, Part.EXPERT).post("/v1/attestations")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_verified")
