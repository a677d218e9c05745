"""Open streams of one web process: a listener and a reader for all of them, however many there are.

One thread listens to PostgreSQL, reads what was published once, and hands each stream what is its
own. A stream that cannot keep up holds a bounded number of events here; what is beyond them it
reads from its feed again, at its own pace.
"""

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVarTuple, Unpack
from uuid import UUID

import anyio.to_thread
import psycopg
import structlog
from anyio import CapacityLimiter
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from market.db import PLATFORM, Scope, database
from market.errors import MarketError
from market.events import EventRow
from market.feeds import CHANNEL, EVERYTHING, Feed, FeedKind, head_of, read_feed, seq_in

HEARTBEAT_S = 15.0
RETRY_MS = 3000
PENDING = 256
"""How many events wait in memory for a slow reader before it is sent back to its feed."""

PAGE = 200
MOST_STREAMS = 4_000
TURNS = 16
"""In how many parts the streams are told that the line still holds, spread over a heartbeat."""
POLL_S = 1.0
"""How long after a lost notification what was published is found all the same."""

Ts = TypeVarTuple("Ts")

log = structlog.get_logger(__name__)

Encode = Callable[[Session, Feed, Sequence[EventRow], bool], list[bytes]]
RefusedKeys = Callable[[Collection[UUID]], set[UUID]]


class TooManyStreams(MarketError):
    """One stream more than this process keeps open."""

    def __init__(self) -> None:
        super().__init__("too many streams are open here; close some, or come back shortly")


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as a stream carries it; a browser keeps its id, and sends it when it comes back."""

    seq: int
    event_type: str
    text: bytes


@dataclass(slots=True, eq=False)
class Stream:
    """One reader: what it wants, and what waits for it. Only the event loop touches it."""

    feed: Feed
    scope: Scope
    key_id: UUID
    types: frozenset[str]
    is_full: bool
    after: int
    is_behind: bool = True
    is_over: bool = False
    pending: deque[Frame] = field(default_factory=deque)
    turn: int = 0
    """When, among the turns of a heartbeat, it is told that the line still holds."""
    waiting: asyncio.Future[bool] | None = None

    def offer(self, frame: Frame) -> None:
        """Take one event, or note that this reader must read its feed again."""
        if self.is_behind or (self.types and frame.event_type not in self.types):
            return
        if len(self.pending) >= PENDING:
            self.pending.clear()
            self.is_behind = True
        else:
            self.pending.append(frame)
        self.wake()

    def end(self) -> None:
        """Let the reader go, after what waits for it."""
        self.is_over = True
        self.wake()

    def wake(self, *, is_news: bool = True) -> None:
        """Let the reader go on, if it waits."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(is_news)

    async def news(self) -> bool:
        """Wait until there is something to read, or until a heartbeat is due: whether there is.

        One future and no timer of its own: with a thousand streams what each event costs is this.
        """
        self.waiting = asyncio.get_running_loop().create_future()
        try:
            return await self.waiting
        finally:
            self.waiting = None


class Streams:
    """Every open stream of this process. The listener starts with the first of them."""

    def __init__(
        self, encode: Encode, refused_keys: RefusedKeys, *, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._encode = encode
        self._refused_keys = refused_keys
        self._heartbeat_s = heartbeat_s
        self._open: set[Stream] = set()
        self._by_feed: dict[tuple[UUID, bool], set[Stream]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: threading.Thread | None = None
        self._stop = threading.Event()
        self._turn = 0
        # Catching up must not take every thread and connection from the other requests.
        self._readers: CapacityLimiter | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self) -> None:
        """Refuse one stream more than this process keeps open.

        Raises:
            TooManyStreams.
        """
        if len(self._open) >= MOST_STREAMS:
            raise TooManyStreams()

    def end_soon(self) -> None:
        """Let every reader go; from any thread, and from a signal."""
        self._stop.set()
        self._in_loop(self._end_all)

    def _in_loop(self, act: Callable[[Unpack[Ts]], None], *given: *Ts) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act, *given)

    def _end_all(self) -> None:
        for stream in self._open:
            stream.end()

    def _send_back(self) -> None:
        for stream in self._open:
            stream.is_behind = True
            stream.wake()

    async def follow(self, stream: Stream) -> AsyncIterator[bytes]:
        """What a stream carries, from the place after which it begins until somebody ends it."""
        self._start()
        key = (stream.feed.tenant_id, stream.is_full)
        self._turn = (self._turn + 1) % TURNS
        stream.turn = self._turn
        self._open.add(stream)
        self._by_feed[key].add(stream)
        try:
            # An id alone: whoever is cut off before the first event can resume all the same.
            yield b"retry: %d\nid: %d\n\n" % (RETRY_MS, stream.after)
            while not (stream.is_over or self._stop.is_set()):
                if stream.is_behind:
                    async for text in self._catch_up(stream):
                        yield text
                    continue
                if not stream.pending:
                    if not await stream.news():
                        yield b": still here\n\n"
                    continue
                frame = stream.pending.popleft()
                if frame.seq > stream.after:
                    stream.after = frame.seq
                    yield frame.text
        finally:
            self._open.discard(stream)
            self._by_feed[key].discard(stream)
            if not self._by_feed[key]:
                del self._by_feed[key]

    async def _catch_up(self, stream: Stream) -> AsyncIterator[bytes]:
        # From now on events wait in memory, so that none falls between the page and the next one.
        stream.is_behind = False
        stream.pending.clear()
        frames, reached = await anyio.to_thread.run_sync(self._page, stream, limiter=self._readers)
        if reached is None:
            stream.is_behind = True
        for frame in frames:
            stream.after = frame.seq
            yield frame.text
        if reached is not None:
            stream.after = max(stream.after, reached)

    def _page(self, stream: Stream) -> tuple[list[Frame], int | None]:
        """The next page of a stream's feed, and the place that was reached if it was the last."""
        with database.begin(stream.scope) as session:
            _, head = head_of(session, stream.feed.tenant_id)
            rows = read_feed(
                session,
                stream.feed,
                after=stream.after,
                up_to=head,
                types=stream.types,
                limit=PAGE,
            )
            frames = self._frames(session, stream.feed, rows, stream.is_full)
        return frames, None if len(rows) == PAGE else head

    def _frames(
        self, session: Session, feed: Feed, rows: Sequence[EventRow], is_full: bool
    ) -> list[Frame]:
        bodies = self._encode(session, feed, rows, is_full)
        return [
            Frame(
                seq, row.type, b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, row.type.encode(), body)
            )
            for seq, row, body in zip((seq_in(feed, r) for r in rows), rows, bodies, strict=True)
        ]

    def _beat(self, turn: int) -> None:
        # A few at a time, so that no event waits behind the heartbeats of all.
        for stream in self._open:
            if stream.turn == turn:
                stream.wake(is_news=False)
        if self._loop is not None and not self._stop.is_set():
            self._loop.call_later(self._heartbeat_s / TURNS, self._beat, (turn + 1) % TURNS)

    # The listener ---------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._readers = CapacityLimiter(4)
            self._beat(0)
        if self._listener is None:
            self._listener = threading.Thread(target=self._run, name="streams", daemon=True)
            self._listener.start()

    def _run(self) -> None:
        try:
            self._listen()
        finally:
            # Nobody waits for news that cannot come: readers come back, the first with a listener.
            self._in_loop(self._end_listened)

    def _end_listened(self) -> None:
        self._listener = None
        self._end_all()

    def _listen(self) -> None:
        address = database.engine.url.set(drivername="postgresql")
        place: int | None = None
        while not self._stop.is_set():
            try:
                with psycopg.connect(
                    address.render_as_string(hide_password=False), autocommit=True
                ) as listener:
                    listener.execute(f"listen {CHANNEL}")
                    place = self._serve(listener, place)
            except (psycopg.Error, SQLAlchemyError, OSError) as lost:
                log.warning("streams.lost_database", error=str(lost).splitlines()[0][:200])
                self._stop.wait(1.0)

    def _serve(self, listener: psycopg.Connection, place: int | None) -> int | None:
        checked = time.monotonic()
        while not self._stop.is_set():
            place = self._pump(place)
            if time.monotonic() - checked >= self._heartbeat_s:
                self._end_refused()
                checked = time.monotonic()
            for _ in listener.notifies(timeout=min(POLL_S, self._heartbeat_s), stop_after=1):
                pass
        return place

    def _pump(self, place: int | None) -> int:
        """Read what was published after a place, once, and hand it to the streams it is for."""
        while True:
            with database.begin(PLATFORM) as session:
                if place is None:
                    place = head_of(session, EVERYTHING.tenant_id)[1]
                    # A stream that caught up before this moment may have missed what came since.
                    self._in_loop(self._send_back)
                    return place
                rows = read_feed(session, EVERYTHING, after=place, limit=PAGE)
                # Looked at after the rows: whoever comes later finds them in its own feed.
                wanted = list(self._by_feed)
                found = [
                    (key, self._frames(session, feed, mine, key[1]))
                    for key, feed, mine in _shares(wanted, rows)
                ]
            if rows:
                place = seq_in(EVERYTHING, rows[-1])
            if found:
                self._in_loop(self._hand_out, found)
            if len(rows) < PAGE:
                return place

    def _hand_out(self, found: list[tuple[tuple[UUID, bool], list[Frame]]]) -> None:
        for key, frames in found:
            for stream in self._by_feed.get(key, ()):
                for frame in frames:
                    stream.offer(frame)

    def _end_refused(self) -> None:
        keys = {stream.key_id for stream in list(self._open)}
        refused = self._refused_keys(keys) if keys else set()
        if refused:
            self._in_loop(self._end_those, refused)

    def _end_those(self, refused: set[UUID]) -> None:
        for stream in self._open:
            if stream.key_id in refused:
                stream.end()


def _shares(
    wanted: Collection[tuple[UUID, bool]], rows: Sequence[EventRow]
) -> list[tuple[tuple[UUID, bool], Feed, list[EventRow]]]:
    """What of some published rows is whose, among the feeds that somebody reads."""
    shares: dict[Feed, list[EventRow]] = defaultdict(list)
    for row in rows:
        shares[EVERYTHING].append(row)
        if row.organisation_id is not None:
            shares[Feed(row.organisation_id, FeedKind.ORGANISATION)].append(row)
        if row.person_id is not None:
            shares[Feed(row.person_id, FeedKind.PERSON)].append(row)
    return [
        ((feed.tenant_id, is_full), feed, mine)
        for feed, mine in shares.items()
        for is_full in (False, True)
        if (feed.tenant_id, is_full) in wanted
    ]
