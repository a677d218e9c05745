"""How many tasks a second one upload takes in, against bare COPY of the same rows.

Through the real HTTP server in a process of its own, on loopback, into a durable embedded
PostgreSQL: spooling, checking, verdicts, seats and the commit are all in the time. Bare COPY sends
the same rows, ready made, to a table without an index or a constraint. Rounds alternate, so that
what else the machine does falls on both alike. The peak memory of the server process is read from
the kernel, a fresh process for each size.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from market.auth import Part, keyring
from market.db import PLATFORM, database
from market.embedded import EmbeddedPostgres
from market.people.actions import sign_up
from tests.conftest import SECRET, migrate
from tests.factories import make_project

ROWS_PER_SECOND = 20_000
MEMORY_GROWTH = 1.25
"""The most that the peak may grow by when the file grows by four."""

WORDS = (
    "Give the product of this reaction and its stereochemistry, and say which step decides it."
    " The model under test reads the mechanism as concerted; it is not. "
)


@dataclass(frozen=True, slots=True)
class Case:
    """One upload: what came of it, and what it took.

    Units: megabytes of 10^6 bytes; seconds of wall time for the whole request; microseconds of
    processor time for each row, of the web process and of PostgreSQL's, which tell how much of the
    wall time was spent waiting for a machine that others use too.
    """

    rows: int
    megabytes: float
    seconds: float
    rows_per_second: int
    web_cpu_us: float
    postgres_cpu_us: float
    peak_memory_megabytes: float
    verdicts: dict[str, int]


def write_rows(path: Path, rows: int, *, broken: bool) -> None:
    """A file of tasks of some five hundred bytes; with `broken`, every third cannot be taken."""
    faults = (
        '{{"external_id":"t-{n}","domain":"chemistry"',
        '{{"external_id":"t-{n}","domain":"chemistry.organic","payload":[],"complexity":1}}',
        '{{"external_id":"t-{n}","domain":"law","payload":{{"instructions":"x"}}}}',
    )
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            if broken and n % 3 == 2:
                file.write(faults[n // 3 % 3].format(n=n) + " " * 380 + "\n")
                continue
            text = f"{WORDS}{n} {WORDS[: 60 + n % 60]}"
            row = {
                "external_id": f"t-{n}",
                "domain": ("chemistry", "chemistry.organic", "chemistry.physical")[n % 3],
                "payload": {"instructions": text, "rubric": ["names the step", "gives R or S"]},
                "complexity": 1 + n % 5,
                "expected_s": 900 + n % 900,
            }
            file.write(json.dumps(row) + "\n")


@contextmanager
def serving(url: str) -> Iterator[tuple[int, int]]:
    """A web process of its own: its port and its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environ = {
        **os.environ,
        "STUMPWORK_DATABASE_URL": url,
        "STUMPWORK_SECRET_KEY": SECRET,
        "STUMPWORK_WEB_PORT": str(port),
        "STUMPWORK_LOG_LEVEL": "ERROR",
    }
    server = subprocess.Popen([sys.executable, "-m", "market.app"], env=environ)
    try:
        for _ in range(200):
            if server.poll() is not None:
                raise RuntimeError(f"the web process ended with {server.returncode}")
            try:
                answer = _request(port, "GET", "/health/ready")
                if answer[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(20)


@dataclass(frozen=True, slots=True)
class Running:
    """What is measured: the web process on a port, and the PostgreSQL behind it."""

    port: int
    web_pid: int
    postgres_pid: int


def upload(on: Running, key: str, project_id: str, path: Path, rows: int) -> Case:
    """Send a file and wait for its verdicts."""
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/x-ndjson",
        "Content-Length": str(path.stat().st_size),
        "Idempotency-Key": f"{project_id}-{path.name}",
    }
    used = _cpu_seconds(on.web_pid), _cpu_seconds_under(on.postgres_pid)
    began = time.perf_counter()
    address = f"/v1/projects/{project_id}/tasks:import"
    status, body = _request(on.port, "POST", address, headers, path)
    seconds = time.perf_counter() - began
    web_used = _cpu_seconds(on.web_pid) - used[0]
    postgres_used = _cpu_seconds_under(on.postgres_pid) - used[1]
    if status != 201:
        raise RuntimeError(f"the upload was answered {status}: {body[:500]!r}")
    told = json.loads(body)
    verdicts = {name: told[name] for name in ("created", "unchanged", "conflicts", "rejected")}
    if told["rows"] != rows:
        raise RuntimeError(f"{rows} rows were sent and {told['rows']} judged")
    return Case(
        rows=rows,
        megabytes=round(path.stat().st_size / 1e6, 1),
        seconds=round(seconds, 2),
        rows_per_second=round(rows / seconds),
        web_cpu_us=round(web_used / rows * 1e6, 1),
        postgres_cpu_us=round(postgres_used / rows * 1e6, 1),
        peak_memory_megabytes=_peak_memory(on.web_pid),
        verdicts=verdicts,
    )


def copy_bare(url: str, project: dict[str, str], path: Path) -> float:
    """Rows a second of COPY alone: the file's own rows, ready made, into a table without rules."""
    lines = []
    for n, line in enumerate(path.open(encoding="utf-8")):
        row = json.loads(line)
        payload = json.dumps(row["payload"]).replace("\\", "\\\\")
        lines.append(
            f"00000000-0000-7000-8000-{n:012x}\t{project['organisation']}\t{project['id']}"
            f"\t{row['external_id']}\t{row['domain']}\t{payload}\t{row['expected_s']}\tnow"
            f"\t{row['complexity']}\t1.0\tqueued\t\\N\t\\N\t{n}\t1\n"
        )
    blocks = ["".join(lines[at : at + 2_000]).encode() for at in range(0, len(lines), 2_000)]
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("create table public.bare (like market.task)")
        began = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("copy public.bare from stdin") as copy:
            for block in blocks:
                copy.write(block)
        connection.commit()
        seconds = time.perf_counter() - began
        connection.execute("drop table public.bare")
        connection.commit()
    return len(lines) / seconds


def main(argv: list[str]) -> int:
    """Measure, print JSON, and say by the exit code whether the bound was met."""
    parser = argparse.ArgumentParser(prog="import", description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000, help="of the small file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seats", type=int, default=1, help="answers asked for each task")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-import") as name:
        folder = Path(name)
        files = {
            "small": (options.rows, False),
            "large": (options.rows * 4, False),
            "every_third_broken": (options.rows * 4, True),
        }
        for label, (rows, broken) in files.items():
            write_rows(folder / f"{label}.jsonl", rows, broken=broken)
        with EmbeddedPostgres(folder / "postgres") as postgres:
            migrate(postgres.url)
            told = _measure(postgres, folder, files, options.rounds, options.seats)
    print(json.dumps(told))
    is_met = told["rows_per_second"] >= ROWS_PER_SECOND
    return 0 if is_met and told["memory_growth"] <= MEMORY_GROWTH else 1


def _measure(
    postgres: EmbeddedPostgres,
    folder: Path,
    files: dict[str, tuple[int, bool]],
    rounds: int,
    seats: int,
) -> dict[str, Any]:
    url, postgres_pid = postgres.url, postgres.pid
    assert postgres_pid is not None
    keyring.open(SECRET)
    database.open(url)
    cases: dict[str, list[Case]] = {label: [] for label in files}
    bare: list[float] = []
    again: list[Case] = []
    for number in range(rounds):
        for label, (rows, _) in files.items():
            key, project = _open_project(seats)
            with serving(url) as (port, pid):
                path = folder / f"{label}.jsonl"
                on = Running(port, pid, postgres_pid)
                case = upload(on, key, project["wire"], path, rows)
                print(json.dumps({"round": number, "case": label, **asdict(case)}), flush=True)
                cases[label].append(case)
            if label == "large":
                bare.append(copy_bare(url, project, path))
                print(json.dumps({"round": number, "bare_copy": round(bare[-1])}), flush=True)
                with serving(url) as (port, pid):
                    renamed = path.rename(folder / "again.jsonl")
                    on = Running(port, pid, postgres_pid)
                    again.append(upload(on, key, project["wire"], renamed, rows))
                    renamed.rename(path)
                print(json.dumps({"round": number, "case": "again", **asdict(again[-1])}))
    database.close()
    speed = median(case.rows_per_second for case in cases["large"])
    peaks = {
        label: max(case.peak_memory_megabytes for case in found) for label, found in cases.items()
    }
    return {
        "bench": "import",
        "rows_per_second": round(speed),
        "bare_copy_rows_per_second": round(median(bare)),
        "ratio": round(speed / median(bare), 3),
        "every_third_broken_rows_per_second": round(
            median(case.rows_per_second for case in cases["every_third_broken"])
        ),
        "same_file_again_rows_per_second": round(median(case.rows_per_second for case in again)),
        "cpu_us_per_row": {
            "web": median(case.web_cpu_us for case in cases["large"]),
            "postgres": median(case.postgres_cpu_us for case in cases["large"]),
        },
        "seats": seats,
        "megabytes": {label: found[0].megabytes for label, found in cases.items()},
        "peak_memory_megabytes": peaks,
        "memory_growth": round(peaks["large"] / peaks["small"], 3),
    }


def _open_project(seats: int) -> tuple[str, dict[str, str]]:
    with database.begin(PLATFORM) as session:
        stamp = time.time_ns()
        joined = sign_up(
            session,
            part=Part.LAB,
            name="Lab",
            email=f"lab.{stamp}@people.example",
            organisation_name="Lab",
            at=datetime.now(UTC),
        )
        assert joined.organisation is not None
        project = make_project(session, joined.organisation.id, answers_per_task=seats)
        return joined.secret, {
            "id": str(project.id),
            "wire": f"prj_{project.id.hex}",
            "organisation": str(joined.organisation.id),
        }


def _request(
    port: int,
    method: str,
    address: str,
    headers: dict[str, str] | None = None,
    path: Path | None = None,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600, blocksize=256 * 1024)
    try:
        if path is None:
            connection.request(method, address, headers=headers or {})
        else:
            with path.open("rb") as file:
                connection.request(method, address, body=file, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds_under(pid: int) -> float:
    """The same of the processes that a process has started and that are still there."""
    used = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end between the listing and the reading.
        with suppress(OSError):
            if int(_stat(int(folder.name))[1]) == pid:
                used += _cpu_seconds(int(folder.name))
    return used


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _peak_memory(pid: int) -> float:
    """The most memory that a process has held, as the kernel counted it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise RuntimeError(f"the kernel does not say how much memory {pid} held")
