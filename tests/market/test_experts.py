"""Profiles, domains, pay tiers and standing, and experts who come in by the file."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, database
from market.events import StateChange
from market.experts.actions import create_profile
from market.experts.models import Expert, ExpertDomain
from market.experts.queries import rate_spans
from market.experts.rules import (
    DOMAINS_MEET,
    STANDING,
    Profile,
    ProfileExists,
    ReasonMissing,
    domain_within,
    domains_meet,
    is_domain,
    tenths,
)
from market.pay_tiers.actions import assign_tier
from market.pay_tiers.rules import TierInForce, TierInPast
from market.people.models import Membership, Person
from market.standings.actions import change_standing
from market.standings.rules import STEPS
from market.states import StateConflict
from payouts.pay import RateSpan
from tests.factories import AT, Caller, make_caller, make_expert, pairs_in_database
from tests.races import at_once

PROFILE = {
    "headline": "Organic chemist",
    "country": "DE",
    "timezone": "Europe/Berlin",
    "languages": ["de", "en"],
    "domains": [{"domain": "chemistry.organic", "years": 7.5}],
}


@pytest.fixture
def person(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.EXPERT)


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


# Profiles -----------------------------------------------------------------------------------------


def test_a_profile_puts_its_expert_on_the_first_pay_tier_in_good_standing(person: Caller) -> None:
    assert person.get("/v1/experts/me").status_code == 404
    made = person.post("/v1/experts/me", json=PROFILE)
    assert made.status_code == 201, made.text
    assert made.headers["etag"] == '"1"'
    found = person.get("/v1/experts/me").json()
    assert found == made.json()
    assert (found["tier"], found["standing"]) == ("T1", "good")
    assert found["domains"] == [{"domain": "chemistry.organic", "years": 7.5, "level": "claimed"}]
    again = person.post("/v1/experts/me", json=PROFILE)
    assert (again.status_code, again.json()["code"]) == (409, "profile_exists")


def test_a_change_names_the_version_that_it_changes(person: Caller) -> None:
    person.post("/v1/experts/me", json=PROFILE)
    blind = person.patch("/v1/experts/me", json={"headline": "x"})
    assert (blind.status_code, blind.json()["code"]) == (428, "version_missing")
    first = person.patch("/v1/experts/me", json={"country": None}, headers={"If-Match": '"1"'})
    assert (first.status_code, first.json()["country"]) == (200, None)
    assert first.json()["headline"] == "Organic chemist"
    stale = person.patch("/v1/experts/me", json={"bio": "x"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_conflict")


def test_a_domain_shown_by_a_test_survives_a_change_of_the_claimed_ones(
    db: Session, person: Caller
) -> None:
    person.post("/v1/experts/me", json=PROFILE)
    shown = ExpertDomain(
        expert_id=person.person_id, domain="physics", level="qualified", ability=0.7
    )
    db.add(shown)
    db.commit()
    changed = person.patch(
        "/v1/experts/me",
        json={"domains": [{"domain": "law"}, {"domain": "physics", "years": 3}]},
        headers={"If-Match": '"1"'},
    )
    assert changed.json()["domains"] == [
        {"domain": "law", "years": 0.0, "level": "claimed"},
        {"domain": "physics", "years": 0.0, "level": "qualified"},
    ]
    db.refresh(shown)
    assert shown.ability == 0.7


def test_of_two_profiles_made_at_once_one_stays(committed: str) -> None:
    del committed
    with database.begin() as session:
        person = Person(name="Ada", email="ada@people.example", created_at=AT)
        session.add(person)

    def make() -> str:
        with database.begin() as session:
            return create_profile(session, person.id, Profile(), at=AT).state

    found = at_once([make] * 4)
    assert [one for one in found if one == "good"] == ["good"]
    assert sum(isinstance(one, ProfileExists) for one in found) == 3


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"nickname": "x"}, "invalid_body", ""),
        ({"headline": 5}, "invalid_body", "/headline"),
        ({"weekly_hours": 10**30}, "invalid_body", "/weekly_hours"),
        ({"weekly_hours": 2.5}, "invalid_body", "/weekly_hours"),
        ({"max_concurrent": 0}, "invalid_body", "/max_concurrent"),
        ({"domains": [{"domain": "law", "years": -1}]}, "invalid_body", "/domains/0/years"),
        ({"domains": "law"}, "invalid_body", "/domains"),
        ({"headline": "x" * 201}, "profile_invalid", None),
        ({"country": "Germany"}, "profile_invalid", None),
        ({"timezone": "Mars/Olympus"}, "profile_invalid", None),
        ({"languages": ["not a tag"]}, "profile_invalid", None),
        ({"domains": [{"domain": "law"}, {"domain": "law"}]}, "profile_invalid", None),
        ({"degrees": [{"domain": "law", "degree": "phd"}]}, "invalid_body", "/degrees/0/degree"),
        (
            {"degrees": [{"domain": "law", "degree": "master", "institution": "Yale"}]},
            "profile_invalid",
            None,
        ),
        ({"licences": ["law.us-ny", "law.us-ny"]}, "profile_invalid", None),
        ({"domains": [{"domain": "Law"}]}, "domain_invalid", None),
        ({"domains": [{"domain": "law\x00"}]}, "domain_invalid", None),
        ({"domains": [{"domain": f"d{n}"} for n in range(51)]}, "too_many_domains", None),
        ({"headline": "a\x00b"}, "value_unstorable", None),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_with_its_place(
    person: Caller, body: dict[str, object], code: str, pointer: str | None
) -> None:
    answer = person.post("/v1/experts/me", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    if pointer:
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert person.get("/v1/experts/me").status_code == 404


def test_degrees_and_licences_are_said_and_changed(person: Caller) -> None:
    degree = {"domain": "chemistry", "degree": "doctorate", "institution": "ethz.ch"}
    said = {**PROFILE, "degrees": [degree], "licences": ["medicine.us-ny"]}
    made = person.post("/v1/experts/me", json=said).json()
    assert (made["degrees"], made["licences"]) == ([degree], ["medicine.us-ny"])
    changed = person.patch(
        "/v1/experts/me", json={"licences": []}, headers={"If-Match": '"1"'}
    ).json()
    assert (changed["degrees"], changed["licences"]) == ([degree], [])


def test_labs_have_no_profile_and_experts_read_no_list(
    db: Session, web: TestClient[Any], person: Caller
) -> None:
    lab = make_caller(db, web, Part.LAB)
    for answer in (
        lab.post("/v1/experts/me", json=PROFILE),
        lab.get("/v1/experts"),
        person.get("/v1/experts"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_ops_find_experts_by_domain_and_page_through_them(db: Session, ops: Caller) -> None:
    wide = make_expert(db, domains=("astronomy",))
    narrow = make_expert(db, domains=("astronomy.planets.mars",))
    make_expert(db, domains=("astronomy.stars",))
    make_expert(db, domains=("astronomyx",))
    db.commit()
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        given = {"domain": "astronomy.planets", "limit": "1"}
        answer = ops.get("/v1/experts", params={**given, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        seen += [item["id"] for item in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"per_{narrow.id.hex}", f"per_{wide.id.hex}"]
    one = ops.get(f"/v1/experts/{seen[0]}").json()
    assert one["email"].endswith("@people.example")
    assert ops.get("/v1/experts/per_" + "0" * 32).status_code == 404
    assert ops.get("/v1/experts/nonsense").status_code == 404


# Domains ------------------------------------------------------------------------------------------

words = st.sampled_from(["a", "b", "ab", "a-b", "a_b"])
domains = st.lists(words, min_size=1, max_size=3).map(".".join)


@given(one=domains, other=domains)
def test_domains_meet_when_one_lies_within_the_other(one: str, other: str) -> None:
    a, b = one.split("."), other.split(".")
    shared = min(len(a), len(b))
    assert is_domain(one)
    assert domains_meet(one, other) == (a[:shared] == b[:shared])
    assert domain_within(one, [other]) == (a[: len(b)] == b)


def test_the_database_says_the_same_of_domains_as_the_rule(db: Session) -> None:
    some = ["a", "a.b", "a.b.c", "ab", "a_b", "a.bc", "axb", "b.a", "a-b"]
    statement = text(f"select {DOMAINS_MEET.format(one=':one', other=':other')}")
    for one in some:
        for other in some:
            found = db.scalar(statement, {"one": one, "other": other})
            assert found == domains_meet(one, other), (one, other)


def test_the_database_rounds_years_as_the_rule_does(db: Session) -> None:
    for years in (0.0, 0.04, 0.05, 0.25, 0.35, 1.75, 79.95):
        found = db.scalar(text("select round(cast(:years as numeric), 1)"), {"years": str(years)})
        assert found == tenths(years), years


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "A", "a b", "é", "a\n", "x" * 121])
def test_what_is_no_domain_is_known(bad: str) -> None:
    assert not is_domain(bad)


# Pay tiers ----------------------------------------------------------------------------------------


def test_time_is_paid_by_the_tier_in_force_and_cut_where_it_changes(db: Session) -> None:
    expert = make_expert(db, tier="T1", at=AT)
    moved = AT + timedelta(days=2)
    assign_tier(db, expert.id, "T3", at=moved, reason="impact")
    end = AT + timedelta(days=3)
    assert rate_spans(db, expert.id, "USD", AT - timedelta(days=1), end) == [
        RateSpan(2200, AT, moved),
        RateSpan(9500, moved, end),
    ]
    assert rate_spans(db, expert.id, "USD", moved, None) == [RateSpan(9500, moved, None)]
    assert rate_spans(db, expert.id, "EUR", AT, end) == []


def test_a_rate_that_rises_cuts_the_time_of_everyone_on_its_tier(db: Session) -> None:
    expert = make_expert(db, tier="T2", at=AT)
    rise = AT + timedelta(hours=5)
    db.execute(
        text(
            "update market.pay_tier set during = tstzrange(lower(during), :at)"
            " where name = 'T2' and currency = 'USD'"
        ),
        {"at": rise},
    )
    db.execute(
        text(
            "insert into market.pay_tier (id, name, currency, rate_minor_per_hour, during)"
            " values (gen_random_uuid(), 'T2', 'USD', 3300, tstzrange(:at, null))"
        ),
        {"at": rise},
    )
    end = AT + timedelta(hours=10)
    assert rate_spans(db, expert.id, "USD", AT, end) == [
        RateSpan(3000, AT, rise),
        RateSpan(3300, rise, end),
    ]


def test_an_expert_is_never_put_on_a_tier_twice_nor_in_the_past(db: Session) -> None:
    expert = make_expert(db, at=AT)
    with pytest.raises(TierInForce):
        assign_tier(db, expert.id, "T1", at=AT + timedelta(hours=1), reason="x")
    with pytest.raises(TierInPast):
        assign_tier(db, expert.id, "T2", at=AT - timedelta(hours=1), reason="x")
    with pytest.raises(ReasonMissing):
        assign_tier(db, expert.id, "T2", at=AT + timedelta(hours=1), reason=" ")
    assign_tier(db, expert.id, "T2", at=AT + timedelta(hours=2), reason="x")
    with pytest.raises(TierInPast):
        assign_tier(db, expert.id, "T3", at=AT + timedelta(hours=1), reason="x")
    assign_tier(db, expert.id, "T3", at=AT + timedelta(hours=2), reason="a slip of the hand")
    assert rate_spans(db, expert.id, "USD", AT + timedelta(hours=2), None)[0] == RateSpan(
        9500, AT + timedelta(hours=2), None
    )


def test_ops_put_an_expert_on_a_tier_and_the_expert_sees_it(person: Caller, ops: Caller) -> None:
    me = person.post("/v1/experts/me", json=PROFILE).json()["id"]
    given = {"tier": "T4", "reason": "a rare field"}
    moved = ops.post(f"/v1/experts/{me}/tier", json=given)
    assert (moved.status_code, moved.json()["tier"]) == (201, "T4"), moved.text
    assert person.get("/v1/experts/me").json()["tier"] == "T4"
    twice = ops.post(f"/v1/experts/{me}/tier", json=given)
    assert (twice.status_code, twice.json()["code"]) == (409, "tier_in_force")
    assert ops.post(f"/v1/experts/{me}/tier", json={**given, "tier": "T9"}).status_code == 422
    assert person.post(f"/v1/experts/{me}/tier", json=given).status_code == 403
    stale = ops.post(
        f"/v1/experts/{me}/tier",
        json={"tier": "T1", "reason": "x"},
        headers={"If-Match": '"1"'},
    )
    assert stale.status_code == 412


# Standing -----------------------------------------------------------------------------------------


def test_the_database_knows_the_same_moves_of_standing_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, STANDING) == STANDING.pairs()


def test_no_sequence_of_steps_leaves_the_table_and_history_leads_to_the_present(
    db: Session,
) -> None:
    expert = make_expert(db)
    actions = list(STEPS) * 3
    for number, action in enumerate(actions):
        allowed = action in STANDING.allowed(expert.state)
        try:
            change_standing(
                db,
                expert.id,
                action,
                at=AT,
                reason_code="quality",
                note=f"case {number}",
                evidence=["1"],
            )
        except StateConflict:
            assert not allowed
        else:
            assert allowed
    state = "good"
    for step in db.scalars(
        select(StateChange).where(StateChange.subject_id == expert.id).order_by(StateChange.id)
    ):
        assert step.from_state == state
        state = step.to_state
    assert state == expert.state


def test_each_step_of_standing_says_on_what_evidence(person: Caller, ops: Caller) -> None:
    me = person.post("/v1/experts/me", json=PROFILE).json()["id"]
    path, seen = f"/v1/experts/{me}/transitions", {"If-Match": '"1"'}
    step = {"action": "watch", "reason_code": "quality", "note": "case 17"}
    assert ops.post(path, json=step).status_code == 428
    bare = ops.post(path, json={"action": "watch"}, headers=seen)
    assert (bare.status_code, bare.json()["code"]) == (422, "reason_missing")
    for action in ("close", "", "explode"):
        wrong = ops.post(path, json={**step, "action": action}, headers=seen)
        assert (wrong.status_code, wrong.json()["code"]) == (409, "state_conflict")
        assert wrong.json()["allowed"] == ["watch"]
    moved = ops.post(path, json=step, headers=seen)
    assert (moved.status_code, moved.json()["standing"]) == (200, "watched")
    assert ops.post(path, json=step, headers=seen).status_code == 412


# Row security -------------------------------------------------------------------------------------


def test_an_expert_reads_and_writes_no_other_and_not_its_own_standing_tier_or_level(
    db: Session,
) -> None:
    me, other = make_expert(db), make_expert(db)
    db.commit()
    mine = Scope("stumpwork_expert", me.id)
    with database.begin(mine) as session:
        for table, key in (
            ("expert", "id"),
            ("expert_domain", "expert_id"),
            ("tier_assignment", "expert_id"),
        ):
            seen = session.execute(text(f"select {key} from market.{table}")).scalars().all()
            assert set(seen) == {me.id}
        touched = session.execute(
            text("update market.expert set headline = 'mine' where id = :id returning id"),
            {"id": other.id},
        ).all()
        assert touched == []
    for forbidden in (
        "update market.expert set state = 'good'",
        "update market.expert set source = 'x'",
        "update market.tier_assignment set tier = 'T4'",
        "update market.pay_tier set rate_minor_per_hour = 1000000",
        "insert into market.expert_domain values (market.tenant(), 'law', 1, 'qualified', null)",
        "insert into market.expert_domain values (market.tenant(), 'law', 1, 'claimed', 3.0)",
        f"insert into market.expert_domain values ('{other.id}', 'law', 1, 'claimed', null)",
        "delete from market.expert",
    ):
        with pytest.raises(DBAPIError), database.begin(mine) as session:
            session.execute(text(forbidden))
    with pytest.raises(DBAPIError), database.begin(Scope("stumpwork_lab", me.id)) as session:
        session.execute(text("select 1 from market.expert"))


# Experts by the file ------------------------------------------------------------------------------


def take_in(ops: Caller, body: bytes, kind: str, key: str) -> dict[str, Any]:
    answer = ops.post(
        "/v1/experts:import",
        content=body,
        headers={"Content-Type": kind, "Idempotency-Key": key},
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_experts_come_in_by_the_file_once_and_each_row_has_a_verdict(
    db: Session, ops: Caller
) -> None:
    rows: list[object] = [
        {"email": "One@x.example", "name": "One", "tier": "T3", "domains": [{"domain": "law"}]},
        {
            "email": "two@x.example",
            "name": "Two",
            "external_id": "e2",
            "languages": ["en"],
            "degrees": [{"domain": "law", "degree": "master", "institution": "yale.edu"}],
            "licences": ["law.us-ny"],
        },
        {"email": "one@X.example", "name": "One again"},
        {"email": "no address", "name": "x"},
        {"email": "three@x.example", "name": "x", "domains": [{"domain": "LAW"}]},
        {"email": "four@x.example", "name": "x", "timezone": "Nowhere"},
        {"email": "five@x.example", "name": "a\x00b"},
        {"email": "six@x.example"},
        {"email": "seven@x.example", "name": "x", "tier": "T7"},
    ]
    body = "\n".join(json.dumps(row) for row in rows).encode()
    told = take_in(ops, body, "application/x-ndjson", "a")
    assert (told["rows"], told["created"], told["rejected"]) == (9, 2, 7)
    assert [(row["line"], row["code"], row["pointer"]) for row in told["first_refused"]] == [
        (3, "duplicate_in_file", "/email"),
        (4, "email_invalid", "/email"),
        (5, "domain_invalid", "/domains"),
        (6, "out_of_range", "/timezone"),
        (7, "nul_character", ""),
        (8, "missing_field", "/name"),
        (9, "wrong_type", "/tier"),
    ]
    one = db.scalars(select(Person).where(Person.email == "One@x.example")).one()
    assert db.scalars(select(Membership.part).where(Membership.person_id == one.id)).all() == [
        "expert"
    ]
    kept = db.scalars(select(ExpertDomain).where(ExpertDomain.expert_id == one.id)).one()
    assert (kept.domain, kept.years, kept.level) == ("law", Decimal(0), "claimed")
    found = db.get_one(Expert, one.id)
    assert rate_spans(db, one.id, "USD", found.created_at, None)[0].rate_minor_per_hour == 9500

    again = take_in(ops, body, "application/x-ndjson", "b")
    assert (again["created"], again["unchanged"], again["conflicts"]) == (0, 2, 0)
    changed = json.dumps({"email": "two@x.example", "name": "Two", "bio": "new"}).encode()
    refused = take_in(ops, changed, "application/x-ndjson", "c")
    assert (refused["created"], refused["conflicts"]) == (0, 1)
    lines = [json.loads(line) for line in ops.get(told["verdicts"]).text.splitlines()]
    assert [line["verdict"] for line in lines] == ["created"] * 2 + ["rejected"] * 7
    assert lines[1]["external_id"] == "e2"


def test_a_person_who_is_no_expert_yet_becomes_one_and_keeps_its_name(
    db: Session, web: TestClient[Any], ops: Caller
) -> None:
    lab = make_caller(db, web, Part.LAB, "Ada")
    email = db.get_one(Person, lab.person_id).email
    body = f'email,name,domains\n{email},Other,"[{{""domain"": ""law"", ""years"": 2.25}}]"\n'
    told = take_in(ops, body.encode(), "text/csv", "a")
    assert (told["created"], told["rejected"]) == (1, 0), told
    assert db.get_one(Person, lab.person_id).name == "Ada"
    assert db.get_one(Expert, lab.person_id).source == told["id"]
    assert lab.get("/v1/projects").status_code == 200
