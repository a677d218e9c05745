"""The states of tasks and of their slots, the rows they come in as, and what is refused."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from market.db import Json
from market.errors import MarketError
from market.events import Event
from market.language import Field, Vocabulary
from market.states import Machine, Move
from market.uploads import Shape

OPEN = ("draft", "queued", "active", "in_review", "disputed")
"""The states of a task that something can still come of."""

RECALLABLE = ("accepted", "delivered")
"""The states of a task whose answers are all in, which only a recall undoes."""

TASK = Machine(
    "task",
    initial=("draft", "queued"),
    moves=(
        Move("publish", ("draft",), "queued"),
        Move("start", ("queued",), "active"),
        Move("requeue", ("active",), "queued"),
        Move("review", ("active",), "in_review"),
        Move("accept", ("in_review",), "accepted"),
        # What was recalled stands after all.
        Move("confirm", ("in_review",), "accepted"),
        Move("conflict", ("in_review",), "disputed"),
        # Also out of a dispute that ended with a rejection: the seat is open again.
        Move("extend", ("in_review", "disputed"), "active"),
        Move("adjudicate_accept", ("disputed",), "accepted"),
        Move("adjudicate_reject", ("disputed",), "unresolvable"),
        Move("deliver", ("accepted",), "delivered"),
        Move("recall", RECALLABLE, "in_review"),
        Move("hold", OPEN, "held"),
        *(Move(f"release_to_{state}", ("held",), state) for state in OPEN),
        Move("cancel", (*OPEN, "held"), "cancelled"),
        Move("expire", (*OPEN, "held"), "expired"),
    ),
)

SLOT = Machine(
    "task_slot",
    initial=("open",),
    moves=(
        Move("offer", ("open",), "offered"),
        Move("claim", ("offered",), "claimed"),
        Move("submit", ("claimed",), "submitted"),
        Move("count", ("submitted",), "counted"),
        Move("release", ("offered", "claimed", "submitted"), "released"),
        # An answer that was counted falls only with a case of fraud.
        Move("vacate", ("counted",), "released"),
        Move("reopen", ("released",), "open"),
        # A seat that is no longer wanted rests as released, until it is.
        Move("retire", ("open",), "released"),
    ),
)

FILLED = ("submitted", "counted")
"""The states of a seat whose answer is in."""

RETIRED = ("released",)
"""The state in which a seat rests that the task has no use for."""

ASKED = ("publish", "hold", "release", "cancel", "expire", "recall", "confirm")
"""Moves that a lab may ask for; the others follow from offers, work and reviews. `confirm` ends a
recall: it is for tasks whose answers have all been counted.
"""

EVENTS = {
    "queued": Event.TASK_QUEUED,
    "held": Event.TASK_HELD,
    "cancelled": Event.TASK_CANCELLED,
    "expired": Event.TASK_CANCELLED,
    "accepted": Event.TASK_RESOLVED,
    "unresolvable": Event.TASK_RESOLVED,
}
"""What happened when a task came into a state; nothing that others wait for in the rest."""

OFFERABLE = ("queued", "active")
"""The states in which a task's open slots may be offered."""

TASK_FIELDS = Vocabulary(
    Field(
        name="state",
        kind="text",
        column="{row}.state",
        choices=TASK.states,
        about="the task's state",
        example='"queued"',
    ),
    Field(
        name="domain",
        kind="text",
        column="{row}.domain",
        about="the task's domain",
        example='"chemistry"',
    ),
    Field(
        name="external_id",
        kind="text",
        column="{row}.external_id",
        about="the lab's own name for the task",
        example='"a-1"',
    ),
    Field(
        name="complexity",
        kind="number",
        column="{row}.complexity",
        about="the task's complexity, from 1 to 10",
        example="3",
    ),
    Field(
        name="expected_s",
        kind="number",
        column="{row}.expected_s",
        about="seconds that the task is expected to take",
        example="3600",
    ),
    Field(
        name="open_seats",
        kind="number",
        column="(select count(*) from market.task_slot s"
        " where s.task_id = {row}.id and s.state = 'open')",
        about="seats of the task that nobody has",
        example="1",
    ),
)
"""What the filter of a list of tasks can ask about."""

ExternalId = Annotated[str, Meta(min_length=1, max_length=200)]


class TaskRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A task as a row of an upload; without `expected_s` it is expected to take its whole cap.

    Units: `expected_s` seconds of work; `value_weight` relative to a task of weight 1.
    """

    external_id: ExternalId
    domain: str
    payload: Json
    complexity: Annotated[int, Meta(ge=1, le=10)] = 1
    expected_s: Annotated[int, Meta(ge=1, le=30 * 24 * 3600)] | None = None
    value_weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0


Name = Annotated[str, Meta(min_length=1, max_length=80)]

AXES = "complexity_axes"
"""The field of a payload under which a lab says what makes the task as complex as it is."""


class Axes(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What makes a task complex: how long it goes on, with how many tools, in how many steps, in
    which modalities, and into which other domains it crosses. All of it may be left out.

    Units: `horizon_h` hours.
    """

    horizon_h: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    tools: Annotated[int, Meta(ge=0, le=1_000)] | None = None
    steps: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    modalities: Annotated[list[Name], Meta(max_length=20)] = []
    crosses: Annotated[list[Name], Meta(max_length=20)] = []


def axes_wrong(payload: Json) -> str | None:
    """What is wrong with the axes of a payload; none where they are right, or not there."""
    if AXES not in payload:
        return None
    try:
        msgspec.convert(payload[AXES], Axes)
    except msgspec.ValidationError as wrong:
        return str(wrong)
    return None


class InterestRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """How much an expert wants a task, as a row of an upload: an e-mail address or `per_` id."""

    expert: Annotated[str, Meta(min_length=1, max_length=320)]
    task: ExternalId
    value: Annotated[float, Meta(ge=0, le=1)]


TASK_ROWS = Shape(TaskRow, "external_id", nested=("payload",))
INTEREST_ROWS = Shape(InterestRow, "task")


class TaskNotFound(MarketError):
    """No task that the caller may see has this id."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__("there is no such task")
        self.task_id = task_id


class TaskMoveUnasked(MarketError):
    """A move that nobody can ask for, since it follows from offers, work or reviews."""

    def __init__(self, action: str) -> None:
        super().__init__(f"{action[:60]!r} cannot be asked for; these can: {', '.join(ASKED)}")
        self.action = action[:60]
        self.known = list(ASKED)


class InterestInvalid(MarketError):
    """Interest that is no number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__("interest is a number from 0 to 1")
