"""The public bid sets beside the checkout, as problems; absent sets skip the test in words."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from matching.problem import Problem

BID_SETS = ("aamas2015", "preflib1", "preflib2", "preflib3")


def shared_folder(name: str) -> Path:
    """The folder of a public set, or a skip that says where it was looked for."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("STUMPWORK_SHARED_DATA", beside)) / "matching" / name
    if not folder.is_dir():
        pytest.skip(f"the public set {name} is not beside the checkout ({folder})")
    return folder


def bid_problem(name: str) -> Problem:
    """Papers as tasks, reviewers as experts, similarities as values, every pair listed."""
    folder = shared_folder(name)
    meta = json.loads((folder / "meta.json").read_text())
    papers, reviewers = int(meta["papers"]), int(meta["reviewers"])
    value = np.full((papers, reviewers), float(meta["default_similarity"]))
    for row in read_rows(folder / "bids.csv.gz"):
        value[int(row["paper"]), int(row["reviewer"])] = float(row["similarity"])
    task, expert = np.divmod(np.arange(papers * reviewers), reviewers)
    return Problem(
        expert=expert,
        task=task,
        value=value.ravel(),
        demand=np.full(papers, int(meta["reviewers_per_paper"])),
        capacity=np.full(reviewers, int(meta["papers_per_reviewer_max"])),
    )


def malicious_problem(phase: str = "malicious") -> tuple[Problem, set[tuple[int, int]]]:
    """Bids of people of whom some want to reach a paper, and these pairs of paper and person.

    In the phase "honest" the same people bid without that wish.

    A bid of eager counts 1, in a pinch 0.8, not willing 0.1, and none 0.5; nobody is eligible
    for their own paper. Three people a paper, three papers a person.
    """
    folder = shared_folder("malicious-bidding")
    people = read_rows(folder / "reviewers.csv.gz")
    number = {row["reviewer"]: n for n, row in enumerate(people)}
    papers = 28
    value = np.full((papers, len(people)), 0.5)
    worth = {"-1": 0.1, "1": 0.8, "2": 1.0}
    for row in read_rows(folder / "bids.csv.gz"):
        if row["phase"] == phase:
            value[int(row["paper"]), number[row["reviewer"]]] = worth[row["bid"]]
    free = np.ones(value.shape, np.bool_)
    for n, row in enumerate(people):
        if row["authored_id"]:
            free[int(row["authored_id"]), n] = False
    task, expert = np.nonzero(free)
    problem = Problem(
        expert=expert.astype(np.int32),
        task=task.astype(np.int32),
        value=value[free],
        demand=np.full(papers, 3, np.int32),
        capacity=np.full(len(people), 3, np.int32),
    )
    target = {(int(row["target_id"]), n) for n, row in enumerate(people) if row["target_id"]}
    return problem, target


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, packed or not."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return list(csv.DictReader(text.splitlines()))
