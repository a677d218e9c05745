"""Reads of everything that is kept about a person; they run as the platform."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.db import Json
from market.http import wire_id
from market.qualifications.models import Qualification
from market.records.models import AttestationKey
from market.records.rules import PREFIXES, RECORD_VERSION, SOURCES, Skill, Source
from market.tasks.models import Task
from market.verdicts.models import Verdict

LOT = 500


def lines_of(session: Session, person_id: UUID, *, at: datetime) -> Iterator[bytes]:
    """A person's record as lines of JSON, a lot at a time and never whole in memory: a head, one
    line for each row, and an end with their number, by which a cut file is known.
    """
    kinds = [one.kind for one in SOURCES]
    yield _line(
        {
            "kind": "record",
            "version": RECORD_VERSION,
            "person_id": wire_id("per", person_id),
            "at": at.isoformat(),
            "kinds": kinds,
        }
    )
    rows = 0
    for source in SOURCES:
        for row in _rows(session, source, person_id):
            rows += 1
            yield _line({"kind": source.kind, "row": row})
    yield _line({"kind": "end", "rows": rows})


def _rows(session: Session, source: Source, person_id: UUID) -> Iterator[Json]:
    short = source.table.partition(".")[2]
    # Names out of our own table of sources, which no caller chose.
    statement = text(
        f"select to_jsonb({short}) - cast(:without as text[]) from {source.table} {short}"  # noqa: S608
        f" where {source.where} order by {source.order}"
    )
    found = session.execute(
        statement,
        {"person": person_id, "without": list(source.without)},
        execution_options={"yield_per": LOT},
    )
    for row in found.scalars():
        yield {name: _told(name, value) for name, value in row.items()}


def _told(name: str, value: object) -> object:
    prefix = PREFIXES.get(name)
    if prefix is None or not isinstance(value, str):
        return value
    return wire_id(prefix, UUID(value))


def _line(document: Json) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def skills_of(session: Session, person_id: UUID, *, at: datetime) -> list[Skill]:
    """The domains in which a person holds a granted qualification now, with its accepted work."""
    done: dict[str, list[bool]] = {}
    for domain, is_stump in session.execute(
        select(Task.domain, Verdict.is_stump)
        .join(Verdict, Verdict.task_id == Task.id)
        .where(Verdict.expert_id == person_id, Verdict.is_accepted)
    ):
        done.setdefault(domain, []).append(is_stump)
    held = session.scalars(
        select(Qualification)
        .where(
            Qualification.person_id == person_id,
            Qualification.state == "granted",
            Qualification.domain.is_not(None),
            Qualification.ends_at > at,
        )
        .order_by(Qualification.domain, Qualification.id)
    )
    return [
        Skill(
            domain=one.domain,
            qualification_id=wire_id("qua", one.id),
            granted_at=(one.decided_at or one.invited_at).isoformat(),
            ends_at=one.ends_at.isoformat(),
            score=one.score,
            accepted=len(done.get(one.domain, [])),
            stumps=sum(done.get(one.domain, [])),
        )
        for one in held
        if one.domain is not None
    ]


def published_keys(session: Session) -> dict[str, bytes]:
    """Every key under which attestations were signed, by its id."""
    return {one.id: one.public for one in session.scalars(select(AttestationKey))}
