"""A lab's webhooks: what happens to it, what is sent, and what the log of deliveries says."""

from datetime import datetime
from typing import Any
from uuid import UUID

from market.courier import make_deliveries
from market.db import PLATFORM, database, new_id, now
from market.events import Event, emit
from market.feeds import publish
from market.letters.actions import reserve_deliveries
from market.letters.jobs import carry_letter
from tests.factories import AT, Caller


def happen(lab: Caller, *events: Event, subject: UUID | None = None, **data: object) -> None:
    """Events of a lab's, published."""
    with database.begin(PLATFORM) as session:
        for event in events or (Event.PROJECT_CHANGED,):
            emit(
                session,
                event,
                subject or new_id(),
                at=AT,
                organisation_id=lab.organisation_id,
                data=data,
            )
    with database.begin(PLATFORM) as session:
        while publish(session, at=now()):
            pass


def subscribe(lab: Caller, url: str, **given: object) -> dict[str, Any]:
    answer = lab.post("/v1/webhook-endpoints", json={"url": url, **given})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def carry_all(at: datetime | None = None) -> int:
    """Send everything that is due, in this thread."""
    make_deliveries()
    count = 0
    while True:
        with database.begin(PLATFORM) as session:
            letters = reserve_deliveries(session, limit=50, is_slow=False, at=at or now())
            letters += reserve_deliveries(session, limit=50, is_slow=True, at=at or now())
        if not letters:
            return count
        for letter in letters:
            carry_letter(letter, timeout_s=20.0)
        count += len(letters)


def log(lab: Caller, made: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = lab.get(f"/v1/webhook-endpoints/{made['id']}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def tries(lab: Caller, delivery: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.get(f"/v1/webhook-deliveries/{delivery['id']}").json()[
        "tries"
    ]
    return found
