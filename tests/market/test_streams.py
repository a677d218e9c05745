"""The event stream: resumed without a gap, bounded for slow readers, ended in order."""

import asyncio
import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, database, new_id, now
from market.embedded import free_port
from market.events import Event, EventRow, emit
from market.feeds import Feed, FeedKind, publish, read_feed, trim_feeds
from market.notices.routes import encoded
from market.people.actions import revoke_key, sign_up
from market.people.queries import refused_keys
from market.streams import HEARTBEAT_S, PENDING, Stream, Streams
from tests.conftest import SECRET
from tests.databases import copy_of
from tests.factories import make_caller
from tests.market.test_embedded import environment
from tests.market.test_people import bearer

PATIENCE_S = 120.0


@dataclass(slots=True)
class Server:
    """One web process over a database of its own."""

    process: subprocess.Popen[bytes]
    port: int
    lab: UUID
    key: str
    key_id: UUID
    person_id: UUID


def start(url: str) -> tuple[subprocess.Popen[bytes], int]:
    """A web process, once it answers."""
    port = free_port(None)
    process = subprocess.Popen(
        [sys.executable, "-m", "market.app"],
        env=environment(
            STUMPWORK_DATABASE_URL=url,
            STUMPWORK_SECRET_KEY=SECRET,
            STUMPWORK_WEB_PORT=str(port),
            STUMPWORK_LOG_LEVEL="WARNING",
        ),
    )
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                process.wait()
                pytest.fail("the web process does not answer")
            time.sleep(0.05)
        else:
            return process, port


@pytest.fixture(scope="module")
def running(server: str) -> Iterator[tuple[str, subprocess.Popen[bytes], int]]:
    """One web process for all tests of this file, over a database of their own."""
    with copy_of(server) as url:
        process, port = start(url)
        yield url, process, port
        process.terminate()
        process.wait(timeout=PATIENCE_S)


@pytest.fixture
def web_process(running: tuple[str, subprocess.Popen[bytes], int]) -> Iterator[Server]:
    """A lab of its own for each test, whose feed begins with the lab itself."""
    url, process, port = running
    database.open(url, pool_size=4)
    with database.begin(PLATFORM) as session:
        joined = sign_up(
            session,
            part=Part.LAB,
            name="Ada",
            email=f"{new_id().hex}@lab.example",
            organisation_name="Lab",
            at=now(),
        )
        assert joined.organisation is not None
    with database.begin(PLATFORM) as session:
        publish(session, at=now())
    yield Server(
        process, port, joined.organisation.id, joined.secret, joined.key.id, joined.person.id
    )
    # Whatever listened for streams of the test's own lets go of its connections first.
    for thread in threading.enumerate():
        if thread.name == "streams":
            thread.join(PATIENCE_S)
    database.close()


@dataclass(slots=True)
class Reader:
    """One open stream, read as a browser reads it."""

    server: Server
    query: str = ""
    after: int | None = None
    connection: http.client.HTTPConnection = field(init=False)
    answer: http.client.HTTPResponse = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection(
            "127.0.0.1", self.server.port, timeout=PATIENCE_S
        )
        headers = bearer(self.server.key)
        if self.after is not None:
            headers["Last-Event-ID"] = str(self.after)
        self.connection.request("GET", f"/v1/events/stream{self.query}", headers=headers)
        self.answer = self.connection.getresponse()

    def block(self) -> dict[str, str]:
        """The next block of fields; empty when the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.answer.readline():
            if line == b"\n":
                return fields
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = value
        return fields

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next events, each with the id and the type that its block named."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            block = self.block()
            assert block, "the stream ended"
            if "data" in block:
                told = json.loads(block["data"])
                assert (str(told["seq"]), told["type"]) == (block["id"], block["event"])
                found.append(told)
        return found

    def close(self) -> None:
        self.connection.close()


def happen(
    lab: UUID, event: Event = Event.PROJECT_CHANGED, count: int = 1, *, told: bool = True
) -> None:
    with database.begin(PLATFORM) as session:
        for _ in range(count):
            emit(session, event, new_id(), at=now(), organisation_id=lab)
    if told:
        with database.begin(PLATFORM) as session:
            while publish(session, at=now()):
                pass


def test_a_stream_tells_what_happens_and_resumes_where_it_was_cut(web_process: Server) -> None:
    with closing(Reader(web_process)) as reader:
        assert reader.answer.getheader("content-type", "").startswith("text/event-stream")
        assert reader.block() == {"retry": "3000", "id": "1"}
        happen(web_process.lab)
        happen(new_id())
        happen(web_process.lab, Event.PROJECT_LIVE)
        assert [(one["seq"], one["type"]) for one in reader.events(2)] == [
            (2, "project.changed"),
            (3, "project.live"),
        ]
    happen(web_process.lab, count=450)
    with closing(Reader(web_process, after=3)) as reader:
        assert [one["seq"] for one in reader.events(450)] == list(range(4, 454))
        happen(web_process.lab)
        assert [one["seq"] for one in reader.events(1)] == [454]
    with closing(Reader(web_process, "?after=452&types=project.changed&data=full")) as reader:
        assert [one["seq"] for one in reader.events(2)] == [453, 454]


def test_a_stream_of_some_types_keeps_the_places_of_all(web_process: Server) -> None:
    happen(web_process.lab, count=300)
    happen(web_process.lab, Event.PROJECT_LIVE)
    with closing(Reader(web_process, "?types=project.live,project.paused", after=0)) as reader:
        assert [one["seq"] for one in reader.events(1)] == [302]
        happen(web_process.lab, count=3)
        happen(web_process.lab, Event.PROJECT_PAUSED)
        assert [one["seq"] for one in reader.events(1)] == [306]


def test_a_reader_that_stands_still_holds_nobody_up_and_misses_nothing(
    web_process: Server,
) -> None:
    # A small window, so that little of what is told disappears into the network.
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", web_process.port))
    slow.sendall(
        f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {web_process.key}"
        "\r\nLast-Event-ID: 1\r\nConnection: close\r\n\r\n".encode()
    )
    select.select([slow], [], [], PATIENCE_S)
    count = 20 * PENDING
    with closing(Reader(web_process, after=1)) as quick:
        happen(web_process.lab, count=count)
        assert [one["seq"] for one in quick.events(count)] == list(range(2, count + 2))
    seen: list[int] = []
    got = b""
    slow.settimeout(PATIENCE_S)
    while len(seen) < count:
        got += slow.recv(65536)
        *lines, got = got.split(b"\n")
        seen += [json.loads(line[6:])["seq"] for line in lines if line.startswith(b"data: {")]
    slow.close()
    assert seen == list(range(2, count + 2))


def test_a_stream_ends_when_its_server_is_told_to_stop(
    running: tuple[str, subprocess.Popen[bytes], int], web_process: Server
) -> None:
    process, port = start(running[0])
    with closing(Reader(replace(web_process, port=port))) as reader:
        assert reader.block()["retry"] == "3000"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert reader.block() == {}
        assert process.wait(timeout=PATIENCE_S) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 5


def test_a_position_that_is_too_old_or_not_there_is_refused_with_what_is_kept(
    web_process: Server,
) -> None:
    happen(web_process.lab, count=9)
    with database.begin(PLATFORM) as session:
        session.execute(
            update(EventRow)
            .where(EventRow.organisation_id == web_process.lab, EventRow.organisation_seq <= 4)
            .values(published_at=now() - timedelta(days=40))
        )
        trim_feeds(session, before=now() - timedelta(days=30))
    for after in (3, 11):
        with closing(Reader(web_process, after=after)) as reader:
            assert reader.answer.status == 410
            refused = json.loads(reader.answer.read())
            assert refused["code"] == "position_gone"
            assert (refused["oldest_seq"], refused["last_seq"]) == (5, 10)
    with closing(Reader(web_process, after=4)) as reader:
        assert [one["seq"] for one in reader.events(6)] == list(range(5, 11))


def test_silence_is_broken_by_a_heartbeat_and_a_revoked_key_ends_its_stream(
    web_process: Server,
) -> None:
    def follow() -> Streams:
        return Streams(encoded, lambda keys: refused_keys(keys, at=now()), heartbeat_s=0.1)

    async def read() -> list[bytes]:
        hub = follow()
        feed = Feed(web_process.lab, FeedKind.ORGANISATION)
        stream = Stream(feed, PLATFORM, web_process.key_id, frozenset(), is_full=False, after=1)
        said: list[bytes] = []
        async for text in hub.follow(stream):
            said.append(text)
            if len(said) == 4:
                with database.begin(PLATFORM) as session:
                    revoke_key(
                        session, web_process.key_id, person_id=web_process.person_id, at=now()
                    )
        assert len(hub) == 0
        hub.end_soon()
        return said

    said = asyncio.run(asyncio.wait_for(read(), PATIENCE_S))
    assert said[0] == b"retry: 3000\nid: 1\n\n"
    assert set(said[1:]) == {b": still here\n\n"}
    assert HEARTBEAT_S == 15.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_dies_ends_its_streams_and_the_next_one_begins_anew(
    web_process: Server,
) -> None:
    faults = [LookupError("what nobody thought of")]

    def refuse(keys: Collection[UUID]) -> set[UUID]:
        if faults:
            raise faults.pop()
        return set()

    async def read() -> tuple[bool, list[bytes]]:
        hub = Streams(encoded, refuse, heartbeat_s=0.1)
        feed = Feed(web_process.lab, FeedKind.ORGANISATION)

        def stream() -> Stream:
            return Stream(feed, PLATFORM, web_process.key_id, frozenset(), is_full=False, after=1)

        first = stream()
        async for _ in hub.follow(first):
            pass
        said: list[bytes] = []
        async for text in hub.follow(stream()):
            said.append(text)
            if len(said) == 3:
                hub.end_soon()
        return first.is_over, said

    is_over, said = asyncio.run(asyncio.wait_for(read(), PATIENCE_S))
    assert is_over
    assert said[1:3] == [b": still here\n\n"] * 2


def test_who_joins_while_the_listener_reads_misses_nothing(
    web_process: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        hub = Streams(encoded, lambda keys: refused_keys(keys, at=now()))

        def stream(tenant_id: UUID, kind: FeedKind) -> Stream:
            return Stream(
                Feed(tenant_id, kind),
                PLATFORM,
                web_process.key_id,
                frozenset(),
                is_full=False,
                after=1,
            )

        late = stream(web_process.lab, FeedKind.ORGANISATION)
        told: asyncio.Future[bytes] = loop.create_future()

        async def follow() -> None:
            async for text in hub.follow(late):
                if b"data:" in text and not told.done():
                    told.set_result(text)

        tasks = []

        async def join() -> None:
            tasks.append(asyncio.create_task(follow()))
            # Until it has read its feed to the end, and waits.
            while late.waiting is None:
                await asyncio.sleep(0.01)

        def reading(session: Session, feed: Feed, **wanted: Any) -> Any:
            if threading.current_thread().name == "streams" and not tasks:
                asyncio.run_coroutine_threadsafe(join(), loop).result(PATIENCE_S)
                happen(web_process.lab)
            return read_feed(session, feed, **wanted)

        monkeypatch.setattr("market.streams.read_feed", reading)
        # The first stream starts the listener.
        first = hub.follow(stream(web_process.person_id, FeedKind.PERSON))
        await anext(first)
        found = await told
        tasks[0].cancel()
        hub.end_soon()
        return found

    assert b"id: 2\n" in asyncio.run(asyncio.wait_for(read(), PATIENCE_S))


def test_one_stream_more_than_a_process_keeps_is_refused_for_now(
    web: TestClient[Any], db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is the machine's to bear, not the test's: here there is room for none.
    monkeypatch.setattr("market.streams.MOST_STREAMS", 0)
    expert = make_caller(db, web, Part.EXPERT)
    answer = expert.get("/v1/events/stream")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?types=offer.created,offer.eaten", 422, "event_type_unknown"),
        ("?after=yesterday", 400, "position_invalid"),
        ("?after=-1", 400, "position_invalid"),
        ("?after=7", 410, "position_gone"),
        ("?since=7", 400, "unknown_parameter"),
        ("?data=fat", 400, "invalid_parameter"),
    ],
)
def test_a_stream_that_cannot_be_begun_is_refused_in_words(
    web: TestClient[Any], db: Session, query: str, status: int, code: str
) -> None:
    expert = make_caller(db, web, Part.EXPERT)
    answer = expert.get(f"/v1/events/stream{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
