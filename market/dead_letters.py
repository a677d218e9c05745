"""Jobs that failed for good: `python -m market.dead_letters list | again | drop`.

A job that has used up its retries is kept as a dead letter. An operator reads why, mends the cause,
and queues it again; or drops it, with a reason that stays in the row.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from dramatiq import Message
from dramatiq.broker import Broker
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Principal
from market.broker import (
    DeadLetter,
    DeadLetterUnknown,
    Job,
    JobUnknown,
    message_for,
    open_broker,
)
from market.db import database, now
from market.errors import MarketError
from market.events import Event, emit
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.reactions import JOBS
from market.schedule import TIMETABLE
from market.settings import read_settings


def open_letters(session: Session, ids: Sequence[UUID] = ()) -> list[DeadLetter]:
    """The dead letters that wait for somebody, oldest first: all, or exactly those named.

    They stay locked until the transaction ends, so that two operators cannot settle one twice.

    Raises:
        DeadLetterUnknown.
    """
    wanted = select(DeadLetter).where(DeadLetter.settled_at.is_(None)).order_by(DeadLetter.id)
    if ids:
        wanted = wanted.where(DeadLetter.id.in_(ids))
    found = list(session.scalars(wanted.with_for_update()))
    for missing in set(ids) - {letter.id for letter in found}:
        raise DeadLetterUnknown(missing)
    return found


def queue_again(
    session: Session,
    broker: Broker,
    jobs: Iterable[Job],
    ids: Sequence[UUID] = (),
    *,
    at: datetime,
) -> list[DeadLetter]:
    """Queue dead letters afresh, with all their retries, and settle them.

    The broker has them before the rows are marked: a crash in between may run one twice, which
    every job can bear, and loses none.

    Raises:
        DeadLetterUnknown, JobUnknown: then none is queued.
    """
    by_name = {job.name: job for job in jobs}
    letters = open_letters(session, ids)
    for letter in letters:
        if letter.job not in by_name:
            raise JobUnknown(letter.id, letter.job)
    for letter in letters:
        broker.enqueue(message_for(by_name[letter.job], f"dead letter {letter.id}", letter.subject))
        letter.settled_at, letter.settlement = at, "queued again"
    return letters


def drop_letters(
    session: Session, ids: Sequence[UUID], *, reason: str, at: datetime
) -> list[DeadLetter]:
    """Settle dead letters without running them; the reason is kept.

    Raises:
        DeadLetterUnknown.
    """
    letters = open_letters(session, ids)
    for letter in letters:
        letter.settled_at, letter.settlement = at, f"dropped: {reason}"
    return letters


# Over HTTP ----------------------------------------------------------------------------------------


class DeadLetterOut(Wire):
    """A job that failed for good: what it was to do, why it failed, and what became of it."""

    id: str
    queue: str
    job: str
    subject: str
    error: str
    died_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    settlement: str | None


class SettleIn(Wire):
    """What becomes of a dead letter; a reason is kept, and is needed for dropping one."""

    action: Literal["replay", "drop"]
    reason: Annotated[str, Meta(max_length=500)] = ""


Settled = Annotated[bool, QueryParameter(name="settled", description="Those dealt with instead.")]


@get("/dead-letters", scope="queue:read", tags=["Queues"])
def get_dead_letters(
    is_settled: Settled = False, limit: Limit = 50, cursor: Cursor = None
) -> Page[DeadLetterOut]:
    """Jobs that failed for good and wait for somebody, newest first."""
    wanted = DeadLetter.settled_at.is_not(None) if is_settled else DeadLetter.settled_at.is_(None)
    with database.begin() as session:
        return listed(
            session,
            select(DeadLetter).where(wanted),
            DeadLetter.id,
            _letter_out,
            limit=limit,
            cursor=cursor,
            filters=f"dead letters {is_settled}",
        )


@get("/dead-letters/{letter_id:str}", scope="queue:read", tags=["Queues"])
def get_dead_letter(letter_id: FromPath[str]) -> DeadLetterOut:
    """One job that failed for good."""
    found_id = read_id("dlt", letter_id)
    with database.begin() as session:
        found = session.get(DeadLetter, found_id)
        if found is None:
            raise DeadLetterUnknown(found_id)
        return _letter_out(found)


@post(
    "/dead-letters/{letter_id:str}/transitions",
    scope="queue:write",
    status_code=HTTP_200_OK,
    tags=["Queues"],
)
def post_dead_letter_transition(
    letter_id: FromPath[str], data: JSONBody[SettleIn], principal: NamedDependency[Principal]
) -> DeadLetterOut:
    """Queue a job once more, with all its retries, or drop it."""
    with database.begin() as session:
        (letter,) = open_letters(session, [read_id("dlt", letter_id)])
        settle_letter(
            session, letter, data.action, reason=data.reason, by=principal.person_id, at=now()
        )
        return _letter_out(letter)


def settle_letter(
    session: Session,
    letter: DeadLetter,
    action: Literal["replay", "drop"],
    *,
    reason: str,
    by: UUID,
    at: datetime,
) -> None:
    """Settle a locked dead letter in somebody's name; the relay queues what is to run again.

    Raises:
        JobUnknown.
    """
    if action == "replay" and letter.job not in jobs_by_name():
        raise JobUnknown(letter.id, letter.job)
    letter.settled_at, letter.settled_by = at, by
    done = "queued again" if action == "replay" else "dropped"
    letter.settlement = f"{done}: {reason}" if reason else done
    emit(
        session,
        Event.DEAD_LETTER_REPLAYED if action == "replay" else Event.DEAD_LETTER_DROPPED,
        letter.id,
        at=at,
        actor_id=by,
        data={"job": letter.job, "subject": letter.subject, "reason": reason},
    )
    session.flush()


def jobs_by_name() -> dict[str, Job]:
    """Every job of this version of the house."""
    return {job.name: job for job in (*JOBS, *(entry.job for entry in TIMETABLE))}


def replayed_message(session: Session, letter_id: UUID) -> Message[None] | None:
    """What queues a replayed letter's job; nothing when this version no longer has that job."""
    letter = session.get_one(DeadLetter, letter_id)
    job = jobs_by_name().get(letter.job)
    return None if job is None else message_for(job, f"dead letter {letter.id}", letter.subject)


def _letter_out(row: DeadLetter) -> DeadLetterOut:
    return DeadLetterOut(
        id=wire_id("dlt", row.id),
        queue=row.queue,
        job=row.job,
        subject=row.subject,
        error=row.error,
        died_at=row.died_at,
        settled_at=row.settled_at,
        settled_by=wire_ids("per", row.settled_by),
        settlement=row.settlement,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_dead_letters,
    get_dead_letter,
    post_dead_letter_transition,
]


def main(argv: list[str] | None = None) -> int:
    """What an operator types."""
    parser = argparse.ArgumentParser(prog="python -m market.dead_letters", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what failed, and why")
    again = commands.add_parser("again", help="queue some once more, or all")
    again.add_argument("ids", nargs="*", type=UUID, help="none means all")
    drop = commands.add_parser("drop", help="settle without running")
    drop.add_argument("ids", nargs="+", type=UUID)
    drop.add_argument("--reason", required=True)
    options = parser.parse_args(argv)
    settings = read_settings()
    database.open(settings.database_url, pool_size=1)
    try:
        with database.begin() as session:
            if options.command == "list":
                letters = open_letters(session)
            elif options.command == "drop":
                letters = drop_letters(session, options.ids, reason=options.reason, at=now())
            else:
                broker = open_broker(settings)
                jobs = jobs_by_name().values()
                letters = queue_again(session, broker, jobs, options.ids, at=now())
                broker.close()
            lines = [
                f"{letter.id}  {letter.died_at:%Y-%m-%dT%H:%M:%SZ}  {letter.queue}  {letter.job}"
                f"  {letter.subject}  {letter.settlement or letter.error.splitlines()[0][:200]}"
                for letter in letters
            ]
    except MarketError as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        database.close()
    print(*lines, f"{len(lines)} dead letters", sep="\n")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
