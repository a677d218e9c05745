"""Dead letters: a job that failed for good is kept, queued again by hand, or dropped."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import dramatiq
import psycopg
import pytest
from dramatiq.broker import Broker
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select

from market.auth import Part
from market.broker import (
    DeadLetter,
    DeadLetterUnknown,
    Job,
    JobUnknown,
    bind_jobs,
    job,
    message_for,
    open_broker,
)
from market.db import database
from market.dead_letters import (
    drop_letters,
    open_letters,
    queue_again,
)
from market.events import Event, EventRow
from market.feeds import publish
from market.relay import relay_batch
from market.settings import Settings
from tests.conftest import SECRET
from tests.factories import make_caller
from tests.market.test_embedded import PATIENCE_S, environment

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def embedded(committed: str) -> Settings:
    """Settings with the embedded broker, over a database whose commits are real."""
    return Settings(database_url=committed, secret_key=SECRET)


@pytest.fixture
def broker(embedded: Settings) -> Iterator[Broker]:
    """The embedded broker."""
    opened = open_broker(embedded)
    yield opened
    opened.close()


def fail_until(mended: list[bool], ran: list[str]) -> Job:
    """A job that fails for good until its cause is mended."""

    @job(queue="money", max_retries=0)
    def move_money(subject: str) -> None:
        if not mended:
            raise ValueError("the bank is closed")
        ran.append(subject)

    return move_money


def work_until(settings: Settings, jobs: list[Job], done: Callable[[], bool]) -> None:
    """Work on every queue until something holds, as a worker process does: with its own broker."""
    broker = open_broker(settings)
    bind_jobs(broker, jobs)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        until = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < until, "the worker did not get there in time"
            time.sleep(0.02)
    finally:
        worker.stop()
        broker.close()


def letters() -> list[DeadLetter]:
    """Every dead letter, settled or not."""
    with database.begin() as session:
        return list(session.scalars(select(DeadLetter)))


def make_letter(job: str = "move_money") -> DeadLetter:
    """A job that died yesterday."""
    letter = DeadLetter(queue="money", job=job, subject="x", error="ValueError: no", died_at=AT)
    with database.begin() as session:
        session.add(letter)
    return letter


def test_a_job_that_failed_for_good_is_kept_and_runs_when_queued_again(
    embedded: Settings, broker: Broker
) -> None:
    mended: list[bool] = []
    ran: list[str] = []
    move_money = fail_until(mended, ran)
    bind_jobs(broker, [move_money])
    broker.enqueue(message_for(move_money, "an event", "a payout"))
    work_until(embedded, [move_money], lambda: bool(letters()))
    assert [(one.job, one.subject, one.error) for one in letters()] == [
        ("move_money", "a payout", "ValueError: the bank is closed")
    ]
    mended.append(True)
    with database.begin() as session:
        queue_again(session, broker, [move_money], at=AT)
    work_until(embedded, [move_money], lambda: bool(ran))
    assert ran == ["a payout"]
    assert [(one.settled_at, one.settlement) for one in letters()] == [(AT, "queued again")]


def test_a_letter_is_settled_once(broker: Broker) -> None:
    letter = make_letter()
    move_money = fail_until([True], [])
    bind_jobs(broker, [move_money])
    with database.begin() as session:
        assert len(queue_again(session, broker, [move_money], [letter.id], at=AT)) == 1
    with pytest.raises(DeadLetterUnknown), database.begin() as session:
        queue_again(session, broker, [move_money], [letter.id], at=AT)
    with pytest.raises(DeadLetterUnknown), database.begin() as session:
        drop_letters(session, [letter.id], reason="too late", at=AT)


def test_nothing_is_queued_when_one_of_several_is_of_an_unknown_job(broker: Broker) -> None:
    make_letter()
    make_letter("a_job_of_long_ago")
    move_money = fail_until([True], [])
    bind_jobs(broker, [move_money])
    with pytest.raises(JobUnknown), database.begin() as session:
        queue_again(session, broker, [move_money], at=AT)
    assert [one.settled_at for one in letters()] == [None, None]


def test_a_dropped_letter_keeps_its_reason(committed: str) -> None:
    first, second = make_letter(), make_letter()
    with database.begin() as session:
        drop_letters(session, [first.id], reason="paid by hand", at=AT)
    with database.begin() as session:
        assert [one.id for one in open_letters(session)] == [second.id]
    assert {one.settlement for one in letters()} == {"dropped: paid by hand", None}


def test_an_operator_lists_and_drops_by_command(committed: str) -> None:
    letter = make_letter()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "market.dead_letters", *words],
            env=environment(STUMPWORK_DATABASE_URL=committed, STUMPWORK_SECRET_KEY=SECRET),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE_S,
        )

    listed = run("list")
    assert listed.returncode == 0, listed.stderr
    assert str(letter.id) in listed.stdout
    assert "ValueError: no" in listed.stdout
    unknown = run("drop", str(uuid4()), "--reason", "gone")
    assert unknown.returncode == 1
    assert unknown.stderr.count("\n") == 1
    assert run("drop", str(letter.id), "--reason", "paid by hand").returncode == 0
    assert [one.settlement for one in letters()] == ["dropped: paid by hand"]


def test_ops_read_replay_and_drop_and_who_did_it_is_kept(
    committed: str, whole_app: TestClient[Litestar], broker: Broker
) -> None:
    known, dropped, unknown = (
        make_letter("expire_offers"),
        make_letter(),
        make_letter("a_job_of_long_ago"),
    )
    with database.begin() as session:
        ops = make_caller(session, whole_app, Part.OPS)
    with database.begin() as session:
        lab = make_caller(session, whole_app, Part.LAB)
    assert lab.get("/v1/dead-letters").status_code == 403
    listed = ops.get("/v1/dead-letters").json()["items"]
    assert [one["job"] for one in listed] == [
        "a_job_of_long_ago",
        "move_money",
        "expire_offers",
    ]
    path = "/v1/dead-letters/dlt_"
    assert ops.get(f"{path}{known.id.hex}").json()["error"] == "ValueError: no"
    assert ops.get(f"{path}{uuid4().hex}").status_code == 404
    refused = ops.post(f"{path}{unknown.id.hex}/transitions", json={"action": "replay"})
    assert (refused.status_code, refused.json()["code"]) == (409, "job_unknown")
    for letter, action in ((known, "replay"), (dropped, "drop")):
        answer = ops.post(
            f"{path}{letter.id.hex}/transitions", json={"action": action, "reason": "seen"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["settled_by"] == f"per_{ops.person_id.hex}"
        again = ops.post(f"{path}{letter.id.hex}/transitions", json={"action": action})
        assert again.status_code == 404
    settled = ops.get("/v1/dead-letters?settled=true").json()["items"]
    assert [one["settlement"] for one in settled] == ["dropped: seen", "queued again: seen"]
    with database.begin() as session:
        publish(session, at=AT)
    relay_batch(broker, at=AT)
    with psycopg.connect(committed.replace("+psycopg", "")) as plain:
        queued = plain.execute("select message ->> 'actor_name' from dramatiq.queue").fetchall()
    assert queued == [("expire_offers",)]
    with database.begin() as session:
        told = session.scalars(
            select(EventRow)
            .where(EventRow.type.in_((Event.DEAD_LETTER_REPLAYED, Event.DEAD_LETTER_DROPPED)))
            .order_by(EventRow.position)
        ).all()
        assert [(one.subject_id, one.actor_id) for one in told] == [
            (known.id, ops.person_id),
            (dropped.id, ops.person_id),
        ]
