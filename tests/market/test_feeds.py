"""Places in feeds: dense, in order, given once, whoever publishes and whoever dies meanwhile."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from market.broker import open_broker
from market.db import PLATFORM, current_cause, database, new_id, now
from market.events import Event, EventRow, News, emit, emit_all
from market.feeds import (
    EVERYTHING,
    PLATFORM_FEED,
    Feed,
    FeedKind,
    head_of,
    publish,
    read_feed,
    seq_in,
    trim_feeds,
)
from market.relay import BATCH, relay_round
from market.settings import Settings
from tests.conftest import SECRET
from tests.market.test_embedded import environment

PATIENCE_S = 120.0


def happen(organisation_id: UUID | None = None, person_id: UUID | None = None) -> UUID:
    """One event, committed."""
    with database.begin(PLATFORM) as session:
        return emit(
            session,
            Event.PROJECT_CHANGED,
            new_id(),
            at=now(),
            organisation_id=organisation_id,
            person_id=person_id,
        )


def publish_all() -> int:
    with database.begin(PLATFORM) as session:
        return publish(session, at=now())


def places(feed: Feed) -> list[int]:
    """Every place of a feed, in the order in which its events were written."""
    with database.begin(PLATFORM) as session:
        rows = session.scalars(feed.events().order_by(EventRow.position))
        return [seq_in(feed, row) for row in rows]


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def relays(url: str, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Relays as processes of their own."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "market.relay"],
            env=environment(
                STUMPWORK_DATABASE_URL=url,
                STUMPWORK_SECRET_KEY=SECRET,
                STUMPWORK_LOG_LEVEL="WARNING",
            ),
        )
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=PATIENCE_S)


def test_each_tenant_counts_its_own_events_from_one(db: Session) -> None:
    lab, other, person = new_id(), new_id(), new_id()
    for organisation_id, person_id in (
        (lab, None),
        (lab, person),
        (None, person),
        (other, None),
        (None, None),
        (lab, None),
    ):
        emit(
            db,
            Event.OFFER_CREATED,
            new_id(),
            at=now(),
            organisation_id=organisation_id,
            person_id=person_id,
        )
    assert publish(db, at=now(), limit=4) == 4
    assert publish(db, at=now(), limit=4) == 2
    assert publish(db, at=now()) == 0
    found = db.execute(
        select(EventRow.platform_seq, EventRow.organisation_seq, EventRow.person_seq).order_by(
            EventRow.position
        )
    ).all()
    assert [tuple(row) for row in found] == [
        (1, 1, None),
        (2, 2, 1),
        (3, None, 2),
        (4, 1, None),
        (5, None, None),
        (6, 3, None),
    ]
    assert head_of(db, lab) == (1, 3)
    assert head_of(db, person) == (1, 2)
    assert head_of(db, PLATFORM_FEED) == (1, 6)
    assert head_of(db, new_id()) == (1, 0)


def test_while_one_publishes_another_neither_waits_nor_numbers(committed: str) -> None:
    happen()
    with database.begin(PLATFORM) as first:
        assert publish(first, at=now()) == 1
        late = happen()
        # A second one at the same moment finds the turn taken.
        assert publish_all() == 0
        with database.begin(PLATFORM) as reader:
            assert read_feed(reader, EVERYTHING, after=0, limit=10) == []
    assert publish_all() == 1
    with database.begin(PLATFORM) as reader:
        assert reader.get_one(EventRow, late).platform_seq == 2


def test_what_a_publisher_numbered_when_it_failed_is_numbered_again(committed: str) -> None:
    happen()

    def die_while_publishing() -> None:
        with database.begin(PLATFORM) as session:
            assert publish(session, at=now()) == 1
            raise RuntimeError("the process dies here")

    with pytest.raises(RuntimeError):
        die_while_publishing()
    assert publish_all() == 1
    assert places(EVERYTHING) == [1]


def test_an_event_says_what_led_to_it(db: Session) -> None:
    token = current_cause.set("req_of_a_test")
    try:
        with database.begin(PLATFORM) as session:
            made = emit(session, Event.PROJECT_CHANGED, new_id(), at=now())
    finally:
        current_cause.reset(token)
    assert db.get_one(EventRow, made).cause == "req_of_a_test"


def test_old_events_leave_the_feed_and_stay_in_the_history(db: Session) -> None:
    lab = new_id()
    for _ in range(3):
        emit(db, Event.PROJECT_CHANGED, new_id(), at=now(), organisation_id=lab)
    publish(db, at=now())
    long_ago = now() - timedelta(days=60)
    db.execute(update(EventRow).where(EventRow.organisation_seq <= 2).values(published_at=long_ago))
    trim_feeds(db, before=now() - timedelta(days=30))
    assert head_of(db, lab) == (3, 3)
    trim_feeds(db, before=now() + timedelta(days=1))
    assert head_of(db, lab) == (4, 3)
    assert len(db.scalars(select(EventRow).where(EventRow.organisation_id == lab)).all()) == 3


def test_no_reader_sees_a_gap_while_relays_publish_and_one_is_killed(committed: str) -> None:
    labs = [new_id() for _ in range(3)]
    people = [new_id() for _ in range(3)]
    written = 0
    stop = threading.Event()
    gaps: list[str] = []

    def read_along(feed: Feed) -> None:
        """Follow a feed as a reader does, and note every place that came too early or late."""
        seen = 0
        while not stop.is_set():
            with database.begin(PLATFORM) as session:
                for row in read_feed(session, feed, after=seen, limit=50):
                    if seq_in(feed, row) != seen + 1:
                        gaps.append(f"{feed.kind} {seen} then {seq_in(feed, row)}")
                    seen = seq_in(feed, row)

    def write(nth: int, count: int) -> None:
        for each in range(count):
            happen(labs[(nth + each) % 3], people[each % 3] if each % 2 else None)

    feeds = [
        EVERYTHING,
        Feed(labs[0], FeedKind.ORGANISATION),
        Feed(people[1], FeedKind.PERSON),
    ]
    with relays(committed, 3) as running:
        readers = [threading.Thread(target=read_along, args=(feed,)) for feed in feeds]
        for reader in readers:
            reader.start()
        assert eventually(lambda: happen() is not None and head_seq() > 0)
        for wave, victim in enumerate(running[:2]):
            writers = [threading.Thread(target=write, args=(n, 60)) for n in range(3)]
            for writer in writers:
                writer.start()
            time.sleep(0.1)
            os.kill(victim.pid, signal.SIGKILL)
            for writer in writers:
                writer.join()
            written += 180 * (wave + 1)
        assert eventually(lambda: not waiting())
        time.sleep(0.1)
        stop.set()
        for reader in readers:
            reader.join()
    assert gaps == []
    for feed in (*feeds, *(Feed(lab, FeedKind.ORGANISATION) for lab in labs)):
        found = places(feed)
        assert sorted(found) == list(range(1, len(found) + 1)), feed
    assert len(places(EVERYTHING)) >= 360


def head_seq() -> int:
    with database.begin(PLATFORM) as session:
        return head_of(session, PLATFORM_FEED)[1]


def waiting() -> bool:
    """Whether an event is not published, or the jobs after it not queued."""
    with database.begin(PLATFORM) as session:
        return bool(
            session.scalar(
                text(
                    "select exists (select from market.event"
                    " where platform_seq is null or relayed_at is null)"
                )
            )
        )


CLOCK = """
import sys
from datetime import UTC, datetime, timedelta
from market import relay
from market.broker import job, open_broker
from market.clock import Entry
from market.db import database
from market.settings import in_force, read_settings
settings = in_force.open(read_settings())
database.open(settings.database_url, pool_size=2)
broker = open_broker(settings)
@job(queue="default")
def count_a_slot(slot: str) -> None:
    pass
timetable = (Entry(count_a_slot, every=timedelta(milliseconds=50)),)
print("ready", flush=True)
sys.stdin.readline()
for step in range(160):
    at = datetime(2026, 1, 5, tzinfo=UTC) + step * timedelta(milliseconds=25)
    relay.tick(broker, timetable, at=at)
broker.close()
"""


def test_what_a_person_waits_for_is_queued_before_the_rest_of_a_burst(
    committed: str,
) -> None:
    with database.begin(PLATFORM) as session:
        emit_all(session, [News(Event.TASK_HELD, new_id()) for _ in range(2 * BATCH)], at=now())
        emit(session, Event.SUBMISSION_SUBMITTED, new_id(), at=now())
    with database.begin(PLATFORM) as session:
        while publish(session, at=now()):
            pass
    broker = open_broker(Settings(database_url=committed, secret_key=SECRET))
    assert relay_round(broker, at=now()) == BATCH
    with database.begin(PLATFORM) as session:
        queued = session.execute(
            text(
                "select queue_name, message ->> 'actor_name', count(*) from dramatiq.queue"
                " group by 1, 2 order by 1, 2"
            )
        ).all()
    assert [tuple(row) for row in queued] == [
        ("default", "follow_checks", 1),
        ("default", "open_reviews", 1),
        ("default.bulk", "note_task", BATCH),
    ]
    assert (relay_round(broker, at=now()), relay_round(broker, at=now())) == (BATCH, 0)
    broker.close()


def test_two_schedulers_in_two_processes_fire_no_slot_twice(committed: str) -> None:
    clocks = [
        subprocess.Popen(
            [sys.executable, "-c", CLOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(STUMPWORK_DATABASE_URL=committed, STUMPWORK_SECRET_KEY=SECRET),
        )
        for _ in range(2)
    ]
    for clock in clocks:
        assert clock.stdout is not None
        assert clock.stdout.readline() == b"ready\n"
    for clock in clocks:
        assert clock.stdin is not None
        clock.stdin.write(b"go\n")
        clock.stdin.flush()
    for clock in clocks:
        clock.communicate(timeout=PATIENCE_S)
        assert clock.returncode == 0
    with psycopg.connect(committed.replace("+psycopg", "")) as plain:
        queued = plain.execute(
            "select message ->> 'message_id' from dramatiq.queue"
            " where message ->> 'actor_name' = 'count_a_slot'"
        ).fetchall()
        slots = plain.execute(
            "select slot from market.schedule_slot where name = 'count_a_slot' order by slot"
        ).fetchall()
    assert len(queued) == len(set(queued)) == len(slots)
    # Both went through the same four seconds, and none of their slots was left out.
    assert len(slots) == 80
    moments = [slot for (slot,) in slots]
    assert all(
        later - sooner == timedelta(milliseconds=50)
        for sooner, later in itertools.pairwise(moments)
    )
