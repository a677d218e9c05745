"""What one of several annotators of a task can learn of another's answer: nothing, anywhere."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, claim_stump, make_attempt, record_answer, submit_attempt
from market.auth import Part
from market.events import EventRow
from market.http import wire_id
from market.reviews.actions import open_reviews
from market.reviews.models import Review
from market.submissions.actions import give_back, save_draft
from market.work.actions import start_session
from market.work.models import TimeEntry
from tests.factories import Caller, key_for, make_expert, make_offer, make_project, make_task

SECRET = "xanthophyll"
"""A word that stands in all that the peer wrote, and in what the model told it."""

STREAMED = {"/v1/events/stream"}
"""Addresses that answer for as long as somebody listens; what they tell is looked at as rows."""

PLACE = re.compile(r"\{(\w+)\}")
NAMED = ("project", "task", "offer", "submission", "attempt", "session", "thread", "review")


def reads(app: Litestar) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each address of the API that answers a GET: its path, the names in it and those after it."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            if "GET" in handler.http_methods and route.path.startswith("/v1"):
                inside = PLACE.findall(route.path_format)
                given = set(handler.parsed_fn_signature.parameters) - set(inside)
                yield route.path_format, inside, sorted(given)


def walk(caller: Caller, app: Litestar, known: dict[str, list[str]]) -> tuple[set[str], list[str]]:
    """Ask every address with every id of its kind that is known, as a name in it or as a filter:
    which answered with something, and which of those told the secret.
    """
    answered, told = set(), []
    for path, inside, given in reads(app):
        if path in STREAMED:
            continue
        # What is of a kind that this scene has not is asked for all the same.
        named = [known.get(name.removesuffix("_id"), ["1"]) for name in inside]
        filters = [(name, one) for name in given for one in known.get(name.removesuffix("_id"), [])]
        asked = [
            (path.format(**dict(zip(inside, ids, strict=True))), query)
            for ids in product(*named)
            for query in ({}, *(dict([one]) for one in filters))
        ]
        for address, query in asked:
            answer = caller.get(address, params=query)
            assert answer.status_code < 500, (address, query, answer.text)
            if answer.status_code == 403 and answer.json()["code"] == "scope_missing":
                # Not an expert's to ask at all, whatever the ids.
                break
            if answer.status_code == 200:
                answered.add(path)
            if SECRET in answer.text:
                told.append(f"{address} {query}")
    return answered, told


def test_no_address_tells_a_second_annotator_anything_of_its_peers_answer(
    db: Session, web: TestClient[Litestar]
) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    # Drafts that are left are passed on, which must not become a way around.
    project = make_project(db, at=at, answers_per_task=2, passes_drafts=True)
    task, other = make_task(db, project, at=at), make_task(db, project, at=at, slots=1)
    peer, me = make_expert(db, at=at).id, make_expert(db, at=at).id
    theirs = make_offer(db, task, peer, at=at)
    mine = make_offer(db, task, me, at=at)
    # The peer has handed in a stump, says something of the task, and has left other work.
    session = start_session(db, theirs.id, expert_id=peer, at=at)
    asked = make_attempt(
        db, theirs.id, expert_id=peer, prompt=f"{SECRET} asked", reference=f"{SECRET} right", at=at
    )
    told = Answer(f"{SECRET} told", 200, 12, b"{}", b'{"a": 5}', 3, 3, "stop", "m-1")
    record_answer(db, asked.id, 0, told, at=at)
    claim_stump(db, asked.id, expert_id=peer, claims_stump=True, at=at)
    save_draft(db, theirs.id, expert_id=peer, payload={"answer": f"{SECRET} begun"}, at=at)
    ends = at + timedelta(seconds=60)
    handed = submit_attempt(
        db, theirs.id, asked.id, expert_id=peer, payload={"answer": SECRET}, at=ends
    )
    open_reviews(db, handed.id, at=ends)
    left = make_offer(db, other, peer, at=ends)
    save_draft(db, left.id, expert_id=peer, payload={"answer": f"{SECRET} left"}, at=ends)
    give_back(db, left.id, expert_id=peer, reason="no_time", at=ends)
    author = key_for(db, web, peer, Part.EXPERT)
    pinned = {"subject": wire_id("sub", handed.id), "pin": {"field": "/answer"}}
    threads = [
        author.post("/v1/threads", json={"content": f"Is {SECRET} meant?", **about}).json()["id"]
        for about in (pinned, {"subject": wire_id("tsk", task.id)})
    ]
    # The second one works on the same task, with a draft of its own.
    start_session(db, mine.id, expert_id=me, at=ends)
    save_draft(db, mine.id, expert_id=me, payload={"answer": "my own words"}, at=ends)
    caller = key_for(db, web, me, Part.EXPERT)
    entry = db.scalars(select(TimeEntry.id).where(TimeEntry.offer_id == theirs.id)).one()
    known = {
        "project": [wire_id("prj", project.id)],
        "task": [wire_id("tsk", task.id)],
        "offer": [wire_id("ofr", one) for one in (theirs.id, mine.id, left.id)],
        "submission": [wire_id("sub", handed.id)],
        "attempt": [wire_id("att", asked.id)],
        "session": [wire_id("ses", session.id)],
        "thread": threads,
        "review": [
            wire_id("rev", one)
            for one in db.scalars(select(Review.id).where(Review.submission_id == handed.id))
        ][:1],
        "entry": [wire_id("tim", entry)],
        "expert": [wire_id("per", peer)],
        "person": [wire_id("per", peer)],
        "model": [wire_id("mdl", asked.target_model_id)],
    }
    known["subject"] = [one for kind in NAMED for one in known[kind]]

    assert SECRET in author.get(f"/v1/submissions/{known['submission'][0]}").text
    answered, found = walk(caller, web.app, known)
    assert found == []
    assert {"/v1/offers/{offer_id}", "/v1/offers/{offer_id}/passed-draft"} <= answered
    assert {
        "/v1/threads",
        "/v1/submissions",
        "/v1/projects/{project_id}/effective-wage",
    } <= answered
    # Neither is it told by the stream, which is made of these rows.
    assert not any(SECRET in str(data) for data in db.scalars(select(EventRow.data)))
