"""Estimators beside public baselines: `python -m tests.bench estimate SET|DIR`.

SET is a folder of the shared quality data, DIR any folder with `responses.parquet`, or with
`votes.parquet` and `truth.parquet`. The last line printed is JSON.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from matching.responses import BadResponses
from tests.bench.estimating import responses, sets


class Votes(Protocol):
    """What the bench of votes offers."""

    def main(self, argv: list[str]) -> int:
        """Judge the votes of a folder; print JSON, or why they cannot be judged."""
        ...


def main(argv: list[str]) -> int:
    """Judge one set or folder; print JSON; nought when there was something to judge."""
    parser = argparse.ArgumentParser(prog="estimate")
    parser.add_argument("target", help="a set of the shared quality data, or a folder")
    asked = parser.parse_args(argv)
    folder = Path(asked.target)
    if asked.target in sets.SETS:
        answer = sets.SETS[asked.target](sets.quality())
    elif (folder / "responses.parquet").is_file():
        try:
            answer = responses.run(folder)
        except BadResponses as refused:
            print(f"this cannot be judged: {refused}", file=sys.stderr)
            return 2
    elif (folder / "votes.parquet").is_file() or asked.target == "crowd_labels":
        votes = cast("Votes", import_module("tests.bench.estimate_votes"))
        return votes.main([str(folder if folder.is_dir() else sets.quality() / asked.target)])
    else:
        known = ", ".join(sets.SETS)
        print(
            f"{asked.target!r} is no folder with responses.parquet or votes.parquet, and no set;"
            f" sets are: {known}, crowd_labels",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(answer))
    return 0
