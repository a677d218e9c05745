"""The whole house in one process tree: what it refuses, how it mends itself, and its end."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from market.cluster import DataDirectoryInUse
from market.embedded import PortInUse, free_port
from market.supervisor import AddressNotUsable, Market
from market.upgrade import DatabaseNotUsable
from tests.market.test_embedded import (
    PACKAGES,
    PATIENCE_S,
    REPOSITORY,
    assert_one_line,
    environment,
)
from tests.market.test_processes import eventually

HOLD = """
import sys, time
from pathlib import Path
from market.cluster import own_directory

lock = own_directory(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""

SERVE_ALL = """
import sys
from pathlib import Path
from market.cluster import StartRefused
from market.supervisor import Market, StopRequested

def say(line):
    print(line, flush=True)

try:
    with Market(Path(sys.argv[1]), web_port=int(sys.argv[2])).start(say) as house:
        say(f"model {house.addresses.target_model}")
        say("pids " + " ".join(f"{name}={pid}" for name, pid in house.pids.items()))
        house.wait()
except StopRequested as stop:
    say(f"stopped by {stop.number.name}")
except StartRefused as refusal:
    say(f"refused: {refusal}")
    sys.exit(1)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that a server of any kind can reach."""
    made = Path(tempfile.mkdtemp(prefix="stumpwork-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def test_a_folder_in_use_is_refused_in_one_line(folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(DataDirectoryInUse, match=str(holder.pid)) as refusal:
            Market(folder, stand_ins=False).start()
        assert_one_line(refusal.value)
    finally:
        holder.kill()
        holder.wait(PATIENCE_S)
        holder.stdout.close()


def test_without_a_checkout_there_are_no_stand_ins_and_that_is_said_in_one_line(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(REPOSITORY / "market", tmp_path / "market")
    done = subprocess.run(
        [sys.executable, "-c", SERVE_ALL, str(folder), "0"],
        env=environment(PYTHONPATH=f"{tmp_path}:{PACKAGES}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("refused: tests.fakestripe, a stand-in,")
    assert done.stdout.count("\n") == 1
    assert not (folder / "postgres").exists()


def test_a_web_port_in_use_is_refused_in_one_line_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)) as refusal:
            Market(folder, web_port=port, stand_ins=False).start()
    assert_one_line(refusal.value)
    assert not (folder / "postgres").exists()


def test_an_address_that_is_not_this_machines_is_refused_in_one_line(folder: Path) -> None:
    # An address of the block that is kept for documentation.
    with pytest.raises(AddressNotUsable) as refusal:
        Market(folder, web_host="192.0.2.1", stand_ins=False).start()
    assert_one_line(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://stumpwork:secret@127.0.0.1:{port}/stumpwork", "somewhere {port}"],
)
def test_a_database_that_does_not_answer_is_refused_without_its_password(
    folder: Path, url: str
) -> None:
    with pytest.raises(DatabaseNotUsable) as refusal:
        Market(folder, database_url=url.format(port=free_port()), stand_ins=False).start()
    assert "secret" not in str(refusal.value)
    assert_one_line(refusal.value)


@pytest.mark.slow
def test_the_house_answers_mends_itself_and_stops_without_a_trace(folder: Path) -> None:
    port = free_port()
    house = start_house(folder, port)
    try:
        pids = house.pids
        assert set(pids) == {
            *("postgres", "web", "relay", "courier", "keeper", "worker", "solver"),
            *("payments-stand-in", "model-stand-in"),
        }
        assert ready_status(port) == 200
        os.kill(pids["web"], signal.SIGKILL)
        # The socket is the supervisor's: a caller waits, and is not turned away.
        assert ready_status(port) == 200
        os.kill(pids["postgres"], signal.SIGKILL)
        assert house.says("PostgreSQL has ended; starting it again")
        assert eventually(lambda: ready_status(port) == 200)
        keys = {file.name: file.read_text() for file in (folder / "secrets").iterdir()}
        assert all((folder / "secrets" / name).stat().st_mode & 0o077 == 0 for name in keys)
        house.process.send_signal(signal.SIGTERM)
        assert house.says("stopped by SIGTERM")
        assert house.process.wait(PATIENCE_S) == 0
        assert house.leaves_nothing()
    finally:
        house.kill()

    second = start_house(folder, port)
    try:
        # Projects keep the address of their target model, so it must answer there again.
        assert second.says(house.model)
        # SIGKILL runs no clean-up at all.
        second.process.kill()
        second.process.wait(PATIENCE_S)
        assert second.leaves_nothing()
    finally:
        second.kill()
    assert keys == {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


class House:
    """A whole house, supervised by another process."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE_ALL, str(folder), str(port)],
            env={
                name: value
                for name, value in environment().items()
                if not name.startswith("STUMPWORK_")
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
        self.process.stdout.close()

    @property
    def pids(self) -> dict[str, int]:
        """Of its parts, as it said at its start."""
        words = next(line for line in self.lines if line.startswith("pids ")).split()[1:]
        return {name: int(pid) for name, _, pid in (word.partition("=") for word in words)}

    @property
    def model(self) -> str:
        """The line in which it said where its target model answers."""
        return next(line for line in self.lines if line.startswith("model "))

    def says(self, words: str) -> bool:
        """Whether a line with these words has come, or comes soon."""
        return eventually(lambda: any(words in line for line in list(self.lines)))

    def leaves_nothing(self) -> bool:
        """Whether no process is left of all that ever named its folder or came from it."""
        return eventually(lambda: not processes_naming(self.folder))

    def kill(self) -> None:
        """End it, however far it came."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.leaves_nothing()


def start_house(folder: Path, port: int) -> House:
    """A house that is up, or a failed test with what it said."""
    house = House(folder, port)
    until = time.monotonic() + 2 * PATIENCE_S
    while not any(line.startswith("pids ") for line in house.lines):
        if house.process.poll() is not None or time.monotonic() > until:
            house.kill()
            raise AssertionError("\n".join(house.lines))
        time.sleep(0.05)
    return house


def processes_naming(folder: Path) -> list[int]:
    """Every process whose command line or settings name the folder."""
    if not Path("/proc/self/environ").exists():
        told = subprocess.run(
            ["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True
        )
        return [int(line.split()[0]) for line in told.stdout.splitlines() if str(folder) in line]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            # It has ended meanwhile, or is somebody else's.
            continue
        if os.fsencode(folder) in words:
            found.append(int(process.name))
    return found


def ready_status(port: int) -> int:
    """The web's answer to whether it is ready; nought when the connection was lost."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as asking:
        try:
            asking.request("GET", "/health/ready")
            return asking.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
