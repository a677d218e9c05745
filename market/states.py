"""State machines as data: which action leads from which state to which."""

from collections.abc import Iterable
from dataclasses import dataclass

from market.errors import MarketError


class StateConflict(MarketError):
    """An action that its subject's state does not allow."""

    def __init__(self, machine: str, state: str, action: str, allowed: Iterable[str]) -> None:
        options = ", ".join(sorted(allowed)) or "nothing"
        article = "an" if machine[0] in "aeiou" else "a"
        subject = f"{article} {machine.replace('_', ' ')} that is {state.replace('_', ' ')}"
        super().__init__(f"{subject} cannot {action.replace('_', ' ')}; allowed now: {options}")
        self.machine = machine
        self.state = state
        self.action = action
        self.allowed = sorted(allowed)


@dataclass(frozen=True, slots=True)
class Move:
    """One row of a transition table: an action, the states it may start from, where it leads."""

    action: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The transition table of one kind of thing.

    The database holds the same pairs in `market.state_rule` and refuses every other one, whatever
    the application does; a test compares the two.
    """

    name: str
    initial: tuple[str, ...]
    moves: tuple[Move, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in the order in which the table first names it."""
        seen = dict.fromkeys(self.initial)
        for move in self.moves:
            seen.update(dict.fromkeys((*move.sources, move.target)))
        return tuple(seen)

    @property
    def terminal(self) -> tuple[str, ...]:
        """The states that no move leads out of."""
        left = {source for move in self.moves for source in move.sources}
        return tuple(state for state in self.states if state not in left)

    def pairs(self) -> set[tuple[str, str]]:
        """Every (from, to) that the table lists; a start is `('', state)`."""
        starts = {("", state) for state in self.initial}
        return starts | {(source, move.target) for move in self.moves for source in move.sources}

    def allowed(self, state: str) -> set[str]:
        """The actions that may be taken in a state."""
        return {move.action for move in self.moves if state in move.sources}

    def target(self, state: str, action: str) -> str:
        """Where an action leads from a state.

        Raises:
            StateConflict.
        """
        for move in self.moves:
            if move.action == action and state in move.sources:
                return move.target
        raise StateConflict(self.name, state, action, self.allowed(state))
