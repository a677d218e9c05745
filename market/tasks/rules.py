"""The states of tasks and of their slots, the limits of both, and what is refused about them."""

from market.states import Machine, Move

OPEN = ("draft", "queued", "active", "in_review", "disputed")
"""The states of a task that something can still come of."""

TASK = Machine(
    "task",
    initial=("draft", "queued"),
    moves=(
        Move("publish", ("draft",), "queued"),
        Move("start", ("queued",), "active"),
        Move("requeue", ("active",), "queued"),
        Move("review", ("active",), "in_review"),
        Move("accept", ("in_review",), "accepted"),
        Move("conflict", ("in_review",), "disputed"),
        Move("extend", ("in_review",), "active"),
        Move("adjudicate_accept", ("disputed",), "accepted"),
        Move("adjudicate_reject", ("disputed",), "unresolvable"),
        Move("deliver", ("accepted",), "delivered"),
        Move("recall", ("delivered",), "in_review"),
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
        Move("reopen", ("released",), "open"),
    ),
)
