"""Runs jobs: `python -m market.worker --queues money,default --threads 4`."""

import argparse
import signal
import threading

import structlog
from dramatiq import Worker

from market.auth import keyring
from market.broker import QUEUES, bind_jobs, open_broker
from market.db import database
from market.logs import configure_logs
from market.reactions import JOBS
from market.schedule import TIMETABLE
from market.settings import in_force, read_settings

log = structlog.get_logger(__name__)


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
    worker = Worker(
        broker,
        queues=set(options.queues.split(",")),
        worker_threads=threads,
        worker_timeout=200,
    )
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    worker.start()
    log.info("worker.started", queues=options.queues, threads=threads)
    stop.wait()
    worker.stop(timeout=20_000)
    broker.close()
    database.close()
    log.info("worker.stopped")


if __name__ == "__main__":
    main()
