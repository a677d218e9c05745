"""Threads: their states, who reads them, where they can be pinned, and what is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from market.auth import Part
from market.errors import MarketError
from market.states import Machine, Move

THREAD = Machine(
    "thread",
    ("open",),
    (Move("resolve", ("open",), "resolved"), Move("reopen", ("resolved",), "open")),
)

KINDS = ("task", "submission", "review")
SIDES = ("author", "reviewer", "lab", "ops")
"""Who may read a thread; whoever writes is shown as a side and never by name, but to ops."""

SIDE_OF = {
    Part.EXPERT: "author",
    Part.REVIEWER: "reviewer",
    Part.LAB: "lab",
    Part.OPS: "ops",
}
MAX_TEXT = 10_000
MAX_REMARKS = 500
MAX_QUOTE = 1_000


@dataclass(frozen=True, slots=True)
class Pin:
    """Where in its subject a thread points: a field by JSON pointer, a span of its text, or a
    criterion of the task's rubric. Nothing at all is the whole.

    Units: `start` and `end` in characters.
    """

    field: str | None = None
    start: int | None = None
    end: int | None = None
    criterion: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a thread is about, and whom that concerns."""

    kind: str
    subject_id: UUID
    organisation_id: UUID
    project_id: UUID
    task_id: UUID
    submission_id: UUID | None
    author_id: UUID | None
    payload: Mapping[str, object]
    criteria: tuple[str, ...]


class ThreadNotFound(MarketError):
    """No thread that the caller may see has this id."""

    def __init__(self) -> None:
        super().__init__("there is no such thread")


class SubjectNotFound(MarketError):
    """Nothing that a thread can be about and that the caller may see has this id."""

    def __init__(self) -> None:
        super().__init__("a thread is about a task, a submission or a review that you may see")


class PinUnfit(MarketError):
    """A place that the subject has not got."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class RemarkUnfit(MarketError):
    """A remark with nothing in it, or too much."""

    def __init__(self) -> None:
        super().__init__(f"a remark has 1 to {MAX_TEXT} characters")


class ThreadFull(MarketError):
    """One remark more than a thread can hold."""

    def __init__(self) -> None:
        super().__init__(f"this thread has {MAX_REMARKS} remarks; open another one")


def read_sides(wanted: Sequence[str] | None, about: About, own: str) -> list[str]:
    """The sides that read a thread: those wanted, or all whom its subject concerns; whoever opens
    it, and ops, always.
    """
    concerned = [side for side in SIDES if side != "reviewer" or about.submission_id is not None]
    chosen = set(concerned if wanted is None else wanted)
    return [side for side in SIDES if side in (chosen & set(concerned)) | {own, "ops"}]


def checked_text(text: str) -> str:
    """A remark without blanks around it.

    Raises:
        RemarkUnfit.
    """
    plain = text.strip()
    if not 1 <= len(plain) <= MAX_TEXT:
        raise RemarkUnfit()
    return plain


def placed(pin: Pin, about: About) -> tuple[Pin, str | None]:
    """The place, with both ends of a span, and what stands there now, so that it can be read when
    the work has changed.

    Raises:
        PinUnfit.
    """
    if pin.criterion is not None:
        if pin.criterion not in about.criteria:
            raise PinUnfit("criterion", "one of the task's rubric: " + ", ".join(about.criteria))
        if pin.field is not None or pin.start is not None or pin.end is not None:
            raise PinUnfit("field", "absent beside a criterion")
        return pin, None
    is_span = pin.start is not None or pin.end is not None
    if pin.field is None:
        if is_span:
            raise PinUnfit("field", "given with a span")
        return pin, None
    value = _at(about.payload, pin.field)
    if not is_span:
        return pin, value[:MAX_QUOTE] if isinstance(value, str) else None
    if not isinstance(value, str):
        raise PinUnfit("field", "a text, for a span of it")
    start, end = pin.start or 0, len(value) if pin.end is None else pin.end
    if not 0 <= start < end <= len(value):
        raise PinUnfit(
            "span", f"within the text's {len(value)} characters, its end after its start"
        )
    return Pin(pin.field, start, end), value[start:end][:MAX_QUOTE]


def _at(payload: Mapping[str, object], pointer: str) -> object:
    """What a JSON pointer leads to. Source: RFC 6901."""
    value: object = payload
    if not pointer.startswith("/"):
        raise PinUnfit("field", "a JSON pointer, such as /answer")
    for step in pointer[1:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdecimal():
            if int(name) >= len(value):
                raise PinUnfit("field", "a place that is there")
            value = value[int(name)]
        else:
            raise PinUnfit("field", "a place that is there")
    return value
