"""Publishes what happened, queues what follows from it, and ticks the schedule.

Any number may run at once: one of them publishes at a time, the rest is shared.
"""

import signal
import threading
from collections.abc import Sequence
from datetime import datetime

import structlog
from dramatiq.broker import Broker
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolIsEmpty

from market.auth import keyring
from market.broker import Job, connection_losses, message_for, open_broker
from market.clock import Entry, claim_slot
from market.db import database, now
from market.dead_letters import replayed_message
from market.events import Event, EventRow
from market.feeds import BATCH as PUBLISHED
from market.feeds import publish
from market.logs import configure_logs
from market.reactions import REACTIONS
from market.schedule import TIMETABLE
from market.settings import in_force, read_settings

BATCH = 200
IDLE_S = 0.05

PROMPT = tuple(
    event.value for event, jobs in REACTIONS.items() if any(not job.line for job in jobs)
)
"""Events after which something follows that a person may wait for."""

log = structlog.get_logger(__name__)


def relay_batch(
    broker: Broker, *, at: datetime, limit: int = BATCH, kinds: Sequence[str] | None = None
) -> int:
    """Queue the jobs of the oldest published events that have none queued yet, of some kinds or of
    all; how many events that were.

    The events are marked in the transaction that locked them, after their messages were taken by
    the broker: a crash in between sends a message twice, under the same id, and never loses one.
    """
    waiting = (
        select(EventRow.id, EventRow.type, EventRow.subject_id)
        .where(EventRow.relayed_at.is_(None), EventRow.platform_seq.is_not(None))
        .order_by(EventRow.platform_seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if kinds is not None:
        waiting = waiting.where(EventRow.type.in_(kinds))
    with database.begin() as session:
        rows = session.execute(waiting).all()
        for event_id, kind, subject_id in rows:
            for job in REACTIONS.get(Event(kind), ()):
                broker.enqueue(message_for(job, f"evt_{event_id.hex}", str(subject_id)))
            if kind == Event.DEAD_LETTER_REPLAYED:
                message = replayed_message(session, subject_id)
                if message is not None:
                    broker.enqueue(message)
        if rows:
            session.execute(
                update(EventRow)
                .where(EventRow.id.in_([row.id for row in rows]))
                .values(relayed_at=at)
            )
        return len(rows)


def relay_round(broker: Broker, *, at: datetime) -> int:
    """Relay a batch, and where more wait than that, what people wait for out of all of it; how many
    events the batch had.
    """
    moved = relay_batch(broker, at=at)
    if moved == BATCH:
        relay_batch(broker, at=at, kinds=PROMPT)
    return moved


def tick(
    broker: Broker,
    timetable: Sequence[Entry],
    *,
    at: datetime,
    seen: dict[str, datetime] | None = None,
) -> list[Job]:
    """Queue every job of the clock whose slot has come and was not fired by anyone.

    `seen` keeps the slots that this process need not ask the database about again.
    """
    fired = []
    seen = {} if seen is None else seen
    for entry in timetable:
        slot = entry.slot(at)
        if seen.get(entry.job.name) == slot:
            continue
        with database.begin() as session:
            if claim_slot(session, entry.job.name, slot):
                broker.enqueue(message_for(entry.job, slot.isoformat(), slot.isoformat()))
                fired.append(entry.job)
        seen[entry.job.name] = slot
    return fired


def outbox_depth() -> int:
    """How many events wait for the relay."""
    with database.begin() as session:
        waiting = select(func.count()).where(EventRow.relayed_at.is_(None))
        return int(session.scalar(waiting) or 0)


def publish_always(stop: threading.Event) -> None:
    """Publish what happens until told to stop; a lost database is waited for.

    A thread of its own, so that what is read does not wait for the broker.
    """
    while not stop.is_set():
        try:
            with database.begin() as session:
                moved = publish(session, at=now())
        except (DBAPIError, PoolIsEmpty, OSError) as lost:
            log.warning("relay.cannot_publish", error=str(lost).splitlines()[0][:200])
            stop.wait(1.0)
            continue
        if moved < PUBLISHED:
            stop.wait(IDLE_S)


def run(broker: Broker, stop: threading.Event) -> None:
    """Publish, relay and tick until told to stop; a lost database or broker is waited for."""
    publisher = threading.Thread(target=publish_always, args=(stop,), name="publisher")
    publisher.start()
    losses: tuple[type[Exception], ...] = (
        DBAPIError,
        PoolIsEmpty,
        *connection_losses(in_force.settings),
    )
    last_tick = 0.0
    seen: dict[str, datetime] = {}
    while not stop.is_set():
        try:
            moved = relay_round(broker, at=now())
            moment = now().timestamp()
            if moment - last_tick >= 1.0:
                tick(broker, TIMETABLE, at=now(), seen=seen)
                last_tick = moment
        except losses as lost:
            log.warning("relay.lost_connection", error=str(lost).splitlines()[0][:200])
            stop.wait(1.0)
            continue
        if moved < BATCH:
            stop.wait(IDLE_S)
    publisher.join()


def main() -> None:
    """Run the relay as a process of its own."""
    settings = in_force.open(read_settings())
    configure_logs(settings.log_level, settings.log_format)
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=2)
    broker = open_broker(settings)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    log.info("relay.started")
    run(broker, stop)
    broker.close()
    database.close()
    log.info("relay.stopped")


if __name__ == "__main__":
    main()
