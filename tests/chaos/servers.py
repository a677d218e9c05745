"""Redis and RabbitMQ of our own: on a free port of loopback, in a folder of their own, killable.

Each is a child that ends with this process, and keeps its folder and its port from one start to the
next, so that what a killed server had taken is there when it is started again.
"""

import os
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from market.embedded import free_port
from market.leash import Leashed, spawn

HOST = "127.0.0.1"
PATIENCE_S = 120.0
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's own command beside it insists on a user and a folder of its own."""


class ServerDidNotStart(RuntimeError):
    """A broker's server ended, or did not answer in time; the end of its log says why."""

    def __init__(self, name: str, log: Path) -> None:
        super().__init__(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")


class BrokerServer(ABC):
    """A server that can be killed and started again over the same folder."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._server: Leashed | None = None
        self._log = folder / f"{self.name}.log"

    @staticmethod
    @abstractmethod
    def is_here() -> bool:
        """Whether this machine has the server."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The setting that names this broker."""

    def start(self) -> Self:
        """Start it and wait until it speaks its protocol.

        Raises:
            ServerDidNotStart.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._server = self._spawn(log.fileno())
        until = time.monotonic() + PATIENCE_S
        while not self._speaks():
            if self._server.returncode is not None or time.monotonic() > until:
                raise ServerDidNotStart(self.name, self._log)
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """End it with SIGKILL, and everything that it started."""
        if self._server is not None:
            self._server.kill_group()
            self._server = None

    def stop(self) -> None:
        """End it for good."""
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _spawn(self, log: int) -> Leashed: ...

    @abstractmethod
    def _greeting(self) -> tuple[bytes, bytes]:
        """What to say to it, and how its answer begins."""

    def _speaks(self) -> bool:
        said, heard = self._greeting()
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(said)
                return connection.recv(64).startswith(heard)
        except OSError:
            return False


class Redis(BrokerServer):
    """Redis, which appends what it takes to a file, and syncs it every second."""

    name = "redis"

    @staticmethod
    def is_here() -> bool:
        """Whether this machine has the server."""
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        """With this, Redis carries the jobs."""
        return f"redis://{HOST}:{self.port}/0"

    def _spawn(self, log: int) -> Leashed:
        options = {
            "--port": str(self.port),
            "--bind": HOST,
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--maxmemory-policy": "noeviction",
        }
        words = [word for pair in options.items() for word in pair]
        return spawn(
            [str(shutil.which("redis-server")), *words],
            env=os.environ,
            output=log,
            death_signal=signal.SIGKILL,
        )

    def _greeting(self) -> tuple[bytes, bytes]:
        return b"PING\r\n", b"+PONG"


class RabbitMQ(BrokerServer):
    """RabbitMQ, with a name server for Erlang of its own, since the usual one is never ended."""

    name = "rabbitmq"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names_port = free_port()
        self._names: Leashed | None = None

    @staticmethod
    def is_here() -> bool:
        """Whether this machine has the server."""
        return RABBITMQ.exists() and shutil.which("epmd") is not None

    @property
    def url(self) -> str:
        """With this, RabbitMQ carries the jobs."""
        return f"amqp://guest:guest@{HOST}:{self.port}/%2F"

    def stop(self) -> None:
        """End it, and the name server."""
        self.kill()
        if self._names is not None:
            self._names.kill_group()
            self._names = None

    def _spawn(self, log: int) -> Leashed:
        loopback = "{127,0,0,1}"
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"chaos{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            # Anew at each start: somebody else's connection may have got the last one meanwhile.
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "no-plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "no-settings"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # Schedulers that spin while they wait would take the processors from everything else.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {loopback} +sbwt none +S 1:1"
            ),
        }
        (self.folder / "no-plugins").write_text("[].\n")
        if self._names is None:
            self._names = spawn(
                [str(shutil.which("epmd"))],
                env=environment,
                output=log,
                death_signal=signal.SIGKILL,
            )
        return spawn([str(RABBITMQ)], env=environment, output=log, death_signal=signal.SIGKILL)

    def _greeting(self) -> tuple[bytes, bytes]:
        return b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"


SERVERS: dict[str, type[BrokerServer]] = {"redis": Redis, "rabbitmq": RabbitMQ}
"""Every broker that is a server of its own; the embedded one is the database."""
