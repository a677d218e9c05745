"""The envelope in which an event travels, what it is about, and refusals; pure."""

from collections.abc import Collection
from datetime import datetime

from market.db import Json
from market.errors import MarketError
from market.events import Event
from market.http import KINDS, Wire

ENVELOPE = 1
"""The version of the envelope: fields are added within one, never taken away or given new sense."""

TYPES = frozenset(event.value for event in Event)

_PREFIXES = {kind: prefix for prefix, kind in KINDS.items()}

_CALLED = {
    "budget": "project",
    "expert": "person",
    "experts": "import",
    "fix": "submission",
    "interests": "import",
    "payee": "person",
    "identity": "person",
    "overlap": "task",
    "recovery": "recovery_case",
    "refund": "external_call",
    "session": "work_session",
    "standing": "person",
    "tasks": "import",
    "tier": "tier_assignment",
    "verdict": "submission",
}
"""What an event's first word is about, where that word is not the name of a kind of thing.

A kind without a prefix of its own, such as an object of Stripe's, is known by its bare id.
"""


class ResourceOut(Wire):
    """What an event happened to: its kind, its id and, where it has versions, its version then."""

    kind: str
    id: str
    version: int | None


class EventOut(Wire):
    """One thing that happened. `seq` is its place in your feed: one more than the event before it.

    `actor` is null for what happened by itself, and for somebody whose name you may not know.
    """

    id: str
    seq: int
    type: str
    timestamp: datetime
    resource: ResourceOut
    version: int
    data: Json
    actor: str | None
    cause: str | None


class TypeUnknown(MarketError):
    """A type of event that there is not."""

    def __init__(self, name: str) -> None:
        noun = name.partition(".")[0]
        near = sorted(known for known in TYPES if known.startswith(f"{noun}."))
        hint = f"of {noun} there are: {', '.join(near)}" if near else "see docs/events.md"
        super().__init__(f"there is no event type {name[:80]!r}; {hint}")
        self.event_type = name[:80]


class PositionGone(MarketError):
    """A place in a feed from which it cannot be resumed: too old, or not reached yet."""

    def __init__(self, after: int, oldest_seq: int, last_seq: int) -> None:
        super().__init__(
            f"the feed cannot be resumed after {after}: it keeps {oldest_seq} to {last_seq};"
            f" read what you missed from its resources, then resume after {oldest_seq - 1} or later"
        )
        self.oldest_seq = oldest_seq
        self.last_seq = last_seq


class PositionInvalid(MarketError):
    """A place in a feed that is not a whole number."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"Last-Event-ID is the `id` of an event, a whole number; not {text[:40]!r}"
        )


def kind_of(event_type: str) -> tuple[str, str]:
    """What an event is about: the kind of thing, and the prefix of its ids, empty without one."""
    noun = event_type.partition(".")[0]
    kind = _CALLED.get(noun, noun)
    return kind, _PREFIXES.get(kind, "")


def checked_types(names: Collection[str]) -> frozenset[str]:
    """The types themselves, once they are certain to exist; none means all.

    Raises:
        TypeUnknown.
    """
    for name in names:
        if name not in TYPES:
            raise TypeUnknown(name)
    return frozenset(names)


def read_types(text: str | None) -> frozenset[str]:
    """The types in a list with commas.

    Raises:
        TypeUnknown.
    """
    return checked_types([part.strip() for part in (text or "").split(",") if part.strip()])


def read_position(text: str | None) -> int | None:
    """The place that a `Last-Event-ID` names; None when there is none.

    Raises:
        PositionInvalid.
    """
    if text is None or not text.strip():
        return None
    if not text.strip().isascii() or not text.strip().isdecimal() or len(text.strip()) > 18:
        raise PositionInvalid(text)
    return int(text)
