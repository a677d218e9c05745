"""One language for experts: what it reads, refuses, explains, and that SQL and Python agree."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.experts.models import Expert, ExpertDomain
from market.experts.queries import facts_of
from market.experts.rules import DEGREES, EXPERT_FIELDS, Degree
from market.expressions.queries import explained, matching_experts
from market.grammar import parse, written
from market.http import wire_id
from market.language import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_LISTED,
    OPERATORS,
    Condition,
    ExpressionInvalid,
    ExpressionTooLarge,
    Field,
    FieldGone,
    Tree,
    conditions,
    failing,
    from_json,
    holds,
    to_json,
)
from tests.factories import AT, Caller, make_caller, make_expert, make_project, make_task

Web = TestClient[Any]

WANTED = 'skill.organic_chem >= 0.8 and country in ("US","CA")'


@pytest.fixture
def lab(db: Session, web: Web) -> Caller:
    return make_caller(db, web, Part.LAB)


@pytest.fixture
def ops(db: Session, web: Web) -> Caller:
    return make_caller(db, web, Part.OPS)


def known(db: Session, domain: str, ability: float | None, **profile: Any) -> Expert:
    found = make_expert(db, domains=(domain,), **profile)
    row = db.get(ExpertDomain, (found.id, domain))
    assert row is not None
    row.ability = ability
    db.flush()
    return found


# SQL and Python -----------------------------------------------------------------------------------

DOMAINS = ("chemistry", "chemistry.organic", "law-eu.tax")
LICENCES = ("law.us-ny", "medicine.de")
INSTITUTIONS = ("ethz.ch", "mit.edu")


def _values(field: Field) -> st.SearchStrategy[str]:
    if field.kind == "measure":
        return st.sampled_from(("0", "0.25", "0.5", "0.731", "0.9", "1"))
    if field.kind == "number":
        return st.integers(-10, 400).map(lambda tenths: str(Decimal(tenths) / 10))
    if field.choices:
        return st.sampled_from([f'"{choice}"' for choice in field.choices])
    texts = {
        "country": ("CA", "US", "DE"),
        "timezone": ("UTC", "Europe/Berlin"),
        "languages": ("en", "de", "fr"),
        "domains": DOMAINS,
        "licences": LICENCES,
        "institution": INSTITUTIONS,
    }
    return st.sampled_from([f'"{one}"' for one in texts[field.name]])


@st.composite
def asked(draw: st.DrawFn) -> str:
    field = draw(st.sampled_from(list(EXPERT_FIELDS)))
    name = f"{field.name}.{draw(st.sampled_from(DOMAINS))}" if field.is_keyed else field.name
    operator = draw(st.sampled_from(OPERATORS[field.kind]))
    if operator == "is":
        return f"{name} is {draw(st.sampled_from(('known', 'unknown')))}"
    if operator.endswith("in"):
        listed = draw(st.lists(_values(field), min_size=1, max_size=3))
        return f"{name} {operator} ({', '.join(listed)})"
    return f"{name} {operator} {draw(_values(field))}"


SOURCES = st.recursive(
    asked() | st.just("everyone"),
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"({' and '.join(some)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"({' or '.join(some)})"),
    ),
    max_leaves=8,
)

ABILITY = st.one_of(
    st.none(), st.sampled_from((0.0, 1.0, -1.0986122886681098, float("nan"))), st.floats(-9, 9)
)

SOMEONE = st.fixed_dictionaries(
    {
        "country": st.sampled_from((None, "CA", "US", "DE")),
        "timezone": st.sampled_from(("UTC", "Europe/Berlin")),
        "languages": st.sampled_from(((), ("en",), ("en", "de"))),
        "degrees": st.lists(
            st.builds(
                Degree,
                st.sampled_from(DOMAINS),
                st.sampled_from(DEGREES),
                st.sampled_from((None, *INSTITUTIONS)),
            ),
            max_size=2,
            unique_by=lambda one: one.domain,
        ).map(tuple),
        "licences": st.sampled_from(((), LICENCES[:1], LICENCES)),
        "weekly_hours": st.integers(0, 40),
        "max_concurrent": st.integers(1, 5),
        "days": st.integers(0, 40),
        "tier": st.sampled_from(("T1", "T3")),
        "known": st.dictionaries(
            st.sampled_from(DOMAINS),
            st.tuples(ABILITY, st.integers(0, 400), st.sampled_from(("claimed", "qualified"))),
        ),
    }
)


def _made(db: Session, said: dict[str, Any]) -> UUID:
    said = dict(said)
    at = AT - timedelta(days=said.pop("days"), hours=3)
    domains = said.pop("known")
    found = make_expert(db, domains=tuple(domains), at=at, **said)
    for domain, (ability, years, level) in domains.items():
        row = db.get(ExpertDomain, (found.id, domain))
        assert row is not None
        row.ability, row.years, row.level = ability, Decimal(years) / 10, level
    db.flush()
    return found.id


def test_sql_and_python_find_the_same_people(db: Session) -> None:
    @given(st.lists(SOMEONE, min_size=1, max_size=4), st.lists(SOURCES, min_size=5, max_size=15))
    @settings(
        max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def agree(people: list[dict[str, Any]], sources: list[str]) -> None:
        with db.begin_nested() as savepoint:
            ids = [_made(db, one) for one in people]
            db.expire_all()
            facts = facts_of(db, ids, AT)
            for source in sources:
                tree = from_json(to_json(parse(source, EXPERT_FIELDS))).tree
                by_sql = set(matching_experts(db, tree, at=AT)) & set(ids)
                by_python = {one for one in ids if holds(tree, facts[one], EXPERT_FIELDS)}
                assert by_sql == by_python, source
                for one in ids:
                    fails = failing(tree, facts[one], EXPERT_FIELDS)
                    assert not (fails and one in by_python), source
            savepoint.rollback()
        db.expunge_all()

    agree()


def _placeless(tree: Tree) -> str:
    return written(tree, EXPERT_FIELDS)


@given(SOURCES)
def test_what_is_written_is_read_back_as_the_same_tree(source: str) -> None:
    once = parse(source, EXPERT_FIELDS)
    again = parse(_placeless(once.tree), EXPERT_FIELDS)
    assert [(c.field, c.operator, c.values) for c in conditions(again.tree)] == [
        (c.field, c.operator, c.values) for c in conditions(once.tree)
    ]
    assert _placeless(again.tree) == _placeless(once.tree)
    assert from_json(to_json(once)) == once


@given(st.text(max_size=60))
def test_whatever_is_typed_is_read_or_refused_with_a_place(source: str) -> None:
    try:
        parse(source, EXPERT_FIELDS)
    except (ExpressionInvalid, ExpressionTooLarge) as refusal:
        refused = refusal
    else:
        return
    if isinstance(refused, ExpressionInvalid):
        assert 1 <= refused.position <= len(source) + 1
    else:
        assert refused.limit == MAX_DEPTH


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "position", "wanted"),
    [
        ("", 1, "a field"),
        ("skil.chem > 0.5", 1, "skill.<domain>"),
        ("skill > 0.5", 1, "skill.<domain>"),
        ('country == "CA"', 9, "="),
        ("country = CA", 11, 'a text in double quotes, such as "CA"'),
        ("country = 'CA'", 11, 'a text in double quotes, such as "CA"'),
        ('country = "Canada"', 11, 'one such as "CA"'),
        ('country < "CA"', 9, "="),
        ("skill.chem = 0.5", 12, ">="),
        ("skill.chem >= 80", 15, "0.8"),
        ('tier >= "T9"', 9, '"T1"'),
        ('country in "CA"', 12, "("),
        ('country in ("CA" "US")', 18, ","),
        ("weekly_hours > 5 and", 21, "a field"),
        ("weekly_hours > 5 weekly_hours < 9", 18, "and"),
        ("(weekly_hours > 5", 18, ")"),
        ("weekly_hours > 5 && tier is known", 18, "and"),
        ('languages = "en"', 11, "has"),
        ('country = "CA', 11, '"'),
        ('cohort "best"', 8, None),
        ("weekly_hours > 0x5", 16, None),
        ("weekly_hours > 1234567890123456789", 16, None),
        ("tier is unkown", 9, "unknown"),
    ],
)
def test_a_refusal_names_the_place_and_what_to_write(
    source: str, position: int, wanted: str | None
) -> None:
    with pytest.raises(ExpressionInvalid) as refused:
        parse(source, EXPERT_FIELDS)
    assert refused.value.position == position
    assert wanted is None or wanted in refused.value.wanted


@pytest.mark.parametrize(
    "source",
    [
        "tier is known and " * 200 + "everyone",
        " or ".join(["a.b"] * 1) + " " * MAX_LENGTH,
        " or ".join(["tier is known"] * (MAX_CONDITIONS + 1)),
        "not " * 1000 + "everyone",
        "(" * 500 + "everyone" + ")" * 500,
        f"completed in ({','.join(['1'] * (MAX_LISTED + 1))})",
    ],
)
def test_an_expression_has_limits(source: str) -> None:
    with pytest.raises(ExpressionTooLarge):
        parse(source, EXPERT_FIELDS)


def test_a_stored_expression_about_what_is_gone_says_so(db: Session) -> None:
    gone = Condition(field="shoe_size", operator=">", values=("40",), start=0, end=14)
    with pytest.raises(FieldGone, match="shoe_size"):
        matching_experts(db, gone, at=AT)


def test_what_is_unknown_fulfils_no_condition_and_not_of_it_holds(db: Session) -> None:
    unmeasured = known(db, "chemistry", None)
    for source, found in [
        ("skill.chemistry >= 0", False),
        ("not skill.chemistry >= 0", True),
        ('country != "CA"', False),
        ("skill.chemistry is unknown", True),
    ]:
        tree = parse(source, EXPERT_FIELDS).tree
        assert (unmeasured.id in matching_experts(db, tree, at=AT)) is found, source


def test_people_are_found_by_degree_field_institution_and_licence(db: Session, ops: Caller) -> None:
    wanted = 'degree.chemistry >= "doctorate" and country = "US" and weekly_hours >= 10'
    doctor = Degree("chemistry", "doctorate", "ethz.ch")
    fits = make_expert(db, degrees=(doctor,), country="US", weekly_hours=10)
    also = make_expert(
        db,
        degrees=(Degree("chemistry", "doctorate"), Degree("law", "master", "mit.edu")),
        licences=("law.us-ny",),
        country="US",
        weekly_hours=40,
    )
    make_expert(db, degrees=(doctor,), country="DE", weekly_hours=10)
    make_expert(db, degrees=(doctor,), country="US", weekly_hours=9)
    make_expert(db, country="US", weekly_hours=40)
    for degree in (Degree("chemistry", "master", "ethz.ch"), Degree("physics", "doctorate")):
        make_expert(db, degrees=(degree,), country="US", weekly_hours=40)
    for source, found in (
        (wanted, {fits.id, also.id}),
        (f'{wanted} and institution.chemistry = "ethz.ch"', {fits.id}),
        (f'{wanted} and licences has "law.us-ny"', {also.id}),
        ('degree.law is known and institution.law in ("mit.edu")', {also.id}),
    ):
        answer = ops.get("/v1/experts", params={"filter": source})
        assert {one["id"] for one in answer.json()["items"]} == {
            f"per_{one.hex}" for one in found
        }, source
    told = ops.post(
        "/v1/expressions:explain",
        json={"expression": 'degree.law = "doctorate"', "expert_ids": [f"per_{also.id.hex}"]},
    ).json()
    assert told["experts"][0]["failing"] == [
        {"condition": 'degree.law = "doctorate"', "known": "master"}
    ]


# Explained ----------------------------------------------------------------------------------------


def test_it_is_told_which_condition_leaves_out_how_many(db: Session) -> None:
    for country, ability in [("US", 2.0), ("CA", 2.0), ("DE", 2.0), ("DE", 3.0), ("US", -1.0)]:
        known(db, "organic_chem", ability, country=country)
    told = explained(db, parse(WANTED, EXPERT_FIELDS).tree, at=AT)
    skill, place = told.conditions
    assert (told.pool, told.matching) == (5, 2)
    assert (skill.passing, skill.found_without) == (4, 1)
    assert (place.passing, place.found_without) == (3, 2)
    assert WANTED[skill.start : skill.end] == "skill.organic_chem >= 0.8"


def test_a_condition_below_not_counts_what_is_found_without_it(db: Session) -> None:
    for country in ("US", "CA", "DE"):
        known(db, "chemistry", 0.0, country=country)
    told = explained(db, parse('not country = "US"', EXPERT_FIELDS).tree, at=AT)
    assert told.matching == 2
    assert told.conditions[0].found_without == 1  # Who lives in the US.


def test_ops_are_told_for_whom_which_condition_fails(db: Session, ops: Caller) -> None:
    abroad = known(db, "organic_chem", 2.0, country="DE")
    fits = known(db, "organic_chem", 2.0, country="CA")
    answer = ops.post(
        "/v1/expressions:explain",
        json={
            "expression": WANTED,
            "expert_ids": [f"per_{abroad.id.hex}", f"per_{fits.id.hex}"],
        },
    )
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["pool"], said["matching"]) == (2, 1)
    assert said["costliest"] == 'country in ("US", "CA")'
    assert said["experts"][0]["failing"] == [
        {"condition": 'country in ("US", "CA")', "known": "DE"}
    ]
    assert said["experts"][1]["matches"]


def test_a_lab_is_told_no_number_that_singles_people_out(db: Session, lab: Caller) -> None:
    known(db, "organic_chem", 2.0, country="DE")
    said = lab.post("/v1/expressions:explain", json={"expression": 'country = "DE"'}).json()
    assert said["matching"] is None
    body = {"expression": "everyone", "expert_ids": ["per_" + "0" * 32]}
    assert lab.post("/v1/expressions:explain", json=body).json()["code"] == "scope_missing"


def test_a_route_is_tried_against_the_pool_as_it_is_before_it_is_set(
    db: Session, lab: Caller
) -> None:
    project = make_project(db, lab.organisation_id, state="ready")
    where = f"/v1/projects/prj_{project.id.hex}/eligibility"
    found = [known(db, "organic_chem", 2.0, country="CA") for _ in range(6)]
    for _ in range(5):
        known(db, "organic_chem", -2.0, country="US")

    def tried() -> tuple[int, int, str]:
        said = lab.post("/v1/expressions:explain", json={"expression": WANTED}).json()
        return said["pool"], said["matching"], said["costliest"]

    skill = "skill.organic_chem >= 0.8"
    assert tried() == (11, 6, skill)
    # It is the pool of this moment: of who joins, and of what was shown since.
    known(db, "organic_chem", 3.0, country="US")
    assert tried() == (12, 7, skill)
    for one in found[:2]:
        db.get_one(ExpertDomain, (one.id, "organic_chem")).ability = -2.0
    db.flush()
    assert tried() == (12, 5, skill)
    # To try is not to set; what is set then takes whom the trial said.
    assert lab.get(where).json()["code"] == "not_found"
    set_so = lab.put(where, json={"steps": [{"expression": WANTED}]})
    assert [one["matching"] for one in set_so.json()["steps"]] == [5]


@pytest.mark.parametrize(
    ("source", "code"),
    [("country = CA", "expression_invalid"), ("not " * 99, "expression_too_large")],
)
def test_a_refusal_travels_as_a_problem(lab: Caller, source: str, code: str) -> None:
    answer = lab.post("/v1/expressions:explain", json={"expression": source})
    assert answer.status_code == 422
    assert answer.json()["code"] == code


def test_the_language_is_told_with_an_example_that_can_be_read(lab: Caller) -> None:
    for field in lab.get("/v1/expressions/language").json()["fields"]:
        name = field["name"].replace("<domain>", "chemistry")
        parse(
            f"{name} {field['operators'][-2]} {field['example']}".replace("in ", "in (")
            + (")" if field["operators"][-2].endswith("in") else ""),
            EXPERT_FIELDS,
        )


# Cohorts and lists --------------------------------------------------------------------------------


def test_a_cohort_is_used_by_its_name_and_keeps_its_version(lab: Caller) -> None:
    first = lab.put("/v1/cohorts/known-good", json={"expression": "completed >= 5"})
    assert first.json()["version"] == 1, first.text
    body = {"expression": 'cohort "known-good" and tier is known'}
    before = lab.post("/v1/expressions:explain", json=body).json()
    assert (
        lab.put("/v1/cohorts/known-good", json={"expression": "completed >= 9"}).json()["version"]
        == 2
    )
    again = lab.put("/v1/cohorts/known-good", json={"expression": "completed >= 9"})
    assert again.json()["version"] == 2
    assert [one["condition"] for one in before["conditions"]] == [
        "completed >= 5",
        "tier is known",
    ]
    assert lab.get("/v1/cohorts/known-good").json()["expression"] == "completed >= 9"
    assert [one["version"] for one in lab.get("/v1/cohorts").json()["items"]] == [2]
    kept = lab.get("/v1/cohorts/known-good/versions").json()["items"]
    assert [(one["version"], one["expression"]) for one in kept] == [
        (2, "completed >= 9"),
        (1, "completed >= 5"),
    ]
    assert {one["saved_by"] for one in kept} == {wire_id("per", lab.person_id)}


def test_a_cohort_is_its_labs_own(db: Session, web: Web, lab: Caller) -> None:
    lab.put("/v1/cohorts/mine", json={"expression": "everyone"})
    other = make_caller(db, web, Part.LAB)
    for path in ("/v1/cohorts/mine", "/v1/cohorts/mine/versions"):
        assert other.get(path).json()["code"] == "not_found"
    body = {"expression": 'cohort "mine"'}
    assert other.post("/v1/expressions:explain", json=body).json()["code"] == "expression_invalid"


def test_a_cohort_has_a_plain_name_and_there_are_not_too_many(
    lab: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = lab.put("/v1/cohorts/My%20Best", json={"expression": "everyone"})
    assert answer.json()["code"] == "cohort_name_invalid"
    monkeypatch.setattr("market.expressions.actions.MAX_COHORTS", 0)
    answer = lab.put("/v1/cohorts/best", json={"expression": "everyone"})
    assert answer.json()["code"] == "too_many_cohorts"


def test_lists_of_experts_and_tasks_are_filtered_page_by_page(
    db: Session, web: Web, ops: Caller, lab: Caller
) -> None:
    found = {known(db, "organic_chem", 2.0, country="CA").id for _ in range(3)}
    known(db, "organic_chem", 2.0, country="DE")
    first = ops.get("/v1/experts", params={"filter": WANTED, "limit": 2}).json()
    rest = ops.get(
        "/v1/experts", params={"filter": WANTED, "limit": 2, "cursor": first["next_cursor"]}
    ).json()
    assert {one["id"] for one in [*first["items"], *rest["items"]]} == {
        f"per_{one.hex}" for one in found
    }
    other = ops.get("/v1/experts", params={"limit": 2, "cursor": first["next_cursor"]})
    assert other.json()["code"] == "bad_cursor"
    project = make_project(db, lab.organisation_id)
    hard = make_task(db, project, complexity=4)
    make_task(db, project, complexity=1)
    tasks = lab.get(
        f"/v1/projects/prj_{project.id.hex}/tasks",
        params={"filter": 'complexity >= 3 and open_seats > 0 and state = "queued"'},
    )
    assert [one["id"] for one in tasks.json()["items"]] == [f"tsk_{hard.id.hex}"]
    refused = lab.get(f"/v1/projects/prj_{project.id.hex}/tasks", params={"filter": "country"})
    assert refused.json()["code"] == "expression_invalid"
