"""Children of a supervisor come up, come back, say what is wrong, and never stay behind."""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from market.embedded import free_port
from market.processes import MAX_FAILURES, Processes, Service, ServiceDidNotStart, loud_line
from tests.market.test_embedded import (
    PATIENCE_S,
    assert_one_line,
    environment,
    is_gone,
)

SLEEP = "import time; time.sleep(60)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""

LEAVE_A_MARK = """
import signal, sys, time

def leave(*_):
    with open({file!r}, "a") as order:
        order.write({name!r} + " ")
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(60)
"""

SUPERVISE = """
import os, signal, sys, time
from pathlib import Path
from market.processes import Processes, Service

sleep = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)")
processes = Processes(Path(sys.argv[1]), env=os.environ, say=print, first_pause_s=0.05)
processes.start(Service(name="main", argv=sleep))
processes.start(Service(name="again", argv=sleep))
before = processes.pids["again"]
processes.watch()
# The one that is started again comes from the watching thread, by way of a guard.
os.kill(before, signal.SIGKILL)
while processes.pids.get("again") in (None, before):
    time.sleep(0.02)
print("ready", *processes.pids.values(), flush=True)
time.sleep(60)
"""


class Notes:
    """What was said, for a test to wait on."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def has(self, *words: str) -> bool:
        """Whether one line, said by now or soon, holds all the words."""
        return eventually(
            lambda: any(all(word in line for word in words) for line in list(self.lines))
        )


@pytest.fixture
def notes() -> Notes:
    """Collects what the supervisor says."""
    return Notes()


@pytest.fixture
def processes(tmp_path: Path, notes: Notes) -> Iterator[Processes]:
    """A supervisor of nothing yet, which restarts quickly and is stopped in the end."""
    made = Processes(tmp_path / "logs", env=os.environ, say=notes, first_pause_s=0.02)
    yield made
    made.stop()


def small(
    name: str,
    code: str,
    *,
    count: int = 1,
    ready: str | Callable[[], bool] | None = None,
    start_timeout_s: float = PATIENCE_S,
    stop_timeout_s: float = PATIENCE_S,
) -> Service:
    """A service that runs a few lines of Python, with nothing imported at its start."""
    return Service(
        name=name,
        argv=(sys.executable, "-I", "-S", "-c", code),
        count=count,
        ready=ready,
        start_timeout_s=start_timeout_s,
        stop_timeout_s=stop_timeout_s,
    )


def eventually(claim: Callable[[], bool]) -> bool:
    """Whether a claim comes true within the patience of a test."""
    until = time.monotonic() + PATIENCE_S
    while not claim():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def is_running(pid: int) -> bool:
    """Whether a process is there at this moment."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_service_is_ready_when_its_address_answers(processes: Processes) -> None:
    port = free_port()
    code = f"""
import http.server, time
time.sleep(0.2)
http.server.HTTPServer(("127.0.0.1", {port}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
    processes.start(small("web", code, ready=f"http://127.0.0.1:{port}/"))
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as asking:
        asking.request("GET", "/")
        assert asking.getresponse().status == 200


def test_a_service_that_ends_before_it_is_ready_is_refused_with_its_last_words(
    processes: Processes,
) -> None:
    dying = small("dying", "import sys; sys.exit('no such colour')", ready=lambda: False)
    with pytest.raises(ServiceDidNotStart, match="no such colour") as refusal:
        processes.start(dying)
    assert "dying.log" in str(refusal.value)
    assert_one_line(refusal.value)


def test_a_service_that_is_never_ready_is_refused_in_time(processes: Processes) -> None:
    with pytest.raises(ServiceDidNotStart, match="not ready within"):
        processes.start(small("slow", SLEEP, ready=lambda: False, start_timeout_s=0.2))


def test_a_crashed_child_is_started_again(processes: Processes, notes: Notes) -> None:
    processes.start(small("steady", SLEEP))
    processes.start(small("shaky", SLEEP, count=2))
    processes.watch()
    before = processes.pids
    os.kill(before["shaky-2"], signal.SIGKILL)
    assert eventually(lambda: processes.pids.get("shaky-2") not in (None, before["shaky-2"]))
    assert notes.has("shaky-2", "SIGKILL", "starting it again")
    after = processes.pids
    assert (after["steady"], after["shaky-1"]) == (before["steady"], before["shaky-1"])


def test_a_child_that_keeps_dying_is_given_up(processes: Processes, notes: Notes) -> None:
    processes.start(small("hopeless", "import time; time.sleep(0.05); raise SystemExit('empty')"))
    processes.watch()
    assert processes.wait(PATIENCE_S)
    assert processes.given_up is not None
    assert "hopeless" in processes.given_up
    assert "empty" in processes.given_up
    assert sum("starting it again" in line for line in notes.lines) == MAX_FAILURES
    assert processes.pids == {}


def test_what_a_child_warns_of_is_passed_on(processes: Processes, notes: Notes) -> None:
    code = """
import time
print('{"event": "request", "level": "info"}')
print('{"event": "disk.full", "level": "error", "free_bytes": 7}')
print('WARNING: it rains', flush=True)
time.sleep(60)
"""
    processes.start(small("talker", code))
    processes.watch()
    assert notes.has("talker: error disk.full free_bytes=7")
    assert notes.has("talker: WARNING: it rains")
    assert not any("request" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"level": "info", "event": "error"}', None),
        ('{"level": "warning", "event": "slow", "ms": 9}', "warning slow ms=9"),
        (
            '{"level": "error", "event": "x", "exception": "Trace\\n  File\\nKeyError: 1"}',
            "error x KeyError: 1",
        ),
        ("2026-01-02 03:04:05 [ERROR] lost it", "2026-01-02 03:04:05 [ERROR] lost it"),
        ("no error here, nor warning", None),
        ("{not json", None),
        ("", None),
    ],
)
def test_only_lines_that_warn_are_loud(line: str, said: str | None) -> None:
    assert loud_line(line) == said


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second", "third"):
        processes = Processes(tmp_path, env=os.environ, say=lambda _line: None)
        processes.start(small("talker", f"print('{word}', flush=True); {SLEEP}"))
        assert eventually(lambda: (tmp_path / "talker.log").read_text() != "")
        processes.stop()
    assert (tmp_path / "talker.log").read_text() == "third\n"
    assert (tmp_path / "talker.log.1").read_text() == "second\n"


def test_children_stop_in_reverse_order(processes: Processes, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("database", "web", "worker"):
        processes.start(small(name, LEAVE_A_MARK.format(file=str(order), name=name)))
    logs = [tmp_path / "logs" / f"{name}.log" for name in ("database", "web", "worker")]
    assert eventually(lambda: all(log.read_text() for log in logs))
    pids = list(processes.pids.values())
    processes.stop()
    assert order.read_text().split() == ["worker", "web", "database"]
    assert not any(is_running(pid) for pid in pids)


def test_a_child_that_will_not_stop_is_killed_with_its_own_children(
    processes: Processes, tmp_path: Path, notes: Notes
) -> None:
    log = tmp_path / "logs" / "stubborn.log"
    processes.start(
        small("stubborn", STUBBORN, ready=lambda: bool(log.read_text()), stop_timeout_s=0.2)
    )
    child, grandchild = processes.pids["stubborn"], int(log.read_text())
    processes.stop()
    assert notes.has("stubborn did not end when asked")
    assert is_gone(child)
    assert is_gone(grandchild)


def test_in_a_hurry_nobody_is_waited_for(processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "stubborn.log"
    processes.start(
        small("stubborn", STUBBORN, ready=lambda: bool(log.read_text()), stop_timeout_s=50.0)
    )
    hurry = threading.Event()
    hurry.set()
    began = time.monotonic()
    processes.stop(hurry)
    assert time.monotonic() - began < 10
    assert processes.pids == {}


def test_no_child_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    pids: list[int] = []
    for line in supervisor.stdout:
        if line.startswith("ready"):
            pids = [int(word) for word in line.split()[1:]]
            break
    assert len(pids) == 2
    assert all(is_running(pid) for pid in pids)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait(PATIENCE_S)
    supervisor.stdout.close()
    assert all(is_gone(pid) for pid in pids)
