"""Seeded simulations of the estimators, by the name of their file in `simulations`.

`python -m tests.bench simulate NAME [--seed N] [--rounds N]`
"""

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast


class Simulation(Protocol):
    """What each simulation's file offers."""

    def run(self, seed: int, rounds: int) -> dict[str, object]:
        """What was found, ready for JSON; `met` says whether its targets were reached."""
        ...


def simulations() -> list[str]:
    """Every simulation there is."""
    files = (Path(__file__).parent / "simulations").glob("[!_]*.py")
    return sorted(
        file.stem.replace("_", "-")
        for file in files
        if "def run(seed: int, rounds: int" in file.read_text()
    )


def main(argv: list[str]) -> int:
    """Run one; the last line printed is JSON; nought when its targets were met."""
    parser = argparse.ArgumentParser(prog="simulate")
    parser.add_argument("name", choices=simulations())
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rounds", type=int, help="repetitions; each simulation has its own")
    asked = parser.parse_args(argv)
    place = "tests.bench.simulations." + asked.name.replace("-", "_")
    simulation = cast("Simulation", import_module(place))
    if asked.rounds is not None and asked.rounds < 1:
        print("--rounds: at least one", file=sys.stderr)
        return 2
    chosen = asked.rounds or int(getattr(simulation, "ROUNDS", 200))
    begun = time.perf_counter()
    found = simulation.run(asked.seed, chosen)
    seconds = round(time.perf_counter() - begun, 2)
    told = {"name": asked.name, "seed": asked.seed, "rounds": chosen, "seconds": seconds, **found}
    print(json.dumps(told, allow_nan=False))
    return 0 if told.get("met", True) else 1
