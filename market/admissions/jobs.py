"""What becomes of admissions by themselves."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.admissions.actions import admit_if_room, follow_admission
from market.admissions.queries import domain_forecast, under_way, waiting_rows
from market.admissions.rules import Forecast
from market.broker import job
from market.db import database, now
from market.experts.rules import domains_meet
from market.sweeps import sweep

SWEEP = 1_000
"""How many rows one read of a sweep gives."""


@job(queue="default", max_retries=2)
def follow_admissions(slot: str) -> None:
    """Take each admission's next step."""
    del slot
    at = now()
    sweep(_under_way(), lambda session, one: follow_admission(session, one, at=at))


@job(queue="default", max_retries=2)
def admit_waiting(slot: str) -> None:
    """Admit those for whom there is room."""
    del slot
    admit_in_turn(at=now())


def admit_in_turn(*, at: datetime) -> int:
    """Admit those for whom there is room, each domain in its turn and each in a transaction of its
    own; how many.
    """
    forecasts: dict[str, Forecast] = {}
    full: list[str] = []
    admitted = 0

    def next_in_turn() -> Iterator[UUID]:
        for admission_id, domain in waiting.items():
            # Nobody overtakes whoever waits for the same work.
            if not any(domains_meet(domain, one) for one in full):
                yield admission_id

    def consider(session: Session, admission_id: UUID) -> None:
        nonlocal admitted
        domain = waiting[admission_id]
        if domain not in forecasts:
            forecasts[domain] = domain_forecast(session, domain, at=at)
        outcome = admit_if_room(session, admission_id, forecasts[domain], at=at)
        if outcome == "full":
            full.append(domain)
        admitted += outcome == "admitted"

    with database.begin() as session:
        waiting = dict(waiting_rows(session))
    sweep(next_in_turn(), consider)
    return admitted


def _under_way() -> Iterator[UUID]:
    last: UUID | None = None
    while True:
        with database.begin() as session:
            found = under_way(session, limit=SWEEP, after=last)
        yield from found
        if len(found) < SWEEP:
            return
        last = found[-1]
