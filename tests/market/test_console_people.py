"""Pages about people: messages to a cohort, profiles of their work, and their own record."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.departures.jobs import advance_departures
from market.departures.queries import departure_of
from market.experts.models import Expert
from market.http import wire_id
from market.messages.models import CohortMessage, MessageCopy
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.records.models import Attestation
from market.records.queries import published_keys
from market.records.rules import verified
from tests.factories import make_expert, make_offer, make_project, make_task
from tests.market.reviewed import STUMP, cast, hand_in
from tests.market.test_console import check_guards, send, token, visit, visit_as

Web = TestClient[Any]
React = Callable[[], list[str]]
CHEMISTS = 'domains has "chemistry"'
OPS = "/console/ops/experts"


def test_ops_count_whom_a_message_reaches_before_they_send_it(
    web: Web, db: Session, react: React
) -> None:
    make_expert(db)
    make_expert(db)
    make_expert(db, domains=("law",))
    visit(web, db, Part.OPS)
    home = f"{OPS}/messages"
    page = web.get(home)
    assert "No message was sent yet." in page.text
    check_guards(page)
    csrf = token(web, home)
    counted = send(web, home, csrf, do="count", expression=CHEMISTS, subject="Ne<w")
    assert counted.status_code == 200
    assert "It would reach 2 people now. Nothing was sent." in counted.text
    assert 'value="Ne&lt;w"' in counted.text
    assert db.scalars(select(CohortMessage)).all() == []
    nobody = send(web, home, csrf, do="count", expression='domains has "music"')
    assert "reach 0 people" in nobody.text
    odd = send(web, home, csrf, do="count", expression="domains has")
    assert odd.status_code == 422
    given = {"expression": CHEMISTS, "subject": "New rates", "content": "From <b>Monday</b>."}
    empty = send(web, home, csrf, do="send", **{**given, "content": " "})
    assert (empty.status_code, 'value="New rates"' in empty.text) == (422, True)
    done = send(web, home, csrf, do="send", once="a", **given)
    assert done.status_code == 303, done.text
    # Sent twice, it is one message.
    again = send(web, home, csrf, do="send", once="a", **given)
    assert again.headers["location"] == done.headers["location"]
    assert len(db.scalars(select(CohortMessage)).all()) == 1
    react()
    page = web.get(done.headers["location"])
    check_guards(page)
    assert "From &lt;b&gt;Monday" in page.text
    assert "<dt>Told</dt><dd>2<small>" in page.text
    assert len(db.scalars(select(MessageCopy)).all()) == 2
    assert "New rates" in web.get(home).text
    assert web.get(f"{home}/msg_nothing").status_code == 404


def test_a_lab_writes_to_its_own_people_and_is_told_no_small_number(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    home = "/console/lab/messages"
    csrf = token(web, home)
    given = {"expression": CHEMISTS, "subject": "Thanks", "content": "For the last round."}
    make_expert(db)
    db.commit()
    # An expert who never worked for it is none of its people.
    nobody = send(web, home, csrf, do="send", **given)
    assert (nobody.status_code, "Nobody fits" in nobody.text) == (422, True)
    project = make_project(db, organisation_id=lab.organisation_id)
    make_offer(db, make_task(db, project), make_expert(db).id, accepted=True)
    db.commit()
    counted = send(web, home, csrf, do="count", **given)
    assert "fewer than 5 people" in counted.text
    done = send(web, home, csrf, do="send", **given)
    assert done.status_code == 303, done.text
    page = web.get(done.headers["location"])
    check_guards(page)
    assert "Thanks" in page.text
    visit(web, db, Part.LAB)
    assert web.get(done.headers["location"]).status_code == 404
    assert "No message was sent yet." in web.get(home).text


def test_profiles_of_people_are_read_by_days_and_field_and_kept_as_csv(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    home = f"{OPS}/profiles"
    page = web.get(home)
    assert "Nothing was decided here." in page.text
    check_guards(page)
    at = datetime.now(UTC) - timedelta(days=2)
    handed = hand_in(db, reviews=1, at=at)
    cast(db, handed, STUMP, at=at + timedelta(hours=1))
    db.commit()
    page = web.get(home)
    check_guards(page)
    assert "100.0\u00a0%" in page.text
    assert "Nothing was decided here." in web.get(f"{home}?days=1").text
    assert "Nothing was decided here." in web.get(f"{home}?domain=law").text
    votes = web.get(f"{home}?of=reviewers")
    check_guards(votes)
    assert "With the verdict" in votes.text
    kept = web.get(f"{home}.csv")
    assert kept.headers["content-disposition"] == 'attachment; filename="experts.csv"'
    assert wire_id("per", handed.expert_id) in kept.text
    assert web.get(f"{home}.csv?of=reviewers").text.startswith("reviewer_id,votes")
    assert web.get(f"{home}?days=0").status_code == 400
    visit(web, db, Part.EXPERT)
    assert web.get(f"{home}.csv", follow_redirects=False).status_code == 303


def test_an_expert_takes_its_record_and_an_attestation_along(web: Web, db: Session) -> None:
    expert = make_expert(db)
    me = visit_as(web, db, expert.id)
    home = "/console/expert/profile"
    answer = web.get("/console/expert/record")
    assert answer.headers["content-disposition"] == 'attachment; filename="record.jsonl"'
    check_guards(answer)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("record", "end")
    csrf = token(web, home)
    none = send(web, "/console/expert/attestations", csrf)
    assert "No skill of yours is verified yet" in none.text
    assert none.status_code in (409, 422)
    at = datetime.now(UTC)
    asked = invite_to_qualify(db, expert.id, domain="chemistry.organic", pass_score=70, at=at)
    begin_qualification(db, asked.id, person_id=expert.id, at=at)
    grade_qualification(db, asked.id, score=88, evidence=["a test"], at=at)
    db.commit()
    done = send(web, "/console/expert/attestations", csrf, once="b")
    assert done.status_code == 303, done.text
    again = send(web, "/console/expert/attestations", csrf, once="b")
    assert again.headers["location"] == done.headers["location"]
    assert len(db.scalars(select(Attestation)).all()) == 1
    path = done.headers["location"]
    kept = web.get(path)
    assert kept.headers["content-disposition"].startswith('attachment; filename="attestation-')
    said = verified(**kept.json(), keys=published_keys(db))
    assert said["person"]["id"] == wire_id("per", me.person_id)
    visit(web, db, Part.EXPERT)
    assert web.get(path).status_code == 404


def test_ops_close_a_country_and_its_expert_sees_how_far_leaving_is(web: Web, db: Session) -> None:
    expert = make_expert(db)
    db.execute(update(Expert).where(Expert.id == expert.id).values(country="FR"))
    visit(web, db, Part.OPS)
    home = f"{OPS}/departures"
    page = web.get(home)
    assert "Nobody leaves." in page.text
    check_guards(page)
    csrf = token(web, home)
    countries = f"{home}/countries"
    short = send(web, countries, csrf, country="FR", reason="short")
    assert (short.status_code, "say why" in short.text.lower()) == (422, True)
    why = "The law <there> has changed."
    assert send(web, countries, csrf, country="fr", reason=why).status_code == 303
    advance_departures("")
    found = web.get(home).text
    assert "The law &lt;there&gt; has changed." in found
    assert "Open again" in found
    visit_as(web, db, expert.id)
    mine = web.get("/console/expert/leaving")
    check_guards(mine)
    assert "The law &lt;there&gt; has changed." in mine.text
    assert "Stay after all" not in mine.text
    stay = send(
        web, "/console/expert/leaving", token(web, "/console/expert/leaving"), action="stay"
    )
    assert (stay.status_code, "your country is closed" in stay.text) == (409, True)
    visit(web, db, Part.OPS)
    assert send(web, countries, token(web, home), country="FR", action="open").status_code == 303
    advance_departures("")
    visit_as(web, db, expert.id)
    csrf = token(web, "/console/expert/leaving")
    left = send(web, "/console/expert/leaving", csrf, reason="It moves to the mountains.")
    assert left.status_code == 303
    assert "Stay after all" in web.get("/console/expert/leaving").text
    visit(web, db, Part.OPS)
    row = departure_of(db, expert.id)
    assert row is not None
    ended = send(web, f"{home}/{wire_id('dep', row.id)}/call-off", token(web, home))
    assert ended.status_code == 303
    assert departure_of(db, expert.id) is None
