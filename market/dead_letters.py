"""Jobs that failed for good: `python -m market.dead_letters list | again | drop`.

A job that has used up its retries is kept as a dead letter. An operator reads why, mends the cause,
and queues it again; or drops it, with a reason that stays in the row.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from dramatiq.broker import Broker
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.broker import DeadLetter, Job, message_for, open_broker
from market.db import database, now
from market.errors import MarketError
from market.reactions import JOBS
from market.schedule import TIMETABLE
from market.settings import read_settings


class DeadLetterUnknown(MarketError):
    """A dead letter that is not there, or that somebody has settled already."""

    def __init__(self, letter_id: UUID) -> None:
        super().__init__(f"there is no open dead letter {letter_id}; see: list")
        self.letter_id = letter_id


class JobUnknown(MarketError):
    """The job of a dead letter, which this version of the house no longer has."""

    def __init__(self, letter_id: UUID, job: str) -> None:
        super().__init__(f"dead letter {letter_id} is of job {job!r}, which is not here; drop it")
        self.letter_id = letter_id
        self.job = job


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
                jobs = (*JOBS, *(entry.job for entry in TIMETABLE))
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
