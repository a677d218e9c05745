"""Files of tasks, sent by a lab: what the tests of imports share."""

import json
from collections.abc import Sequence
from typing import Any

from httpx import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.projects.models import Project
from market.tasks.models import Task
from tests.factories import Caller

JSONL = "application/x-ndjson"


def row(number: int, **fields: object) -> dict[str, object]:
    """A row that can be taken, with some fields of its own."""
    return {
        "external_id": f"t-{number}",
        "domain": "chemistry.organic",
        "payload": {"instructions": f"Ask {number} \t \\ \n “it”."},
        **fields,
    }


def lines(rows: Sequence[object]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def send(
    lab: Caller,
    project: Project,
    body: bytes,
    kind: str = JSONL,
    *,
    key: str = "k",
    what: str = "tasks",
    **headers: str,
) -> Response:
    """Send a file into a project under a key."""
    return lab.post(
        f"/v1/projects/prj_{project.id.hex}/{what}:import",
        content=body,
        headers={"Content-Type": kind, "Idempotency-Key": key, **headers},
    )


def told(answer: Response) -> dict[str, Any]:
    """What an import that was taken in says of itself."""
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    """How many rows were created, unchanged, in conflict and rejected."""
    return found["created"], found["unchanged"], found["conflicts"], found["rejected"]


def kept(db: Session, project: Project) -> dict[str, Task]:
    """A project's tasks by the lab's own names for them."""
    db.expire_all()
    rows = db.scalars(select(Task).where(Task.project_id == project.id))
    return {task.external_id: task for task in rows}
