"""What the audit log keeps of a request, and how a person's id is found in an answer; pure."""

import re
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from market.auth import Principal

PERSON = re.compile(rb"\bper_([0-9a-f]{32})\b")
LONGEST_QUERY = 1_000
CARRIED = 40
"""Bytes of one chunk of an answer that are looked at again with the next one, for an id between."""


class Access(StrEnum):
    """What an entry is about: an answer that told of people, a change that was asked for, and what
    became of it.
    """

    READ = "read"
    ASKED = "asked"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a request that is kept: who, where, and under which id."""

    principal: Principal
    method: str
    route: str
    path: str
    query: str
    request_id: str


def people_in(answer: bytes) -> set[UUID]:
    """Everybody whom an answer names by id."""
    return {UUID(hex=found.decode()) for found in PERSON.findall(answer)}
