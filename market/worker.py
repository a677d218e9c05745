"""Runs jobs: `python -m market.worker --queues money,default --threads 4`."""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from queue import Empty, PriorityQueue

import structlog
from dramatiq import Worker
from dramatiq.worker import WorkerThread, _WorkQueueItem

from market.auth import keyring
from market.broker import (
    PAUSE_S,
    QUEUES,
    HouseBroker,
    bind_jobs,
    broker_place,
    open_broker,
    places_of,
)
from market.db import database
from market.logs import configure_logs
from market.reactions import JOBS
from market.schedule import TIMETABLE
from market.settings import Settings, in_force, read_settings

log = structlog.get_logger(__name__)

LOOK_S = 0.5
WAKE_MS = 200
WAKE_EMBEDDED_MS = 400
"""How often an idle line is looked at; the embedded broker also says when something came."""
GRACE_MS = 20_000
GRACE_AFTER_LOSS_MS = 5_000
"""Shorter, because a job that has ended cannot be acknowledged any more, and its thread waits."""


class Lines(PriorityQueue[_WorkQueueItem]):
    """What a worker has fetched: of each line what came first, and all of one before the next.

    Threads that run jobs leave one of themselves to the first line, so that neither a burst nor a
    slow job holds up the clock; a worker with a single thread has none to leave.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._at_most = max(1, threads - 1)
        self._behind: set[threading.Thread] = set()

    def get(self, block: bool = True, timeout: float | None = None) -> _WorkQueueItem:
        """The next job for this thread.

        Raises:
            Empty.
        """
        me = threading.current_thread()
        if not isinstance(me, WorkerThread):
            # What was not begun goes back to the broker when the worker stops.
            return super().get(block, timeout)
        with self.not_empty:
            if not self.not_empty.wait_for(self._may_begin, timeout):
                raise Empty
            item = self._get()
            if item.priority:
                self._behind.add(me)
            return item

    def task_done(self) -> None:
        """Tell that this thread's job has ended."""
        with self.not_empty:
            self._behind.discard(threading.current_thread())
            self.not_empty.notify()
        super().task_done()

    def _may_begin(self) -> bool:
        if not self.queue:
            return False
        return not self.queue[0].priority or len(self._behind) < self._at_most


def open_worker(
    broker: HouseBroker, queues: Iterable[str], *, threads: int, wake_ms: int = WAKE_MS
) -> Worker:
    """A worker on every line of some queues, not started yet."""
    worker = Worker(
        broker, queues=places_of(queues), worker_threads=threads, worker_timeout=wake_ms
    )
    worker.work_queue = Lines(threads)
    return worker


def main(argv: list[str] | None = None) -> None:
    """Work on some queues until told to stop; running jobs end first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", default=",".join(QUEUES))
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(argv)
    settings = in_force.open(read_settings())
    threads = options.threads or settings.worker_threads
    configure_logs(settings.log_level, settings.log_format)
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=threads)
    broker = open_broker(settings)
    bind_jobs(broker, {job.name: job for job in (*JOBS, *(e.job for e in TIMETABLE))}.values())
    # Time limits and shutdown notices start with this signal, which Dramatiq's own command sends.
    broker.emit_after("process_boot")
    worker = open_worker(
        broker,
        options.queues.split(","),
        threads=threads,
        wake_ms=WAKE_EMBEDDED_MS if settings.broker_url == "postgres" else WAKE_MS,
    )
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    worker.start()
    log.info("worker.started", queues=options.queues, threads=threads)
    if _serve(broker, worker, stop):
        worker.stop(timeout=GRACE_MS)
        broker.close()
        database.close()
        log.info("worker.stopped")
        return
    worker.stop(timeout=GRACE_AFTER_LOSS_MS)
    if _broker_listens(settings, stop):
        log.warning("worker.begins_anew", reason="the connection to the broker broke")
        # Under a new name, so that what this one had fetched is given to others; and as a new
        # program, since a thread may still wait to acknowledge a job to a broker that is gone.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _serve(broker: HouseBroker, worker: Worker, stop: threading.Event) -> bool:
    """Let the worker work; whether it was told to stop, and did not lose its broker."""
    while not stop.wait(LOOK_S):
        # A consumer that ended by itself met an error that Dramatiq has no answer to.
        dead = any(not consumer.is_alive() for consumer in worker.consumers.values())
        if dead or broker.lost.is_set():
            return False
    return True


def _broker_listens(settings: Settings, stop: threading.Event) -> bool:
    """Wait until somebody listens where the broker was; whether that came before a stop."""
    while not stop.wait(PAUSE_S):
        try:
            socket.create_connection(broker_place(settings), timeout=PAUSE_S).close()
        except OSError:
            continue
        return True
    return False


if __name__ == "__main__":
    main()
