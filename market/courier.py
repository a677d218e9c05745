"""Carries out of the house what was published: webhooks and letters. Any number may run at once.

Sending waits for other people's machines, so it has a process of its own, and threads enough that
those who answer slowly never take all of them.
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from market.auth import keyring
from market.db import PLATFORM, database, now
from market.deliveries.actions import fan_out
from market.deliveries.queries import endpoints_behind
from market.feeds import CHANNEL
from market.inbox.jobs import tell_people
from market.letters.actions import Letter, reserve_deliveries
from market.letters.jobs import carry_letter
from market.logs import configure_logs
from market.settings import in_force, read_settings

THREADS = 32
SLOW_THREADS = 16
"""How many threads may at most wait for endpoints that failed or dawdled last time."""

POLL_S = 0.5
CONNECTIONS = 8

log = structlog.get_logger(__name__)


class Senders:
    """The threads that send, and how many of them are busy with whom."""

    def __init__(self, *, threads: int = THREADS, slow_threads: int = SLOW_THREADS) -> None:
        self._threads, self._slow_threads = threads, slow_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sender")
        self._lock = threading.Lock()
        self._busy = {False: 0, True: 0}
        self.done = threading.Event()

    def send_due(self) -> int:
        """Begin to send what is due, as far as there are threads; how many messages that were."""
        begun = 0
        for is_slow in (False, True):
            letters = self._reserve(is_slow=is_slow)
            for letter in letters:
                with self._lock:
                    self._busy[is_slow] += 1
                self._pool.submit(self._carry, letter)
            begun += len(letters)
        return begun

    def _reserve(self, *, is_slow: bool) -> list[Letter]:
        with self._lock:
            room = self._threads - sum(self._busy.values())
            if is_slow:
                room = min(room, self._slow_threads - self._busy[True])
        with database.begin(PLATFORM) as session:
            return reserve_deliveries(session, limit=room, is_slow=is_slow, at=now())

    def _carry(self, letter: Letter) -> None:
        try:
            carry_letter(letter)
        except Exception:
            # The lease runs out, and the message is sent again; this thread goes on.
            log.exception("courier.not_recorded", delivery_id=str(letter.delivery_id))
        finally:
            with self._lock:
                self._busy[letter.is_slow] -= 1
            self.done.set()

    def close(self) -> None:
        """Wait for what is being sent."""
        self._pool.shutdown(wait=True)


def make_deliveries() -> int:
    """Turn what was published into messages for whoever asked for it; how many events that were."""
    with database.begin(PLATFORM) as session:
        behind = endpoints_behind(session)
    moved = 0
    for endpoint_id in behind:
        # A transaction each: one endpoint's backlog does not hold up the others.
        with database.begin(PLATFORM) as session:
            moved += fan_out(session, endpoint_id, at=now())
    return moved


def listen(changed: threading.Event, stop: threading.Event) -> None:
    """Wake the courier when something was published; without it, it only comes a little later."""
    address = database.engine.url.set(drivername="postgresql")
    while not stop.is_set():
        try:
            with psycopg.connect(
                address.render_as_string(hide_password=False), autocommit=True
            ) as listener:
                listener.execute(f"listen {CHANNEL}")
                while not stop.is_set():
                    for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                        changed.set()
        except (psycopg.Error, OSError) as lost:
            log.warning("courier.not_listening", error=str(lost).splitlines()[0][:200])
            stop.wait(1.0)


def tell_always(stop: threading.Event) -> None:
    """Notify people until told to stop; a mail server that dawdles holds up no webhook."""
    while not stop.is_set():
        try:
            moved = tell_people(in_force.settings)
        except (DBAPIError, OSError) as lost:
            log.warning("courier.cannot_tell", error=str(lost).splitlines()[0][:200])
            moved = 0
        if not moved:
            stop.wait(POLL_S)


def run(stop: threading.Event) -> None:
    """Carry until told to stop; what is under way is finished, a lost database is waited for."""
    senders = Senders()
    teller = threading.Thread(target=tell_always, args=(stop,), name="teller")
    teller.start()
    listener = threading.Thread(target=listen, args=(senders.done, stop), name="listener")
    listener.start()
    while not stop.is_set():
        senders.done.clear()
        try:
            moved = make_deliveries() + senders.send_due()
        except (DBAPIError, OSError) as lost:
            log.warning("courier.lost_connection", error=str(lost).splitlines()[0][:200])
            stop.wait(1.0)
            continue
        if not moved:
            senders.done.wait(POLL_S)
    senders.close()
    listener.join()
    teller.join()


def main() -> None:
    """Run the courier as a process of its own."""
    settings = in_force.open(read_settings())
    configure_logs(settings.log_level, settings.log_format)
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=CONNECTIONS)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    log.info("courier.started")
    run(stop)
    database.close()
    log.info("courier.stopped")


if __name__ == "__main__":
    main()
