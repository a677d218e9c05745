"""The state machines as they are kept for readers: `python -m tests.states` writes them anew."""

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import market
from market.states import Machine

KEPT = Path(__file__).parent.parent / "docs" / "states.md"

HEAD = """# State machines

Written by `python -m tests.states` from the transition tables in the code; a test fails while this
page differs from them. The database holds the same pairs in `market.state_rule`, and a trigger on
each table refuses every other move, whatever the application does; another test compares the two.
Each move writes its row in `market.state_change` in the same transaction (from, to, action, who,
reason, note, evidence, when), and the rows of a subject fold back to the state that it is in
(`market.events.unfolded`, part of the tests).
"""


def modules() -> list[str]:
    """Every module of the service that can be imported without running it."""
    return [
        found.name
        for found in walk_packages(market.__path__, "market.")
        if not found.name.endswith("__main__")
    ]


def machines() -> dict[str, Machine]:
    """Every machine that the code declares, by its name."""
    found: dict[str, Machine] = {}
    for name in modules():
        for value in vars(import_module(name)).values():
            if isinstance(value, Machine):
                found[value.name] = value
    return found


def described() -> str:
    """All machines, each as a diagram and as a table."""
    parts = [HEAD]
    for name, machine in sorted(machines().items()):
        parts.append(f"## {name.replace('_', ' ').capitalize()}\n\n{diagram(machine)}\n")
        rows = [
            f"| {', '.join(move.sources)} | {move.action} | {move.target} |"
            for move in machine.moves
        ]
        parts.append("| from | action | to |\n|---|---|---|\n" + "\n".join(rows) + "\n")
        if machine.terminal:
            parts.append(f"Nothing leads out of: {', '.join(machine.terminal)}.\n")
    return "\n".join(parts)


def diagram(machine: Machine) -> str:
    """A machine as a Mermaid state diagram; the actions of one pair of states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for move in machine.moves:
        for source in move.sources:
            arrows.setdefault((source, move.target), []).append(move.action)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in machine.initial]
    lines += [
        f"    {source} --> {target}: {', '.join(actions)}"
        for (source, target), actions in arrows.items()
    ]
    lines += [f"    {state} --> [*]" for state in machine.terminal]
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    KEPT.write_text(described(), encoding="utf-8")
