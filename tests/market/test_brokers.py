"""The three brokers: the same market on each, and nothing lost when one is killed."""

import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import dramatiq
import pytest
from dramatiq.worker import Worker
from sqlalchemy import select, text

from market.broker import (
    DeadLetter,
    HouseBroker,
    Job,
    bind_jobs,
    broker_place,
    job,
    message_for,
    open_broker,
)
from market.clock import Entry
from market.db import database, now
from market.relay import tick
from market.settings import Settings
from market.worker import open_worker
from tests.chaos.servers import SERVERS, BrokerServer
from tests.conftest import SECRET
from tests.market.test_embedded import PATIENCE_S, environment

Servers = Callable[[str], BrokerServer]

# RabbitMQ's client leaves the sockets by which it wakes itself open when its server was killed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Find what was left open here, and not in some later test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Brokers' servers of our own, each started when it is first asked for.

    A test of one that is not installed says that it skipped.
    """
    running: dict[str, BrokerServer] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as all_of_them:

        def server(name: str) -> BrokerServer:
            if not SERVERS[name].is_here():
                pytest.skip(f"no {name} server on this machine: this test did not run")
            if name not in running:
                made = SERVERS[name](Path(folder) / name)
                running[name] = all_of_them.enter_context(made)
            return running[name]

        yield server


EARLY = 20

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("redis", "rabbitmq")]


@pytest.fixture(params=SLOW)
def carrier(request: pytest.FixtureRequest, servers: Servers) -> BrokerServer:
    """A broker's server, which may be killed."""
    return servers(request.param)


@pytest.fixture(params=["postgres", *SLOW])
def settings_of(request: pytest.FixtureRequest, servers: Servers, committed: str) -> Settings:
    """Settings for each of the three, over a database whose commits are real."""
    url = "postgres" if request.param == "postgres" else servers(request.param).url
    return Settings(database_url=committed, secret_key=SECRET, broker_url=url)


def letters() -> list[tuple[str, str, str]]:
    """Every dead letter: its job, its subject and its error."""
    with database.begin() as session:
        found = session.scalars(select(DeadLetter).order_by(DeadLetter.job))
        return [(one.job, one.subject, one.error) for one in found]


def work_until(
    settings: Settings, jobs: list[Job], done: Callable[[], bool], queues: set[str]
) -> None:
    """Work until something holds; like the real worker, begin anew when the broker was lost."""
    until = time.monotonic() + 2 * PATIENCE_S
    while not done():
        broker = open_broker(settings)
        bind_jobs(broker, jobs)
        worker = open_worker(broker, queues, threads=2, wake_ms=50)
        worker.start()
        while not done() and not broker.lost.is_set():
            assert time.monotonic() < until, "the worker did not get there in time"
            time.sleep(0.02)
        worker.stop(timeout=1_000)
        if not broker.lost.is_set():
            broker.close()


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, "it did not come to hold in time"
        time.sleep(0.01)


def enqueue(broker: HouseBroker, queue: str, name: str, *subject: str) -> None:
    """Queue a message as another version of the house might have."""
    broker.enqueue(dramatiq.Message(queue, name, subject, {}, {}))


def test_a_market_is_worked_reviewed_and_paid_on_each_broker(carrier: BrokerServer) -> None:
    words = ("--experts", "4", "--tasks", "4", "--seed", "3", "--json")
    answer = subprocess.run(
        [sys.executable, "-m", "market.cli", "replay", *words],
        env=environment(STUMPWORK_BROKER_URL=carrier.url),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-4000:] + answer.stdout[-2000:]
    report = json.loads(answer.stdout)
    assert report["holds"] is True
    assert report["facts"]["submissions"] == report["facts"]["verdicts"] > 0
    assert report["money"]["paid_s"] == report["money"]["worked_s"] > 0
    assert report["money"]["payouts_open"] == 0


def test_poison_becomes_dead_letters_and_stops_nothing_behind_it(settings_of: Settings) -> None:
    ran: list[str] = []

    @job(queue="money", max_retries=0)
    def move_money(subject: str) -> None:
        if subject == "too much":
            raise ValueError("the bank\0is closed")
        ran.append(subject)

    broker = open_broker(settings_of)
    enqueue(broker, "money", "a_job_of_long_ago", "a payout")
    enqueue(broker, "money", "move_money")
    enqueue(broker, "money", "move_money", "too much")
    broker.enqueue(message_for(move_money, "an event", "a payout"))
    broker.close()
    work_until(settings_of, [move_money], lambda: bool(ran) and len(letters()) == 3, {"money"})
    assert ran == ["a payout"]
    old, *new = letters()
    assert old == ("a_job_of_long_ago", "a payout", "there is no job of this name")
    assert {(name, subject) for name, subject, _ in new} == {
        ("move_money", ""),
        ("move_money", "too much"),
    }
    assert {error.partition(":")[0] for _, _, error in new} == {"TypeError", "ValueError"}


def test_a_failed_job_is_tried_again_later_and_money_does_not_wait_for_the_solver(
    settings_of: Settings,
) -> None:
    ran: list[tuple[str, float]] = []

    @job(queue="money", max_retries=3)
    def move_money(subject: str) -> None:
        ran.append((subject, time.monotonic()))
        if len(ran) < 2:
            raise ValueError("not yet")

    @job(queue="solver")
    def solve(subject: str) -> None:
        ran.append((subject, time.monotonic()))

    broker = open_broker(settings_of)
    broker.enqueue(message_for(solve, "an event", "a run"))
    broker.enqueue(message_for(move_money, "an event", "a payout"))
    broker.close()
    work_until(settings_of, [move_money, solve], lambda: len(ran) >= 2, {"money"})
    assert [subject for subject, _ in ran] == ["a payout", "a payout"]
    # The first pause is a second, less some jitter.
    assert ran[1][1] - ran[0][1] > 0.4
    assert letters() == []


@pytest.mark.parametrize("burst", [300, pytest.param(2_000, marks=pytest.mark.slow)])
def test_the_clock_waits_neither_for_a_burst_nor_for_slow_jobs(
    settings_of: Settings, burst: int
) -> None:
    ran: list[str] = []
    rang = threading.Event()

    @job(line="slow")
    def ask_somebody(subject: str) -> None:
        rang.wait(PATIENCE_S)
        ran.append(subject)

    @job(line="bulk")
    def follow_row(subject: str) -> None:
        if len(ran) >= EARLY:
            # Were the clock behind the burst, all threads would stand here.
            rang.wait(PATIENCE_S)
        ran.append(subject)

    @job()
    def ring(slot: str) -> None:
        del slot
        ran.append("the clock")
        rang.set()

    broker = open_broker(settings_of)
    for number in range(burst):
        broker.enqueue(message_for(follow_row, "an import", f"row {number}"))
    for number in range(2):
        broker.enqueue(message_for(ask_somebody, "an event", f"question {number}"))
    assert tick(broker, [Entry(ring, every=timedelta(minutes=1))], at=now()) == [ring]
    broker.close()
    work_until(
        settings_of,
        [ask_somebody, follow_row, ring],
        lambda: len(ran) == burst + 3,
        {"default"},
    )
    assert ran.index("the clock") <= EARLY + 2
    assert letters() == []


def test_what_was_fetched_and_not_begun_goes_back_when_a_worker_stops(committed: str) -> None:
    settings = Settings(database_url=committed, secret_key=SECRET)
    begun, over = threading.Event(), threading.Event()

    @job(line="bulk")
    def follow_row(subject: str) -> None:
        del subject
        begun.set()
        over.wait(PATIENCE_S)

    broker = open_broker(settings)
    bind_jobs(broker, [follow_row])
    for number in range(4):
        broker.enqueue(message_for(follow_row, "an import", f"row {number}"))
    worker = open_worker(broker, ["default"], threads=2, wake_ms=50)
    worker.start()
    # One of two threads is left to the first line, so that one row is begun and three are not.
    assert begun.wait(PATIENCE_S)
    wait_for(lambda: worker.work_queue.qsize() == 3 and all(one.running for one in worker.workers))
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_for(lambda: sum(one.is_alive() for one in worker.workers) == 1)
    over.set()
    stopping.join(PATIENCE_S)
    broker.close()
    with database.begin() as session:
        found = session.execute(text("select queue_name, state::text from dramatiq.queue")).all()
    assert [tuple(row) for row in found] == [("default.bulk", "queued")] * 3


def test_a_job_whose_database_went_away_is_tried_again_and_uses_up_none_of_its_retries(
    settings_of: Settings,
) -> None:
    ran: list[str] = []

    @job(queue="money", max_retries=0)
    def move_money(subject: str) -> None:
        ran.append(subject)
        if len(ran) == 1:
            with database.begin() as session:
                session.execute(text("reset role"))
                session.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    @job(queue="money", max_retries=0)
    def divide(subject: str) -> None:
        with database.begin() as session:
            session.execute(text("select 1 / 0"))

    broker = open_broker(settings_of)
    broker.enqueue(message_for(move_money, "an event", "a payout"))
    broker.enqueue(message_for(divide, "an event", "a run"))
    broker.close()
    work_until(
        settings_of, [move_money, divide], lambda: len(ran) == 2 and len(letters()) == 1, {"money"}
    )
    assert ran == ["a payout", "a payout"]
    assert [actor for actor, _, _ in letters()] == ["divide"]


def test_a_retry_is_not_lost_when_the_broker_is_killed_at_that_moment(
    carrier: BrokerServer, committed: str
) -> None:
    settings = Settings(database_url=committed, secret_key=SECRET, broker_url=carrier.url)
    ran: list[str] = []

    @job(queue="money", max_retries=3)
    def move_money(subject: str) -> None:
        ran.append(subject)
        if len(ran) == 1:
            carrier.kill()
            raise ValueError("the bank is closed")

    broker = open_broker(settings)
    broker.enqueue(message_for(move_money, "an event", "a payout"))
    broker.close()
    worker_broker = open_broker(settings)
    bind_jobs(worker_broker, [move_money])
    worker = Worker(worker_broker, queues={"money"}, worker_threads=1, worker_timeout=50)
    worker.start()
    until = time.monotonic() + PATIENCE_S
    while not worker_broker.lost.is_set():
        assert time.monotonic() < until, "the worker did not notice that its broker was gone"
        time.sleep(0.02)
    assert ran == ["a payout"]
    carrier.start()
    # The thread that ran the job hands the retry to the broker as soon as it is back.
    time.sleep(2.5)
    worker.stop(timeout=1_000)
    work_until(settings, [move_money], lambda: len(ran) >= 2, {"money"})
    assert set(ran) == {"a payout"}


def test_a_worker_begins_anew_when_its_broker_was_killed(
    carrier: BrokerServer, committed: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=committed, secret_key=SECRET, broker_url=carrier.url)
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "market.worker", "--queues", "money", "--threads", "1"],
            env=environment(
                STUMPWORK_DATABASE_URL=committed,
                STUMPWORK_SECRET_KEY=SECRET,
                STUMPWORK_BROKER_URL=carrier.url,
            ),
            stdout=output,
            stderr=output,
        )
    try:
        for count in (1, 2):
            broker = open_broker(settings)
            enqueue(broker, "money", f"no_job_{count}", "x")
            broker.close()
            until = time.monotonic() + 2 * PATIENCE_S
            # A job that nobody knows becomes a dead letter, which shows that somebody reads.
            while f"no_job_{count}" not in [name for name, _, _ in letters()]:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < until, log.read_text()[-2000:]
                time.sleep(0.05)
            if count == 1:
                carrier.kill()
                time.sleep(1.0)
                carrier.start()
        assert "worker.begins_anew" in log.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_the_place_of_a_broker_is_read_from_its_address() -> None:
    def place(url: str) -> tuple[str, int]:
        settings = Settings(
            database_url="postgresql+psycopg://a:b@db.example:6432/c",
            secret_key=SECRET,
            broker_url=url,
        )
        return broker_place(settings)

    assert place("postgres") == ("db.example", 6432)
    assert place("redis://cache.example") == ("cache.example", 6379)
    assert place("amqps://a:b@queue.example/x") == ("queue.example", 5671)
    assert place("amqp://queue.example:5000") == ("queue.example", 5000)
