"""Child processes by name: started in order, watched, restarted, and ended in reverse order.

Each child writes straight into a file of its own, so a stalled supervisor stalls nobody, and what
a killed child said is still there. Lines that warn are read back from the files and passed on.
"""

import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from market.cluster import StartRefused
from market.leash import Leashed, spawn

MAX_FAILURES = 5
"""Deaths in a row after which a service is started again; the next one ends it all."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
STEADY_S = 60.0
"""A child that lived this long has come up; its next death is the first of a new row."""

LOG_LIMIT_BYTES = 64 * 1024 * 1024
_TICK_S = 0.1
_PROBE_TIMEOUT_S = 5.0
_LOUD = ("warning", "error", "critical")


class ServiceDidNotStart(StartRefused):
    """A child ended before it was ready, or was not ready in time."""

    def __init__(self, name: str, log: Path, last_words: str) -> None:
        super().__init__(f"{name} did not start: {last_words} (log: {log})")
        self.name = name
        self.log = log


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What to run, how many of it, and how to know that it is there.

    `ready` is an address that must answer with a 2xx, or a check; without it, running is enough.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    ready: str | Callable[[], bool] | None = None
    restart: bool = True
    pass_fds: tuple[int, ...] = ()
    cwd: Path | None = None
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 15.0


@dataclass(slots=True, kw_only=True)
class _Child:
    service: Service
    name: str
    log: Path
    process: Leashed
    started: float
    failures: int = 0
    due: float | None = None
    """When a dead child is started again, by the monotonic clock."""
    read_to: int = 0
    tail: bytes = b""


class Processes:
    """The children of one supervisor.

    `say` gets one line for each thing worth knowing while they run: a warning of theirs, a death,
    a restart. Nothing is watched before `watch`; then `also_mind` is called at every look as well.
    """

    def __init__(
        self,
        logs: Path,
        *,
        env: Mapping[str, str],
        say: Callable[[str], None],
        also_mind: Callable[[], None] | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
        steady_s: float = STEADY_S,
    ) -> None:
        self._logs = logs
        self._env = dict(env)
        self._say = say
        self._also_mind = also_mind
        self._first_pause_s = first_pause_s
        self._steady_s = steady_s
        self._children: list[_Child] = []
        # Guards the list and the children in it; the watching thread restarts and the caller stops.
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._gave_up = threading.Event()
        self._watcher: threading.Thread | None = None
        self.given_up: str | None = None
        """Why the whole cannot go on, once it cannot."""

    @property
    def pids(self) -> dict[str, int]:
        """Of every child that is running, by its name."""
        with self._lock:
            return {
                child.name: child.process.pid
                for child in self._children
                if child.process.returncode is None
            }

    def start(self, service: Service) -> None:
        """Start every child of a service and wait until it is ready.

        Raises:
            ServiceDidNotStart.
        """
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        children: list[_Child] = []
        for number in range(1, service.count + 1):
            name = service.name if service.count == 1 else f"{service.name}-{number}"
            log = self._logs / f"{name}.log"
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
            process = self._spawn(service, log)
            child = _Child(
                service=service, name=name, log=log, process=process, started=time.monotonic()
            )
            children.append(child)
            with self._lock:
                self._children.append(child)
        self._await_ready(service, children)

    def watch(self) -> None:
        """Begin to restart what dies and to pass warnings on, in a thread of its own."""
        self._watcher = threading.Thread(target=self._keep_watch, name="watch-children")
        self._watcher.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until a service is given up; whether one was."""
        return self._gave_up.wait(timeout_s)

    def stop(self, hurry: threading.Event | None = None) -> None:
        """End all children, last started first; SIGKILL after a grace, or at once in a hurry."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        while self._children:
            service = self._children[-1].service
            ending = [child for child in self._children if child.service is service]
            for child in ending:
                child.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + service.stop_timeout_s
            for child in ending:
                while not child.process.wait(_TICK_S):
                    if time.monotonic() > deadline or (hurry is not None and hurry.is_set()):
                        self._say(f"{child.name} did not end when asked; killing it")
                        break
                # Whatever a child left behind in its group ends with it.
                child.process.kill_group()
                self._echo(child)
            with self._lock:
                self._children = [child for child in self._children if child not in ending]

    def _spawn(self, service: Service, log: Path) -> Leashed:
        with log.open("ab") as output:
            return spawn(
                service.argv,
                env={**self._env, **service.env},
                output=output,
                # A child that lost its supervisor has nothing to wait for: what it was doing is
                # done again by the next one.
                death_signal=signal.SIGKILL,
                pass_fds=service.pass_fds,
                cwd=service.cwd,
            )

    def _await_ready(self, service: Service, children: list[_Child]) -> None:
        deadline = time.monotonic() + service.start_timeout_s
        while True:
            for child in children:
                code = child.process.returncode
                if code is not None:
                    raise ServiceDidNotStart(child.name, child.log, _last_words(child.log, code))
            if service.ready is None or _is_ready(service.ready):
                return
            if time.monotonic() > deadline:
                words = f"not ready within {service.start_timeout_s:.0f} s"
                raise ServiceDidNotStart(service.name, children[0].log, words)
            time.sleep(0.03)

    def _keep_watch(self) -> None:
        while not self._stopping.wait(_TICK_S):
            with self._lock:
                children = list(self._children)
            for child in children:
                self._echo(child)
                _bound_log(child)
                self._revive(child)
            if self._also_mind is not None and not self._gave_up.is_set():
                self._mind_other()

    def _mind_other(self) -> None:
        assert self._also_mind is not None
        try:
            self._also_mind()
        except StartRefused as refusal:
            self._give_up(str(refusal))

    def _give_up(self, reason: str) -> None:
        self.given_up = reason
        self._say(f"giving up: {reason}")
        self._gave_up.set()

    def _revive(self, child: _Child) -> None:
        code = child.process.returncode
        if code is None or self._gave_up.is_set():
            return
        now = time.monotonic()
        if child.due is None:
            child.process.kill_group()
            child.failures = 1 if now - child.started > self._steady_s else child.failures + 1
            if not child.service.restart or child.failures > MAX_FAILURES:
                self._give_up(f"{child.name}: {_last_words(child.log, code)} (log: {child.log})")
                return
            pause_s = min(self._first_pause_s * 2 ** (child.failures - 1), LONGEST_PAUSE_S)
            child.due = now + pause_s
            words = _last_words(child.log, code)
            self._say(f"{child.name}: {words}; starting it again in {pause_s:g} s")
        elif now >= child.due:
            process = self._spawn(child.service, child.log)
            with self._lock:
                child.process, child.started, child.due = process, now, None

    def _echo(self, child: _Child) -> None:
        """Pass on the lines that warn, from where the last reading ended."""
        try:
            with child.log.open("rb") as log:
                if os.fstat(log.fileno()).st_size < child.read_to:
                    child.read_to, child.tail = 0, b""
                log.seek(child.read_to)
                fresh = log.read(1 << 20)
        except FileNotFoundError:
            return
        child.read_to += len(fresh)
        *lines, child.tail = (child.tail + fresh).split(b"\n")
        for line in lines:
            warning = loud_line(line.decode(errors="replace"))
            if warning is not None:
                self._say(f"{child.name}: {warning}")


def loud_line(line: str) -> str | None:
    """What a line of a log has to say to a person at the terminal; None for most lines."""
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and "level" in record:
            if str(record["level"]).lower() not in _LOUD:
                return None
            left_out = ("event", "level", "at", "logger", "exception")
            facts = [f"{key}={value}" for key, value in record.items() if key not in left_out]
            trace = str(record.get("exception") or "").strip().splitlines()
            return " ".join(
                [str(record["level"]), str(record.get("event", "")), *facts, *trace[-1:]]
            )
    words = line.replace("[", " ").replace("]", " ").replace(":", " ").split()[:6]
    if any(word.lower() in _LOUD and word.isupper() for word in words):
        return line.strip()
    return None


def _is_ready(ready: str | Callable[[], bool]) -> bool:
    if not isinstance(ready, str):
        return ready()
    # No proxy of the environment stands between a supervisor and its own children.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(ready, timeout=_PROBE_TIMEOUT_S) as answer:
            return 200 <= int(answer.status) < 300
    except (urllib.error.URLError, OSError):
        return False


def _bound_log(child: _Child) -> None:
    # The child appends, so after the cut it goes on at the beginning of the same file.
    if child.log.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(child.log, child.log.with_suffix(".log.1"))
        os.truncate(child.log, 0)
        child.read_to, child.tail = 0, b""


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _last_words(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"it {_ending(code)}" + (f", saying: {lines[-1][:300]}" if lines else "")
