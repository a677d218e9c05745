"""What happened, told to whom it concerns and to nobody else."""

from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, Json, database, new_id, now
from market.events import Event, change_state, emit
from market.feeds import publish
from market.http import KINDS
from market.notices.rules import kind_of
from market.people.actions import sign_up
from market.projects.rules import PROJECT
from tests.factories import AT, make_caller, make_project
from tests.market.test_people import bearer, join

Web = TestClient[Litestar]


def publish_all() -> None:
    with database.begin(PLATFORM) as session:
        publish(session, at=now())


def told(web: Web, key: str, query: str = "") -> list[Json]:
    publish_all()
    answer = web.get(f"/v1/events{query}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


def types_seen(web: Web, key: str, query: str = "") -> list[str]:
    publish_all()
    answer = web.get(f"/v1/events{query}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return [item["type"] for item in answer.json()["items"]]


def test_everybody_reads_what_concerns_it_newest_first(web: Web, db: Session) -> None:
    expert = sign_up(db, part=Part.EXPERT, name="E", email="e@x.example", at=now())
    other = sign_up(db, part=Part.EXPERT, name="F", email="f@x.example", at=now())
    lab = join(web)
    for event in (Event.OFFER_CREATED, Event.VERDICT_RECORDED):
        emit(db, event, expert.person.id, at=now(), person_id=expert.person.id)
    assert types_seen(web, expert.secret) == [
        "verdict.recorded",
        "offer.created",
        "person.joined",
    ]
    assert types_seen(web, other.secret) == ["person.joined"]
    assert types_seen(web, lab["api_key"]) == ["organisation.joined"]


def test_a_list_of_events_can_be_cut_down_to_one_type(web: Web, db: Session) -> None:
    expert = sign_up(db, part=Part.EXPERT, name="E", email="e@x.example", at=now())
    emit(db, Event.OFFER_CREATED, expert.person.id, at=now(), person_id=expert.person.id)
    assert types_seen(web, expert.secret, "?type=offer.created") == ["offer.created"]
    refused = web.get("/v1/events?type=offer.known", headers=bearer(expert.secret))
    assert (refused.status_code, refused.json()["code"]) == (422, "event_type_unknown")
    assert "offer.created" in refused.json()["detail"]


def test_ops_read_everything(web: Web, db: Session) -> None:
    ops = sign_up(db, part=Part.OPS, name="O", email="o@x.example", at=now())
    join(web)
    assert "organisation.joined" in types_seen(web, ops.secret)


def test_what_was_not_published_is_not_listed(web: Web, db: Session) -> None:
    expert = sign_up(db, part=Part.EXPERT, name="E", email="e@x.example", at=now())
    listed = web.get("/v1/events", headers=bearer(expert.secret)).json()
    assert listed["items"] == []
    assert types_seen(web, expert.secret) == ["person.joined"]


def test_places_lead_from_page_to_page_without_a_gap(web: Web, db: Session) -> None:
    expert = sign_up(db, part=Part.EXPERT, name="E", email="e@x.example", at=now())
    for _ in range(6):
        emit(db, Event.OFFER_CREATED, new_id(), at=now(), person_id=expert.person.id)
    publish_all()
    seen: list[int] = []
    query = "?limit=3"
    while query:
        listed = web.get(f"/v1/events{query}", headers=bearer(expert.secret)).json()
        seen += [item["seq"] for item in listed["items"]]
        query = f"?limit=3&cursor={listed['next_cursor']}" if listed["has_more"] else ""
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_an_event_says_what_it_is_about_and_full_data_says_how_it_moved(
    web: Web, db: Session
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, state="draft")
    change_state(
        db,
        PROJECT,
        project,
        "submit",
        at=AT,
        event=Event.PROJECT_CHANGED,
        organisation_id=lab.organisation_id,
        actor_id=lab.person_id,
    )
    thin = told(web, lab.key)[0]
    assert thin["resource"] == {
        "kind": "project",
        "id": f"prj_{project.id.hex}",
        "version": project.version,
    }
    assert thin["data"] == {}
    assert thin["version"] == 1
    assert thin["timestamp"] == "2026-03-02T09:00:00Z"
    full = told(web, lab.key, "?data=full")[0]
    assert full["data"]["move"] == {
        "machine": "project",
        "from": "draft",
        "to": "checking",
        "action": "submit",
        "reason_code": None,
    }


def test_an_actor_is_named_to_its_own_side_and_to_ops_only(web: Web, db: Session) -> None:
    lab = make_caller(db, web, Part.LAB)
    expert = make_caller(db, web, Part.EXPERT)
    reviewer = make_caller(db, web, Part.REVIEWER)
    ops = make_caller(db, web, Part.OPS)
    for actor in (reviewer, lab, expert):
        emit(
            db,
            Event.SUBMISSION_ACCEPTED,
            new_id(),
            at=now(),
            organisation_id=lab.organisation_id,
            person_id=expert.person_id,
            actor_id=actor.person_id,
        )

    def actors(key: str) -> list[str | None]:
        found = told(web, key, "?type=submission.accepted")
        return [one["actor"] for one in reversed(found)]

    names = [f"per_{one.person_id.hex}" for one in (reviewer, lab, expert)]
    assert actors(ops.key) == names
    assert actors(lab.key) == [None, names[1], None]
    assert actors(expert.key) == [None, None, names[2]]


def test_an_event_of_a_request_names_the_request(web: Web, db: Session) -> None:
    answer = web.post(
        "/v1/signups",
        json={"part": "expert", "name": "Ada", "email": "ada@x.example"},
        headers={"X-Request-Id": "req-of-this-test"},
    )
    assert answer.status_code == 201
    assert told(web, answer.json()["api_key"])[0]["cause"] == "req-of-this-test"


def test_what_an_event_is_about_has_the_prefix_of_its_kind() -> None:
    assert kind_of("offer.created") == ("offer", "ofr")
    assert kind_of("verdict.recorded") == ("submission", "sub")
    assert kind_of("session.ended") == ("work_session", "ses")
    # An object of Stripe's: it has no prefix of ours.
    assert kind_of("stripe_event.received") == ("stripe_event", "")
    called = {kind_of(event.value)[0] for event in Event}
    assert len(called & set(KINDS.values())) > 20
