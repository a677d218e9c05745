"""Uploads through the real server process: large, broken in every third row, cut off by death."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import httpx
import psycopg
import pytest

from market.auth import Part
from market.db import database
from market.people.actions import sign_up
from tests.bench.import_tasks import serving, write_rows
from tests.factories import AT, make_project

ROWS = 24_000
"""Some ten megabytes; the bench sends a hundred."""

TABLES = ("task", "task_slot", "bulk_import", "import_row", "kept_reply")


@dataclass(frozen=True, slots=True)
class Sender:
    """A lab with one project, that sends one file under one key."""

    key: str
    project_id: str
    path: Path

    def send(self, port: int) -> httpx.Response:
        """Send the file, a piece at a time."""
        with self.path.open("rb") as file:
            return httpx.post(
                f"http://127.0.0.1:{port}/v1/projects/{self.project_id}/tasks:import",
                content=iter(lambda: file.read(64 * 1024), b""),
                headers={
                    "Authorization": f"Bearer {self.key}",
                    "Content-Type": "application/x-ndjson",
                    "Idempotency-Key": "the-upload",
                },
                timeout=120,
            )


@pytest.fixture
def sender(committed: str, tmp_path: Path) -> Sender:
    del committed
    with database.begin() as session:
        joined = sign_up(
            session,
            part=Part.LAB,
            name="Lab",
            email="lab@people.example",
            organisation_name="Lab",
            at=AT,
        )
        assert joined.organisation is not None
        project = make_project(session, joined.organisation.id)
    path = tmp_path / "tasks.jsonl"
    write_rows(path, ROWS, broken=True)
    with database.begin() as session:
        session.get_one(type(joined.key), joined.key.id).expires_at = AT.replace(year=2099)
    return Sender(joined.secret, f"prj_{project.id.hex}", path)


def counted(url: str) -> dict[str, int]:
    """How many rows each table has."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = {}
        for table in TABLES:
            row = connection.execute(f"select count(*) from market.{table}").fetchone()
            assert row is not None
            found[table] = int(row[0])
        return found


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again, for so long at most."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.002)


def test_an_upload_with_every_third_row_broken_takes_the_others_and_tells_of_each(
    committed: str, sender: Sender
) -> None:
    with serving(committed) as (port, _):
        answer = sender.send(port)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert (told["rows"], told["created"]) == (ROWS, ROWS * 2 // 3)
        assert (told["rejected"], told["conflicts"]) == (ROWS // 3, 0)
        headers = {"Authorization": f"Bearer {sender.key}"}
        with httpx.stream(
            "GET", f"http://127.0.0.1:{port}{told['verdicts']}", headers=headers, timeout=60
        ) as stream:
            verdicts = [json.loads(line) for line in stream.iter_lines()]
        assert [one["line"] for one in verdicts] == list(range(1, ROWS + 1))
        wrong = [
            one["line"]
            for one in verdicts
            if one["verdict"] != ("rejected" if one["line"] % 3 == 0 else "created")
        ]
        assert wrong == []
        codes = [one["code"] for one in verdicts if one["code"]][:3]
        assert codes == ["malformed_json", "wrong_type", "domain_unknown"]
        assert sender.send(port).json() == told
    found = counted(committed)
    assert (found["task"], found["task_slot"]) == (ROWS * 2 // 3,) * 2
    assert (found["bulk_import"], found["import_row"]) == (1, ROWS // 3)


@pytest.mark.parametrize("stage", ["copy staged", "with made", "insert into market.import_row"])
def test_a_server_killed_in_the_middle_leaves_nothing_and_the_same_key_starts_anew(
    committed: str, sender: Sender, stage: str
) -> None:
    broken: list[Exception] = []

    def upload(port: int) -> None:
        try:
            sender.send(port)
        except httpx.HTTPError as cut:
            broken.append(cut)

    watching = psycopg.connect(committed.replace("+psycopg", ""), autocommit=True)

    def is_at(words: str) -> bool:
        row = watching.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and state = 'active' and ltrim(query, E' \\n') like %s",
            [f"{words}%"],
        ).fetchone()
        return row is not None and row[0] > 0

    with watching, serving(committed) as (port, pid):
        thread = Thread(target=upload, args=(port,))
        thread.start()
        wait_until(lambda: is_at(stage))
        os.kill(pid, signal.SIGKILL)
        thread.join(60)
        assert len(broken) == 1
        wait_until(lambda: not is_at("%"))
    assert counted(committed) == dict.fromkeys(TABLES, 0)
    with serving(committed) as (port, _):
        told = sender.send(port).json()
    assert (told["rows"], told["created"]) == (ROWS, ROWS * 2 // 3)
    assert counted(committed)["task"] == ROWS * 2 // 3


def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(
    committed: str, sender: Sender
) -> None:
    def cut_off() -> Iterator[bytes]:
        with sender.path.open("rb") as file:
            yield file.read(2_000_000)
        raise RuntimeError("the sender went away")

    with serving(committed) as (port, _):
        with pytest.raises(RuntimeError, match="went away"):
            httpx.post(
                f"http://127.0.0.1:{port}/v1/projects/{sender.project_id}/tasks:import",
                content=cut_off(),
                headers={
                    "Authorization": f"Bearer {sender.key}",
                    "Content-Type": "application/x-ndjson",
                    "Idempotency-Key": "the-upload",
                },
            )
        # The server is still there, and the key is free for the whole file.
        assert sender.send(port).json()["rows"] == ROWS
    assert counted(committed)["bulk_import"] == 1
