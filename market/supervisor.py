"""The whole house on one machine: database, web, relay, workers and stand-ins, from start to stop.

    DIR/postgres/     the embedded PostgreSQL, unless a database is given by URL
    DIR/secrets/      keys made at the first start, readable by their owner only
    DIR/stand-ins/    their ports, and what the payments stand-in must remember
    DIR/logs/         a file for each child; the one before is kept beside it as NAME.log.1

One supervisor owns the folder and every child. The web's socket is opened here and inherited, so
a port in use is noticed before anything has started, and a web process that dies loses no
connection that was waiting.
"""

import errno
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO, Self

from market.cluster import HOST, StartRefused, own_directory, write_private
from market.embedded import EmbeddedPostgres, PortInUse, free_port
from market.processes import STEADY_S, Processes, Service
from market.settings import PREFIX
from market.upgrade import refuse_unusable, upgrade_database

CHECKOUT = Path(__file__).resolve().parent.parent
STANDIN_KEY = "sk_test_standin"
PAYMENTS_STAND_IN = "tests.fakestripe"
MODEL_STAND_IN = "tests.fakemodel"
WEBHOOK_PATH = "/webhooks/stripe"
THIN_WEBHOOK_PATH = "/webhooks/stripe-thin"
WORKER_GRACE_S = 25.0

_BACKLOG = 2048
_PORT_PATIENCE_S = 0.5
_Handler = Callable[[int, FrameType | None], object] | int
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class AddressNotUsable(StartRefused):
    """The web cannot listen where it was told to."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}")
        self.host = host
        self.port = port


class StandInMissing(StartRefused):
    """A stand-in was wanted, and only a checkout has them; an installed package does not."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"{module}, a stand-in, only comes with a checkout; run from one, or set "
            f"{PREFIX}STRIPE_KEY and start without stand-ins"
        )
        self.module = module


class HouseGaveUp(StartRefused):
    """A part of the house kept dying, so the rest was stopped too."""


class StopRequested(KeyboardInterrupt):
    """A signal asked the supervisor to stop; it is raised in the main thread."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a started house answer; None for a part that was not started."""

    web: str
    database: str
    stripe: str | None
    target_model: str | None

    @property
    def api_docs(self) -> str:
        """The page that documents the API."""
        return f"{self.web}/docs"

    @property
    def console(self) -> str:
        """The pages for people."""
        return f"{self.web}/console"


class Market:
    """Everything that serves, on this machine, over one data directory.

    Settings come from `environ` (the process's own by default); what is given here comes first,
    and what is given nowhere is made: keys, the database, a free port for `web_port=None`. A count
    of nought leaves that part out. The stand-ins are a target model and, unless there is a key for
    the real one, payments; with `instant_onboarding` every payee of theirs is ready at once, and
    the model answers from `recording` where it has the prompt. A child that lived for `steady_s`
    seconds has come up, and is started again however often it dies.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        web_host: str = HOST,
        web_port: int | None = None,
        webs: int = 1,
        relays: int = 1,
        couriers: int = 1,
        workers: int = 1,
        solvers: int = 1,
        keepers: int = 1,
        stand_ins: bool = True,
        instant_onboarding: bool = False,
        recording: Path | None = None,
        database_url: str | None = None,
        durable: bool = True,
        steady_s: float = STEADY_S,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._host, self._port = web_host, web_port
        self._webs, self._relays, self._workers, self._solvers = webs, relays, workers, solvers
        self._couriers = couriers
        self._keepers = keepers
        self._stand_ins = stand_ins
        self._instant_onboarding = instant_onboarding
        self._recording = recording
        given = dict(os.environ if environ is None else environ)
        self._outer = {name: value for name, value in given.items() if not name.startswith(PREFIX)}
        self._given = {name: value for name, value in given.items() if name.startswith(PREFIX)}
        self._database_url = database_url or self._given.get(f"{PREFIX}DATABASE_URL")
        self._durable = durable
        self._steady_s = steady_s
        self._say: Callable[[str], None] = lambda _line: None
        self._lock: BinaryIO | None = None
        self._socket: socket.socket | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._processes: Processes | None = None
        self._handlers: dict[signal.Signals, _Handler | None] = {}
        self._hurry = threading.Event()
        self._addresses: Addresses | None = None
        self.environment: dict[str, str] = {}
        """Every setting of the started house, as its children see it: `STUMPWORK_...`."""

    @property
    def addresses(self) -> Addresses:
        """Where everything answers."""
        if self._addresses is None:
            raise RuntimeError("the house has no addresses before it is started")
        return self._addresses

    @property
    def pids(self) -> dict[str, int]:
        """Of every running child by name, the database's server among them."""
        found = {} if self._processes is None else self._processes.pids
        if self._postgres is not None and self._postgres.pid is not None:
            found["postgres"] = self._postgres.pid
        return found

    def start(self, say: Callable[[str], None] | None = None) -> Self:
        """Start every part in order, and come back when all are ready.

        `say` gets a line for each step, and later one for each warning. SIGINT, SIGTERM and SIGHUP
        raise `StopRequested` in the main thread from here on until `stop`.

        Raises:
            StartRefused: one of its subclasses, with a text of one line; nothing is left running.
        """
        if self._lock is not None:
            return self
        self._say = say or self._say
        self._hurry.clear()
        try:
            self._catch_signals()
            self._lock = own_directory(self.data_dir)
            self._socket = _listen(self._host, self._port or 0)
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self) -> None:
        """Wait until a signal asks to stop, which raises `StopRequested`.

        Raises:
            HouseGaveUp: a part kept dying.
        """
        if self._processes is not None and self._processes.wait():
            raise HouseGaveUp(self._processes.given_up or "")

    def stop(self) -> None:
        """End every part, the last started first, and leave no process. Safe to repeat.

        A second signal meanwhile ends what is left at once; the database still shuts down in order.
        """
        self._handle_signals(lambda _number, _frame: self._hurry.set())
        if self._processes is not None:
            self._say("stopping")
            self._processes.stop(self._hurry)
            self._processes = None
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_all(self) -> None:
        assert self._socket is not None
        web = f"http://{_reachable(self._host)}:{self._socket.getsockname()[1]}"
        keyless = self._given.get(f"{PREFIX}STRIPE_KEY", STANDIN_KEY) == STANDIN_KEY
        stripe = self._stand_in_at(PAYMENTS_STAND_IN) if self._stand_ins and keyless else None
        model = self._stand_in_at(MODEL_STAND_IN) if self._stand_ins else None
        database_url = self._start_database()
        with _timed(self._say, "database migrated"):
            upgrade_database(database_url)
        self.environment = self._settings(database_url, web, stripe, model)
        self._addresses = Addresses(web, database_url, stripe, model and f"{model}/v1")
        self._processes = Processes(
            self.data_dir / "logs",
            env={**self._outer, **self.environment, "PYTHONUNBUFFERED": "1"},
            say=self._say,
            also_mind=self._mind_database,
            steady_s=self._steady_s,
        )
        for service in self._services(web, stripe, model):
            if service.count:
                with _timed(self._say, f"{service.name} ready"):
                    self._processes.start(service)
        self._processes.watch()

    def _start_database(self) -> str:
        if self._database_url is not None:
            refuse_unusable(self._database_url)
            return self._database_url
        parts = self._webs + self._relays + self._couriers + self._workers + self._solvers
        parts += self._keepers
        self._postgres = EmbeddedPostgres(
            self.data_dir / "postgres",
            durable=self._durable,
            # Each process may open two pools: its own, and its broker's.
            max_connections=60 + 30 * parts,
        )
        with _timed(self._say, "PostgreSQL ready"):
            self._postgres.start()
        return self._postgres.url

    def _mind_database(self) -> None:
        if self._postgres is not None and not self._postgres.running:
            self._say("PostgreSQL has ended; starting it again")
            self._postgres.start()

    def _settings(
        self, database_url: str, web: str, stripe: str | None, model: str | None
    ) -> dict[str, str]:
        made = {
            "DATABASE_URL": database_url,
            "DATA_DIR": str(self.data_dir),
            "BROKER_URL": "postgres",
            "SECRET_KEY": self._secret("secret_key"),
            "STRIPE_KEY": STANDIN_KEY,
            "STRIPE_BASE_URL": stripe or "",
            "STRIPE_WEBHOOK_SECRET": self._secret("stripe_webhook_secret", "whsec_"),
            "STRIPE_THIN_SECRET": self._secret("stripe_thin_secret", "whsec_"),
            "WEB_HOST": self._host,
            "WEB_PORT": web.rpartition(":")[2],
            "PUBLIC_URL": web,
            "ALLOW_PRIVATE_TARGETS": "true" if model else "false",
        }
        settings = {f"{PREFIX}{name}": value for name, value in made.items()} | self._given
        # What this supervisor decided stands, whatever the environment says of it.
        for name in ("DATABASE_URL", "DATA_DIR", "WEB_HOST", "WEB_PORT"):
            settings[f"{PREFIX}{name}"] = made[name]
        if stripe is not None:
            settings[f"{PREFIX}STRIPE_BASE_URL"] = stripe
        return settings

    def _secret(self, name: str, prefix: str = "") -> str:
        """A key that is made once and kept, so that what it sealed can be opened tomorrow."""
        folder = self.data_dir / "secrets"
        folder.mkdir(exist_ok=True, mode=0o700)
        file = folder / name
        if not file.exists():
            write_private(file, prefix + secrets.token_urlsafe(32))
        return file.read_text().strip()

    def _services(self, web: str, stripe: str | None, model: str | None) -> list[Service]:
        assert self._socket is not None
        services = []
        if stripe is not None:
            services.append(self._payments_stand_in(stripe, web))
        if model is not None:
            services.append(_model_stand_in(model, self._recording))
        descriptor = self._socket.fileno()
        threads = self.environment.get(f"{PREFIX}WORKER_THREADS", "4")
        return [
            *services,
            Service(
                name="web",
                argv=_python("market.app", "--fd", str(descriptor)),
                count=self._webs,
                ready=f"{web}/health/ready",
                pass_fds=(descriptor,),
            ),
            Service(name="relay", argv=_python("market.relay"), count=self._relays),
            Service(
                name="courier",
                argv=_python("market.courier"),
                count=self._couriers,
                stop_timeout_s=WORKER_GRACE_S,
            ),
            Service(
                name="worker",
                argv=_python("market.worker", "--queues", "money,default", "--threads", threads),
                count=self._workers,
                stop_timeout_s=WORKER_GRACE_S,
            ),
            # The solver's memory and its long runs stay in a process of their own.
            Service(
                name="solver",
                argv=_python("market.worker", "--queues", "solver", "--threads", "1"),
                count=self._solvers,
                stop_timeout_s=WORKER_GRACE_S,
            ),
            Service(
                name="keeper",
                argv=_python("market.keeper"),
                count=self._keepers,
                stop_timeout_s=WORKER_GRACE_S,
            ),
        ]

    def _stand_in_at(self, module: str) -> str:
        """Where a stand-in shall listen: as last time, since projects keep its address."""
        if not (CHECKOUT / module.replace(".", "/") / "__main__.py").exists():
            raise StandInMissing(module)
        kept = self.data_dir / "stand-ins" / f"{module}.port"
        kept.parent.mkdir(exist_ok=True, mode=0o700)
        port = free_port(int(kept.read_text()) if kept.exists() else None)
        write_private(kept, str(port))
        return f"http://{HOST}:{port}"

    def _payments_stand_in(self, address: str, web: str) -> Service:
        options = {
            "--port": address.rpartition(":")[2],
            "--webhook": f"{web}{WEBHOOK_PATH}",
            "--webhook-secret": self.environment[f"{PREFIX}STRIPE_WEBHOOK_SECRET"],
            "--thin-webhook": f"{web}{THIN_WEBHOOK_PATH}",
            "--thin-secret": self.environment[f"{PREFIX}STRIPE_THIN_SECRET"],
        }
        words = [word for option in options.items() for word in option]
        if self._durable:
            # What it promised yesterday it must still know today.
            words += ["--state", str(self.data_dir / "stand-ins" / "stripe.json")]
        if self._instant_onboarding:
            words.append("--instant-onboarding")
        return Service(
            name="payments-stand-in",
            argv=_python(PAYMENTS_STAND_IN, *words),
            ready=f"{address}/_health",
            cwd=CHECKOUT,
        )

    def _catch_signals(self) -> None:
        def ask_to_stop(number: int, _frame: FrameType | None) -> None:
            raise StopRequested(signal.Signals(number))

        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
            self._handle_signals(ask_to_stop)

    def _handle_signals(self, handler: Callable[[int, FrameType | None], None]) -> None:
        for number in self._handlers:
            signal.signal(number, handler)


def _python(module: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *words)


def _model_stand_in(address: str, recording: Path | None) -> Service:
    answers = () if recording is None else ("--recording", str(recording.absolute()))
    return Service(
        name="model-stand-in",
        argv=_python(MODEL_STAND_IN, "--port", address.rpartition(":")[2], *answers),
        ready=f"{address}/v1/models",
        cwd=CHECKOUT,
    )


@contextmanager
def _timed(say: Callable[[str], None], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{what} in {time.monotonic() - began:.1f} s")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, for children to inherit; port 0 takes a free one."""
    patience = time.monotonic() + _PORT_PATIENCE_S
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                reason = (error.strerror or str(error)).lower()
                raise AddressNotUsable(host, port, reason) from error
            # A web process whose supervisor was killed may need a moment to be gone.
            if time.monotonic() > patience:
                raise PortInUse(host, port) from error
            time.sleep(0.05)
        else:
            return listening


def _reachable(host: str) -> str:
    """Where a process on this machine reaches a listener on `host`."""
    # An unspecified address means every interface; loopback is one of them.
    if not host.strip("0.:"):
        host = "::1" if ":" in host else HOST
    return f"[{host}]" if ":" in host else host
