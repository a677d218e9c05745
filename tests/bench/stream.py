"""From an event to the client of a stream, with many streams open: `python -m tests.bench stream`.

A web process and a relay of their own; `--streams` clients hold a stream each, over real sockets,
and `--events` events are written one after another, as the actions write them. What is measured is
the time from just before the commit until each client has read the event, and the web process's
memory. Bare: how long a comment takes through as many sockets without any service, in this machine.
"""

import argparse
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alembic import command
from alembic.config import Config

from market.auth import Part, keyring
from market.db import PLATFORM, database, new_id, now
from market.embedded import EmbeddedPostgres, free_port
from market.events import Event, emit
from market.people.actions import Joined, sign_up

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "a secret for a bench that is long enough"
PATIENCE_S = 60.0


class Clients:
    """Many sockets, read in one thread: when each of them got what."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        self.rest: dict[int, bytes] = {}

    def add(self, reader: socket.socket) -> None:
        """Take in one socket."""
        reader.setblocking(False)
        self.selector.register(reader, selectors.EVENT_READ)
        self.sockets.append(reader)
        self.rest[reader.fileno()] = b""

    def wait_for(self, mark: bytes, count: int) -> list[float]:
        """When each of so many sockets had read a mark."""
        seen: list[float] = []
        until = time.monotonic() + PATIENCE_S
        while len(seen) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(seen)} of {count} clients got {mark!r}")
            for key, _ in self.selector.select(1.0):
                number = key.fd
                found = self.rest[number] + os.read(number, 65536)
                moment = time.monotonic()
                hits = found.count(mark)
                seen += [moment] * hits
                self.rest[number] = b"" if hits else found[-len(mark) :]
        return seen

    def close(self) -> None:
        """Let every socket go."""
        for reader in self.sockets:
            reader.close()
        self.selector.close()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The usual three and the worst, in milliseconds."""
    ordered = sorted(seconds)
    at = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
        for name, share in at.items()
    }


def bare(streams: int, events: int) -> list[float]:
    """The same message through as many sockets, with nothing in between."""
    clients = Clients()
    writers: list[socket.socket] = []
    for _ in range(streams):
        left, right = socket.socketpair()
        clients.add(left)
        writers.append(right)
    found: list[float] = []
    for _ in range(events):
        began = time.monotonic()
        for writer in writers:
            writer.sendall(b"data: here\n\n")
        found += [moment - began for moment in clients.wait_for(b"data: ", streams)]
    clients.close()
    for writer in writers:
        writer.close()
    return found


def started(url: str, port: int) -> list[subprocess.Popen[bytes]]:
    """The web and the relay, once the web answers."""
    env = os.environ | {
        "STUMPWORK_DATABASE_URL": url,
        "STUMPWORK_SECRET_KEY": SECRET,
        "STUMPWORK_WEB_PORT": str(port),
        "STUMPWORK_LOG_LEVEL": "ERROR",
    }
    processes = [
        subprocess.Popen([sys.executable, "-m", module], env=env)
        for module in ("market.app", "market.relay")
    ]
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return processes


def memory_mb(pid: int) -> float:
    """What a process holds in memory; nought where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def processor_s(pid: int) -> float:
    """What a process has used of the processors; nought where the system does not say."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(url: str, streams: int, events: int) -> dict[str, object]:
    """Open the streams, write the events, and say when they arrived."""
    keyring.open(SECRET)
    database.open(url, pool_size=2)
    with database.begin(PLATFORM) as session:
        lab: Joined = sign_up(
            session,
            part=Part.LAB,
            name="Ada",
            email="ada@lab.example",
            organisation_name="Lab",
            at=now(),
        )
        assert lab.organisation is not None
        organisation_id = lab.organisation.id
    port = free_port()
    processes = started(url, port)
    clients = Clients()
    try:
        before = memory_mb(processes[0].pid)
        request = (
            f"GET /v1/events/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {lab.secret}"
            "\r\n\r\n"
        ).encode()
        began = time.monotonic()
        for first in range(0, streams, 50):
            some = range(first, min(first + 50, streams))
            for _ in some:
                reader = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                reader.sendall(request)
                clients.add(reader)
            clients.wait_for(b"retry: 3000", len(some))
        opened_s = time.monotonic() - began
        found: list[float] = []
        used = processor_s(processes[0].pid)
        for number in range(events + 3):
            time.sleep(0.2)
            moment = time.monotonic()
            with database.begin(PLATFORM) as session:
                emit(
                    session,
                    Event.PROJECT_CHANGED,
                    new_id(),
                    at=now(),
                    organisation_id=organisation_id,
                )
            arrived = clients.wait_for(b"event: project.changed", streams)
            # The first three warm caches and connections.
            if number >= 3:
                found += [one - moment for one in arrived]
        used = processor_s(processes[0].pid) - used
        return {
            "streams": streams,
            "events": events,
            "web_cpu_ms_an_event": round(1000 * used / (events + 3), 1),
            "event_to_client_ms": percentiles(found),
            "bare_sockets_ms": percentiles(bare(streams, events)),
            "opened_per_s": round(streams / opened_s),
            "web_mb_before": before,
            "web_mb_with_streams": memory_mb(processes[0].pid),
        }
    finally:
        clients.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=PATIENCE_S)
        database.close()


def main(argv: list[str]) -> int:
    """Run with 1 stream and with many; nought when the slowest percentile is within the bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench stream", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--bound-ms", type=float, default=300.0)
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="stumpwork-bench-"))
    runs = []
    try:
        for streams in sorted({1, options.streams}):
            with EmbeddedPostgres(folder / str(streams)) as server:
                config = Config(str(REPOSITORY / "alembic.ini"))
                config.set_main_option("sqlalchemy.url", server.url.replace("%", "%%"))
                command.upgrade(config, "head")
                runs.append(measure(server.url, streams, options.events))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    slowest = max(
        float(run["event_to_client_ms"]["p99"])  # type: ignore[index]
        for run in runs
    )
    print(json.dumps({"bench": "stream", "runs": runs, "met": slowest <= options.bound_ms}))
    return 0 if slowest <= options.bound_ms else 1
