"""The steps of a project's eligibility, and what is refused about them."""

from dataclasses import dataclass

from market.errors import MarketError

MAX_STEPS = 10
FIRST_STEP = 1

SHORTEST_WAIT_S = 60
LONGEST_WAIT_S = 30 * 24 * 3600

LEAST_PRIORITY = 0.1
MOST_PRIORITY = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """Whom a task takes, and for how long without a claim before it takes the next step's people.

    While a task is at a step, it is worth `priority` times what its own weight says.

    Units: seconds; the last step has no end.
    """

    source: str
    after_s: int | None
    priority: float = 1.0


def check_steps(steps: tuple[Step, ...]) -> None:
    """Refuse steps that do not lead from one to the next.

    Raises:
        StepsInvalid.
    """
    if not 1 <= len(steps) <= MAX_STEPS:
        raise StepsInvalid("steps", f"1 to {MAX_STEPS} steps")
    for number, step in enumerate(steps[:-1], FIRST_STEP):
        if step.after_s is None or not SHORTEST_WAIT_S <= step.after_s <= LONGEST_WAIT_S:
            wanted = f"{SHORTEST_WAIT_S} to {LONGEST_WAIT_S} seconds, since a step follows"
            raise StepsInvalid(f"after_s of step {number}", wanted)
    for number, step in enumerate(steps, FIRST_STEP):
        if not LEAST_PRIORITY <= step.priority <= MOST_PRIORITY:
            wanted = f"{LEAST_PRIORITY} to {MOST_PRIORITY}"
            raise StepsInvalid(f"priority of step {number}", wanted)
    if steps[-1].after_s is not None:
        raise StepsInvalid(f"after_s of step {len(steps)}", "left out, since no step follows")


class StepsInvalid(MarketError):
    """Steps that do not lead from one to the next."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class EligibilityNotFound(MarketError):
    """A project that takes whoever fits its tasks, without rules of its own."""

    def __init__(self) -> None:
        super().__init__("this project has no eligibility of its own: it takes whoever fits")
