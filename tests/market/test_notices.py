"""What happened, told to whom it concerns and to nobody else."""

from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import now
from market.events import Event, emit
from market.people.actions import sign_up
from tests.market.test_people import bearer, join

Web = TestClient[Litestar]


def types_seen(web: Web, key: str, query: str = "") -> list[str]:
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
    assert types_seen(web, expert.secret, "?type=nothing.known") == []


def test_ops_read_everything(web: Web, db: Session) -> None:
    ops = sign_up(db, part=Part.OPS, name="O", email="o@x.example", at=now())
    join(web)
    assert "organisation.joined" in types_seen(web, ops.secret)
