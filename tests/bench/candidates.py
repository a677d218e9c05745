"""Candidate pairs of a large market, made in PostgreSQL: `python -m tests.bench candidates`.

A seeded market of some tasks and experts in an embedded PostgreSQL; pairs per second, and how many
of the true best fifty of each task are among its candidates. The truth is worked out by NumPy from
the rows that were generated, every task against every expert, with no help of the database.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from sqlalchemy import text

from market.auth import keyring
from market.candidates.queries import candidates
from market.candidates.rules import Candidates, asked_of, weigh
from market.db import PLATFORM, database, new_id
from market.embedded import EmbeddedPostgres
from market.policies.rules import RunPolicy, read_policy
from market.predictions.queries import predictions_for
from market.predictions.rules import MIDDLE_COMPLEXITY, PRIOR_ABILITY, PRIOR_SD
from market.shortlists.rules import TELLING_WORDS
from tests.conftest import SECRET, migrate
from tests.factories import make_project

AT = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
BEST = 50
PAIRS_PER_SECOND = 20_000
RECALL = 0.9
FIELDS = 12
BRANCHES = 5
WORDS_OF_BRANCH = 400
WORDS_OF_ALL = 60

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What was generated: who knows which branches, what each is able to, and which words.

    Shapes: expert_branch (experts, 2), -1 for none; ability likewise, NaN before evidence;
        expert_words (experts, 14); task_branch, complexity (tasks,); task_words (tasks, 12).
    """

    expert_branch: Ints
    ability: Floats
    expert_words: Ints
    task_branch: Ints
    complexity: Ints
    task_words: Ints


def make(tasks: int, experts: int, seed: int) -> Made:
    """A market of sixty branches; words of a branch follow Zipf, so that few say much."""
    rng = np.random.default_rng(seed)
    branches = FIELDS * BRANCHES
    popular = 1 / np.arange(2, branches + 2) ** 0.6
    popular /= popular.sum()
    first = rng.choice(branches, experts, p=popular)
    second = np.where(rng.random(experts) < 0.4, rng.choice(branches, experts, p=popular), -1)
    branch = np.stack([first, np.where(second == first, -1, second)], axis=1)
    able = rng.normal(0.3, 1.0, (experts, 2))
    ability = np.where(rng.random((experts, 2)) < 0.5, able, np.nan)
    task_branch = rng.choice(branches, tasks, p=popular)
    return Made(
        branch,
        np.where(branch < 0, np.nan, ability),
        _words(rng, first, 14),
        task_branch,
        rng.integers(1, 11, tasks),
        _words(rng, task_branch, 12),
    )


def _words(rng: np.random.Generator, branch: Ints, each: int) -> Ints:
    weight = 1 / np.arange(1, WORDS_OF_BRANCH + 1) ** 0.7
    drawn = rng.choice(WORDS_OF_BRANCH, (len(branch), each), p=weight / weight.sum())
    return WORDS_OF_ALL + branch[:, None] * WORDS_OF_BRANCH + drawn


def spelled(number: int) -> str:
    """A made-up word; no stemmer takes two of them for one."""
    return (
        "q" + "".join("bcdfghjklmnpqrtvwxz"[number // 19**place % 19] for place in range(5)) + "x"
    )


def domain(branch: int) -> str:
    """The name of a branch within its field."""
    return f"field-{branch // BRANCHES}.branch-{branch % BRANCHES}"


def fill(url: str, made: Made, seed: int) -> tuple[list[UUID], list[UUID]]:
    """Write the market into the database by COPY; ids of experts and tasks."""
    rng = np.random.default_rng(seed + 1)
    experts = [new_id() for _ in range(len(made.expert_branch))]
    tasks = [new_id() for _ in range(len(made.task_branch))]
    with database.begin(PLATFORM) as session:
        project = make_project(
            session,
            budget_minor=10**12,
            domains=tuple(f"field-{n}" for n in range(FIELDS)),
            at=AT - timedelta(days=30),
        )
        organisation, project_id = project.organisation_id, project.id
    common = [spelled(word) for word in range(WORDS_OF_ALL)]
    with psycopg.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        with cursor.copy("copy market.person (id, name, email, created_at) from stdin") as copy:
            for n, one in enumerate(experts):
                copy.write_row((one, f"Expert {n}", f"e{n}@people.example", AT))
        with cursor.copy(
            "copy market.expert (id, created_at, headline, bio, timezone, languages, weekly_hours,"
            " max_concurrent, state, source, version) from stdin"
        ) as copy:
            for n, one in enumerate(experts):
                filler = " ".join(common[at] for at in rng.integers(0, WORDS_OF_ALL, 10))
                said = " ".join(spelled(word) for word in made.expert_words[n])
                copy.write_row(
                    (one, AT, "Expert", f"{filler} {said}", "UTC", [], 40, 3, "good", "bench", 1)
                )
        with cursor.copy(
            "copy market.expert_domain (expert_id, domain, years, level, ability) from stdin"
        ) as copy:
            for n, one in enumerate(experts):
                for branch, ability in zip(
                    made.expert_branch[n].tolist(), made.ability[n].tolist(), strict=True
                ):
                    if branch >= 0:
                        known = None if np.isnan(ability) else ability
                        copy.write_row((one, domain(branch), 3, "claimed", known))
        with cursor.copy(
            "copy market.tier_assignment (id, expert_id, tier, during, reason) from stdin"
        ) as copy:
            for one in experts:
                copy.write_row((new_id(), one, "T2", "[2026-01-01,)", "bench"))
        with cursor.copy(
            "copy market.task (id, organisation_id, project_id, external_id, domain, payload,"
            " expected_s, created_at, complexity, value_weight, state, version) from stdin"
        ) as copy:
            for n, one in enumerate(tasks):
                filler = " ".join(common[at] for at in rng.integers(0, WORDS_OF_ALL, 20))
                said = " ".join(spelled(word) for word in made.task_words[n])
                copy.write_row(
                    (
                        one,
                        organisation,
                        project_id,
                        f"task-{n}",
                        domain(int(made.task_branch[n])),
                        json.dumps({"instructions": f"{filler} {said}"}),
                        1800,
                        AT - timedelta(days=8),
                        int(made.complexity[n]),
                        1.0,
                        "queued",
                        1,
                    )
                )
        with cursor.copy(
            "copy market.task_slot (id, organisation_id, task_id, number, state, version)"
            " from stdin"
        ) as copy:
            for one in tasks:
                copy.write_row((new_id(), organisation, one, 1, "open", 1))
        connection.commit()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("vacuum analyze")
    return experts, tasks


def true_values(made: Made, policy: RunPolicy, branch: int, tasks: Ints) -> tuple[Ints, Floats]:
    """Everybody who knows a branch, and what each is worth to each of some tasks of it.

    Shapes: tasks (n,); experts (m,); values (n, m).
    """
    weights = policy.matcher.weights
    knows = made.expert_branch == branch
    mine = np.flatnonzero(knows.any(axis=1))
    ability = np.where(knows[mine], made.ability[mine], -np.inf).max(axis=1)
    ability = np.where((knows[mine] & np.isnan(made.ability[mine])).any(axis=1), np.nan, ability)
    unknown = np.isnan(ability)
    difficulty = (made.complexity[tasks] - MIDDLE_COMPLEXITY) * 0.5
    logit = np.where(unknown, PRIOR_ABILITY[0], ability)[None, :] - difficulty[:, None]
    spread = np.where(unknown, PRIOR_SD, 0.0)[None, :]
    stump = 1 / (1 + np.exp(-logit / np.sqrt(1 + np.pi * spread**2 / 8)))
    # A word is known or not: the words of each task against a table of who has which word.
    held = np.zeros((len(mine), WORDS_OF_ALL + FIELDS * BRANCHES * WORDS_OF_BRANCH), np.bool_)
    held[np.arange(len(mine))[:, None], made.expert_words[mine]] = True
    shared, said = np.zeros(stump.shape), np.zeros(len(tasks))
    for row, words in enumerate(made.task_words[tasks]):
        distinct = np.unique(words)
        said[row] = len(distinct)
        shared[row] = held[:, distinct].sum(axis=1)
    likeness = np.minimum(shared / np.minimum(said, TELLING_WORDS)[:, None], 1.0)
    value = weights.stump * stump + weights.affinity * (1 + likeness) / 2
    value += weights.learning + weights.quality * 0.5 + weights.urgency
    return mine, value


def judge(
    made: Made,
    policy: RunPolicy,
    experts: list[UUID],
    tasks: list[UUID],
    seen: Candidates,
    judged: int,
) -> tuple[float, float]:
    """The share of the true best fifty that are candidates, and the value of the fifty best
    candidates beside theirs.
    """
    expert_number = {found.bytes: n for n, found in enumerate(experts)}
    task_number = {found.bytes: n for n, found in enumerate(tasks)}
    expert = np.array([expert_number[row.tobytes()] for row in seen.expert_ids])
    task = np.array([task_number[row.tobytes()] for row in seen.task_ids])
    start = np.searchsorted(seen.pair_task, np.arange(len(task) + 1))
    number_of = np.empty(len(tasks), np.int64)
    number_of[task] = np.arange(len(task))
    wanted = found = 0
    best_sum = kept_sum = 0.0
    chosen = np.random.default_rng(1).permutation(len(tasks))[:judged]
    for branch in range(FIELDS * BRANCHES):
        mine = chosen[made.task_branch[chosen] == branch]
        if not len(mine):
            continue
        fit, worth = true_values(made, policy, branch, mine)
        best = np.sort(worth, axis=1)[:, ::-1][:, :BEST]
        for row, one in enumerate(mine.tolist()):
            part = slice(start[number_of[one]], start[number_of[one] + 1])
            among = np.isin(fit, expert[seen.pair_expert[part]])
            kept = np.sort(worth[row, among])[::-1][: best.shape[1]]
            wanted += best.shape[1]
            # Who is worth exactly as much as the fiftieth is as good as it.
            found += int((kept >= best[row, -1] - 1e-9).sum())
            best_sum += float(best[row].sum())
            kept_sum += float(kept.sum())
    return found / wanted, kept_sum / best_sum


def main(argv: list[str]) -> int:
    """Measure and print; nought when pairs come fast enough and the best are among them."""
    parser = argparse.ArgumentParser(prog="candidates", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--experts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--judged", type=int, default=10_000, help="tasks whose best are checked")
    asked = parser.parse_args(argv)
    made = make(asked.tasks, asked.experts, asked.seed)
    policy = read_policy({})
    keyring.open(SECRET)
    with (
        tempfile.TemporaryDirectory(prefix="bench-candidates") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False) as server,
    ):
        migrate(server.url)
        database.open(server.url)
        began = time.perf_counter()
        experts, tasks = fill(server.url, made, asked.seed)
        filled_s = time.perf_counter() - began
        print(json.dumps({"filled_s": round(filled_s, 1)}), flush=True)
        began = time.perf_counter()
        with database.begin(PLATFORM) as session:
            seen = candidates(session, policy, project_id=None, at=AT)
            read_s = time.perf_counter() - began
            believed = predictions_for(session, asked_of(seen))
        weigh(seen, believed, policy, seed=asked.seed)
        whole_s = time.perf_counter() - began
        one_task, one_expert = tasks[len(tasks) // 2], experts[len(experts) // 2]
        began = time.perf_counter()
        with database.begin(PLATFORM) as session:
            candidates(session, policy, project_id=None, at=AT, tasks=[one_task])
        task_s = time.perf_counter() - began
        began = time.perf_counter()
        with database.begin(PLATFORM) as session:
            candidates(session, policy, project_id=None, at=AT, experts=[one_expert])
            session.execute(text("select 1"))
        expert_s = time.perf_counter() - began
        database.close()
    recall, share = judge(made, policy, experts, tasks, seen, asked.judged)
    told = {
        "bench": "candidates",
        "tasks": len(tasks),
        "experts": len(experts),
        "pairs": seen.pairs,
        "pairs_a_task": round(seen.pairs / max(len(tasks), 1), 1),
        "pairs_let_through_by_domains": seen.met,
        "experts_times_tasks": len(tasks) * len(experts),
        "read_s": round(read_s, 2),
        "with_predictions_and_values_s": round(whole_s, 2),
        "pairs_per_second": round(seen.pairs / read_s),
        "recall_of_best_50": round(recall, 4),
        "value_of_best_50_kept": round(share, 4),
        "one_task_s": round(task_s, 3),
        "one_expert_s": round(expert_s, 3),
    }
    print(json.dumps(told))
    return 0 if seen.pairs / read_s >= PAIRS_PER_SECOND and recall >= RECALL else 1


if __name__ == "__main__":
    raise SystemExit(main([]))
