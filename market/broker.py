"""Jobs and the broker that carries them: PostgreSQL, Redis or RabbitMQ, by setting only.

A job takes one identifier and may run twice. It is declared without a broker, so that importing a
module never opens a connection; a worker binds every job to its broker when it starts.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import dramatiq
import dramatiq.errors
import psycopg
import structlog
from dramatiq.broker import Broker, Consumer
from dramatiq.middleware import Middleware
from dramatiq.worker import WorkerThread
from sqlalchemy import Index, exc, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from market.db import Base, current_cause, database, is_away, new_id, now
from market.errors import MarketError
from market.settings import SettingInvalid, Settings, in_force

QUEUES = ("money", "solver", "default")
"""Three queues, so that money never waits behind the solver."""

LINES = ("", "slow", "bulk")
"""The lines of a queue, the first one served first. The first is for the clock, and for what a
person waits for; `slow` is for what waits for others, or takes minutes; `bulk` for what follows
each of what may be thousands of rows at once.
"""

PLACES = ("money", "money.bulk", "solver", "default", "default.slow", "default.bulk")
"""Where messages are kept: each line of a queue apart, since a worker that has fetched as many as
it may of one burst is given nothing else from the same place.
"""

PAUSE_S = 1.0
"""Between two tries of what cannot be given up while a server is away."""

OUTAGES = 24
"""How often a job is tried again because its database was away, beside its own retries."""

log = structlog.get_logger(__name__)

SPACE = UUID("6c6f2f4e-8d5e-5b7e-9a43-3f0c1f1d8a10")
"""Name space of message ids, so that one event queues one job once however often it is relayed."""


@dataclass(frozen=True)
class Job:
    """One kind of queued work; calling it runs it here and now."""

    name: str
    queue: str
    function: Callable[[str], None] = field(repr=False)
    max_retries: int = 8
    time_limit_s: int = 600
    line: str = ""

    @property
    def place(self) -> str:
        """Where its messages are kept."""
        return f"{self.queue}.{self.line}" if self.line else self.queue

    def __call__(self, subject: str) -> None:
        """Run the job on a subject."""
        self.function(subject)


def job(
    *, queue: str = "default", line: str = "", max_retries: int = 8, time_limit_s: int = 600
) -> Callable[[Callable[[str], None]], Job]:
    """Declare a function of one identifier as a job of a queue, in one of its lines.

    Units: retries wait 1 s, 2 s, 4 s ... up to 10 minutes, with jitter. A try that was lost because
        the database was away uses up none of them, `OUTAGES` times.
    """
    if queue not in QUEUES:
        raise ValueError(f"queue {queue!r} is not one of {QUEUES}")

    def declare(function: Callable[[str], None]) -> Job:
        made = Job(function.__name__, queue, function, max_retries, time_limit_s, line)
        if made.place not in PLACES:
            raise ValueError(f"queue {queue!r} has no line {line!r}")
        return made

    return declare


def places_of(queues: Iterable[str]) -> set[str]:
    """Where the messages of some queues are kept."""
    wanted = set(queues)
    return {place for place in PLACES if place.partition(".")[0] in wanted}


class DeadLetter(Base):
    """A job that failed for good: kept to be read, run again or dropped."""

    __tablename__ = "dead_letter"
    __table_args__ = (Index("ix_dead_letter_open", "id", postgresql_where="settled_at is null"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    queue: Mapped[str]
    job: Mapped[str]
    subject: Mapped[str]
    error: Mapped[str]
    died_at: Mapped[datetime]
    settled_at: Mapped[datetime | None] = mapped_column(default=None)
    settled_by: Mapped[UUID | None] = mapped_column(default=None)
    settlement: Mapped[str | None] = mapped_column(default=None)


class DeadLetterUnknown(MarketError):
    """A dead letter that is not there, or that somebody has settled already."""

    def __init__(self, letter_id: UUID) -> None:
        super().__init__(f"there is no open dead letter {letter_id}; list those there are")
        self._letter_id = letter_id


class JobUnknown(MarketError):
    """The job of a dead letter, which this version of the house no longer has."""

    def __init__(self, letter_id: UUID, job: str) -> None:
        super().__init__(f"dead letter {letter_id} is of job {job!r}, which is not here; drop it")
        self._letter_id = letter_id
        self.job = job


class JobContext(Middleware):
    """Names the job in every log line that it writes, and says how it ended.

    It is told of an end before Dramatiq's own retries, which read what it leaves in the options.
    """

    def before_process_message(self, broker: Broker, message: Any) -> None:  # noqa: ARG002
        """Bind the job's name, id and subject to the log."""
        structlog.contextvars.bind_contextvars(
            job=message.actor_name, job_id=message.message_id, subject=_subject_of(message)
        )
        current_cause.set(message.options.get("cause"))

    def after_process_message(
        self,
        broker: Broker,
        message: Any,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """Keep the reason of a failure, and whether the job is to blame; forget the bindings."""
        if exception is not None:
            if is_away(exception) and message.actor_name in broker.actors:
                outages = message.options.get("outages", 0) + 1
                own: int = broker.actors[message.actor_name].options["max_retries"]
                message.options.update(outages=outages, max_retries=own + min(outages, OUTAGES))
            message.options["last_error"] = "".join(
                traceback.format_exception_only(type(exception), exception)
            ).strip()[:4000]
        structlog.contextvars.clear_contextvars()
        current_cause.set(None)


class DeadLetters(Middleware):
    """Writes a job that will not be tried again where ops can read it."""

    def before_nack(self, broker: Broker, message: Any) -> None:
        """Keep the message and its last error, before the broker may forget it.

        While the database is away it is waited for: there is no later time to write this.
        """
        known = message.actor_name in broker.actors
        error = message.options.get("last_error") if known else "there is no job of this name"
        while True:
            letter = DeadLetter(
                queue=message.queue_name.partition(".")[0],
                job=message.actor_name,
                subject=_subject_of(message),
                error=str(error or "not recorded").replace("\0", ""),
                died_at=now(),
            )
            try:
                with database.begin() as session:
                    session.add(letter)
            except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as lost:
                log.warning("dead_letter.waits", error=str(lost).splitlines()[0][:200])
                time.sleep(PAUSE_S)
            else:
                return


def _subject_of(message: Any) -> str:
    """What a message is about; a message of no known form may be about nothing."""
    return str(message.args[0]).replace("\0", "") if message.args else ""


class BrokerAway(dramatiq.errors.BrokerConnectionError):
    """The broker could not be reached, so a message was not taken."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)  # type: ignore[no-untyped-call]


class HouseBroker(Broker):
    """What every broker of the house does when its server goes away and comes back.

    Dramatiq logs a retry that could not be queued, and acknowledges its job, which is lost then; so
    a thread that runs jobs waits until the broker takes the retry. Everybody else gets
    `BrokerAway`. And a queue is consumed once: after its connection broke, the messages that its
    consumer had fetched stay with this process on PostgreSQL and Redis, and on RabbitMQ their
    numbers may come to mean other messages. So `lost` is set instead, and the worker starts
    afresh under another name.
    """

    def __init__(self, *, losses: tuple[type[Exception], ...], **options: Any) -> None:
        super().__init__(**options)
        self._losses = losses
        self.lost = threading.Event()
        self._consumed: set[str] = set()

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        """Hand a message to the broker.

        Raises:
            BrokerAway, in threads that run no jobs.
        """
        while True:
            try:
                return super().enqueue(message, delay=delay)
            except self._losses as error:
                if not isinstance(threading.current_thread(), WorkerThread):
                    raise BrokerAway(str(error)) from error
                self.lost.set()
                log.warning("broker.away", error=str(error)[:200])
                time.sleep(PAUSE_S)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Consumer:
        """Read a queue, once.

        Raises:
            BrokerAway.
        """
        if queue_name in self._consumed:
            self.lost.set()
            raise BrokerAway(f"the connection that read {queue_name} broke")
        consumer = super().consume(queue_name, prefetch, timeout)
        self._consumed.add(queue_name)
        return consumer


def open_broker(settings: Settings) -> HouseBroker:
    """The broker that the settings name; nothing is sent or read yet."""
    losses = connection_losses(settings)
    broker: HouseBroker
    if settings.broker_url == "postgres":
        from dramatiq_postgres import PostgresBroker

        class OnPostgres(HouseBroker, PostgresBroker):  # type: ignore[misc]
            """Queues in the database itself."""

        broker = OnPostgres(
            losses=losses,
            url=settings.database_url.replace("+psycopg", ""),
            results=False,
            schema="dramatiq",
            heartbeat_interval=2.0,
            heartbeat_ttl=10.0,
            maintenance_interval=5.0,
            poll_interval=0.5,
        )
    elif settings.broker_url.startswith("redis"):
        from dramatiq.brokers.redis import RedisBroker

        class OnRedis(HouseBroker, RedisBroker):
            """Queues in Redis."""

        # With the defaults a killed worker's jobs stay stranded for minutes.
        broker = OnRedis(
            losses=losses,
            url=settings.broker_url,
            heartbeat_timeout=6_000,
            maintenance_chance=50_000,
        )
    elif settings.broker_url.startswith("amqp"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        class OnRabbitmq(HouseBroker, RabbitmqBroker):
            """Queues in RabbitMQ."""

        # Without confirmation a killed broker forgets what it was just sent.
        broker = OnRabbitmq(losses=losses, url=settings.broker_url, confirm_delivery=True)
    else:
        raise SettingInvalid("BROKER_URL", settings.broker_url, "postgres, redis:// or amqp://")
    broker.add_middleware(JobContext())
    broker.add_middleware(DeadLetters())
    for place in PLACES:
        broker.declare_queue(place)
    return broker


def connection_losses(settings: Settings) -> tuple[type[Exception], ...]:
    """How a broker says that it cannot be reached: what is worth waiting for."""
    lost: tuple[type[Exception], ...] = (
        dramatiq.errors.BrokerConnectionError,
        OSError,
    )
    if settings.broker_url.startswith("redis"):
        import redis

        return (*lost, redis.ConnectionError, redis.TimeoutError)
    if settings.broker_url.startswith("amqp"):
        import pika.exceptions

        return (*lost, pika.exceptions.AMQPError)
    return (*lost, psycopg.OperationalError)


def bind_jobs(broker: Broker, jobs: Iterable[Job]) -> None:
    """Make every job runnable by workers of this broker."""
    for one in jobs:
        declare = dramatiq.actor(
            actor_name=one.name,
            queue_name=one.place,
            broker=broker,
            priority=LINES.index(one.line),
            max_retries=one.max_retries,
            min_backoff=1_000,
            max_backoff=600_000,
            time_limit=one.time_limit_s * 1_000,
        )
        declare(one.function)


def message_for(one: Job, cause: str, subject: str) -> dramatiq.Message[None]:
    """The message that queues a job for a cause; the same cause gives the same message id.

    What the job makes happen names the cause as its own.
    """
    return dramatiq.Message(
        queue_name=one.place,
        actor_name=one.name,
        args=(subject,),
        kwargs={},
        options={"cause": cause},
        message_id=str(uuid5(SPACE, f"{cause}|{one.name}|{subject}")),
    )


def queue_depth_rows(session: Session) -> dict[str, int] | None:
    """How many jobs wait or run in each queue of the embedded broker; None with another broker."""
    if in_force.settings.broker_url != "postgres":
        return None
    rows = session.execute(
        text(
            "select split_part(queue_name, '.', 1), count(*) from dramatiq.queue"
            " where state in ('queued', 'consumed') group by 1"
        )
    ).all()
    found = {str(name): int(depth) for name, depth in rows}
    return {queue: found.get(queue, 0) for queue in QUEUES}


def broker_place(settings: Settings) -> tuple[str, int]:
    """The host and port at which the broker listens."""
    usual = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
    own = settings.broker_url == "postgres"
    parts = urlsplit(settings.database_url if own else settings.broker_url)
    return parts.hostname or "127.0.0.1", parts.port or usual.get(parts.scheme, 5432)
