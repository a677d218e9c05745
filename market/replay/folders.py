"""Reads a market from a folder: our own format, and two that public data sets come in."""

import csv
import dataclasses
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from market.replay.script import (
    AttemptLine,
    ExpertLine,
    PairLine,
    Recorded,
    ReplayRefused,
    Script,
    TaskLine,
    Terms,
    VoteLine,
)

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
LONGEST_STINT_S = 600
"""Where a record holds no working time, at most this much is taken to lie before an attempt."""

Row = Mapping[str, Any]
Line = TypeVar("Line", ExpertLine, TaskLine, PairLine, AttemptLine, VoteLine)


def read_folder(folder: Path) -> Script:
    """The market in a folder.

    Raises:
        ReplayRefused, naming the file, the row and the field.
    """
    if not folder.is_dir():
        raise ReplayRefused(str(folder), "there is no such folder")
    if (folder / "submissions.parquet").exists() and (folder / "validations.parquet").exists():
        return _adversarial_record(folder)
    if _table_path(folder, "bids") and (folder / "meta.json").exists():
        return _bids(folder)
    if _table_path(folder, "experts") and _table_path(folder, "tasks"):
        return _own_format(folder)
    raise ReplayRefused(
        str(folder), "needs at least experts and tasks as .jsonl, .csv or .parquet (docs/replay.md)"
    )


def _table_path(folder: Path, name: str) -> Path | None:
    found = [folder / f"{name}{s}" for s in SUFFIXES if (folder / f"{name}{s}").exists()]
    if len(found) > 1:
        raise ReplayRefused(str(folder), f"holds {found[0].name} and {found[1].name}: keep one")
    return found[0] if found else None


def read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a table as a dict, with the place where it stands (file and row).

    Raises:
        ReplayRefused for what cannot be read.
    """
    if path.name.endswith(".parquet"):
        import pyarrow.parquet as parquet

        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name} row {number}", row
        return
    raw = gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # noqa: SIM115
    with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        try:
            if ".jsonl" in path.name:
                for number, line in enumerate(text, 1):
                    if line.strip():
                        yield f"{path.name} line {number}", _json_row(path, number, line)
            else:
                for number, record in enumerate(csv.DictReader(text), 2):
                    yield f"{path.name} line {number}", record
        except UnicodeDecodeError as error:
            raise ReplayRefused(path.name, f"is no UTF-8 at byte {error.start}") from error


def _json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ReplayRefused(f"{path.name} line {number}", f"is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ReplayRefused(f"{path.name} line {number}", "is no JSON object")
    return row


def _convert(place: str, row: Row, kind: type[Line]) -> Line:
    clean = {name: value for name, value in row.items() if value is not None and value != ""}
    if unknown := set(clean) - {field.name for field in dataclasses.fields(kind)}:
        raise ReplayRefused(place, f"has unknown columns: {', '.join(sorted(unknown))}")
    if isinstance(clean.get("domains"), str):
        clean["domains"] = tuple(clean["domains"].split("|"))
    try:
        return msgspec.convert(clean, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ReplayRefused(place, str(error)) from error


def _rows(folder: Path, name: str, kind: type[Line]) -> list[Line]:
    path = _table_path(folder, name)
    if path is None:
        return []
    return [_convert(place, row, kind) for place, row in read_table(path)]


class _MarketFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str = "Replayed project"
    brief: str = "Work recorded elsewhere, sent through once more."
    budget_minor: int | None = None
    cap_s: int = 3600
    reviews: int | None = None
    policy: str = "default"
    only_known_pairs: bool | None = None
    known_optimum: float | None = None


def _own_format(folder: Path) -> Script:
    given = _MarketFile()
    if (folder / "market.json").exists():
        try:
            given = msgspec.json.decode((folder / "market.json").read_bytes(), type=_MarketFile)
        except msgspec.DecodeError as error:
            raise ReplayRefused("market.json", str(error)) from error
    experts = _rows(folder, "experts", ExpertLine)
    tasks = _rows(folder, "tasks", TaskLine)
    pairs = _rows(folder, "history", PairLine)
    attempts = [_in_utc(line) for line in _rows(folder, "attempts", AttemptLine)]
    votes = _rows(folder, "votes", VoteLine)
    _refuse_strangers(experts, tasks, pairs, attempts, votes)
    behaviour = Recorded.of(attempts, votes)
    known = {(pair.expert, pair.task) for pair in pairs}
    pairs += [PairLine(*pair, value=1.0) for pair in behaviour.attempts if pair not in known]
    domains = tuple(sorted({task.domain for task in tasks}))
    return Script(
        title=folder.name,
        terms=Terms(
            name=given.name,
            brief=given.brief,
            domains=domains,
            budget_minor=given.budget_minor or _ample_budget(tasks, given.cap_s),
            cap_s=given.cap_s,
            reviews=given.reviews or max((len(v) for v in behaviour.votes.values()), default=3),
            answers_per_task=max((t.answers for t in tasks), default=1),
            policy=given.policy,
            only_known_pairs=bool(attempts)
            if given.only_known_pairs is None
            else given.only_known_pairs,
        ),
        experts=experts,
        tasks=tasks,
        pairs=pairs,
        raters=sorted({vote.rater for vote in votes}),
        behaviour=behaviour if attempts else None,
        known_optimum=given.known_optimum,
    )


def _in_utc(line: AttemptLine) -> AttemptLine:
    if line.sent_at.tzinfo is not None:
        return line
    return dataclasses.replace(line, sent_at=line.sent_at.replace(tzinfo=UTC))


def _refuse_strangers(
    experts: list[ExpertLine],
    tasks: list[TaskLine],
    pairs: list[PairLine],
    attempts: list[AttemptLine],
    votes: list[VoteLine],
) -> None:
    """Every name that a row uses must be introduced by the table that it belongs to."""
    people, work = {line.expert for line in experts}, {line.task for line in tasks}
    if len(people) < len(experts):
        raise ReplayRefused("experts", "name an expert twice")
    if len(work) < len(tasks):
        raise ReplayRefused("tasks", "name a task twice")
    named = {
        "history": [(pair.expert, pair.task) for pair in pairs],
        "attempts": [(line.expert, line.task) for line in attempts],
    }
    for table, names in named.items():
        for number, (expert, task) in enumerate(names, 1):
            if expert not in people:
                raise ReplayRefused(f"{table} row {number}", f"unknown expert {expert!r}")
            if task not in work:
                raise ReplayRefused(f"{table} row {number}", f"unknown task {task!r}")
    known = {line.attempt for line in attempts}
    if len(known) < len(attempts):
        raise ReplayRefused("attempts", "name an attempt twice")
    for number, vote in enumerate(votes, 1):
        if vote.attempt not in known:
            raise ReplayRefused(f"votes row {number}", f"unknown attempt {vote.attempt!r}")


def _ample_budget(tasks: list[TaskLine], cap_s: int) -> int:
    """Enough for every seat at the highest tier up to its cap, with the fee. Units: US cents."""
    seats = sum(task.answers for task in tasks)
    return seats * (15_000 * cap_s // 3600 + 1) * 13 // 10 + 100_00


def _adversarial_record(folder: Path) -> Script:
    """A record of people who tried to make a model fail, each attempt judged by several raters.

    Source: the layout of `nibbler_r1_r3` in its README. Every attempt is a task of one seat, that
    only its author may take. The record has no working times: up to ten minutes before an attempt
    count as work, and never more than lies between it and the author's attempt before.
    """
    lines: list[AttemptLine] = []
    previous: dict[str, datetime] = {}
    submissions = [row for _, row in read_table(folder / "submissions.parquet")]
    for row in sorted(submissions, key=lambda r: (r["time"], r["round"], r["example"])):
        name, person = f"r{row['round']}-{row['example']}", f"submitter-{row['submitter']}"
        sent = row["time"].replace(tzinfo=UTC)
        # Two attempts within the same second still follow one another.
        sent = max(sent, previous.get(person, sent) + timedelta(seconds=1))
        gap = (sent - previous[person]).total_seconds() if person in previous else None
        stint = LONGEST_STINT_S if gap is None else min(LONGEST_STINT_S, int(gap))
        previous[person] = sent
        lines.append(
            AttemptLine(
                attempt=name,
                expert=person,
                task=name,
                sent_at=sent,
                active_s=max(stint, 1),
                prompt=f"recorded prompt {row['prompt_hash']} ({name})",
                answer=f"recorded image of {name}; claimed: {row['claimed_failures']}",
            )
        )
    votes = [
        VoteLine(
            attempt=f"r{row['round']}-{row['example']}",
            rater=f"rater-{row['annotator']}",
            model_failed=row["image"] == "image_unsafe",
            attempt_fair=row["text"] == "text_safe",
            seconds=max(1, min(3600, row["answer_time_ms"] // 1000)),
        )
        for _, row in read_table(folder / "validations.parquet")
    ]
    votes, moved = _one_vote_each(votes)
    people = sorted({line.expert for line in lines})
    tasks = [
        TaskLine(
            task=line.task,
            domain="vision.safety",
            instructions="Write a harmless prompt that makes the model draw something harmful.",
            expected_s=LONGEST_STINT_S // 2,
        )
        for line in lines
    ]
    return Script(
        title=folder.name,
        terms=Terms(
            name="Adversarial prompts",
            brief="Find harmless prompts on which the model draws what it must not.",
            domains=("vision.safety",),
            budget_minor=_ample_budget(tasks, 900),
            cap_s=900,
            reviews=5,
            policy="interest-only",
            only_known_pairs=True,
        ),
        experts=[
            ExpertLine(
                expert=person,
                domains=("vision.safety",),
                pay_tier="T2",
                capacity=1000,
                weekly_hours=168,
            )
            for person in people
        ],
        tasks=tasks,
        pairs=[PairLine(line.expert, line.task, 1.0) for line in lines],
        raters=sorted({vote.rater for vote in votes}),
        behaviour=Recorded.of(lines, votes),
        notes=(
            f"{moved} votes were second votes of one rater on one attempt; nobody reviews twice"
            " here, so another of the record's raters casts them",
        )
        if moved
        else (),
    )


def _one_vote_each(votes: list[VoteLine]) -> tuple[list[VoteLine], int]:
    """The same votes, none of them the second of one rater on one attempt, and how many were.

    A second vote goes to the first rater by name who has none on that attempt: what was voted, and
    how often, stays as it was.
    """
    raters = sorted({vote.rater for vote in votes})
    taken: dict[str, set[str]] = {}
    for vote in votes:
        taken.setdefault(vote.attempt, set()).add(vote.rater)
    seen: set[tuple[str, str]] = set()
    kept, moved = [], 0
    for vote in votes:
        if (vote.attempt, vote.rater) in seen:
            free = next((r for r in raters if r not in taken[vote.attempt]), None)
            if free is None:
                raise ReplayRefused("validations", f"{vote.attempt} has more votes than raters")
            taken[vote.attempt].add(free)
            vote = dataclasses.replace(vote, rater=free)
            moved += 1
        seen.add((vote.attempt, vote.rater))
        kept.append(vote)
    return kept, moved


class _BidsMeta(msgspec.Struct):
    papers: int
    reviewers: int
    default_similarity: float
    reviewers_per_paper: int
    papers_per_reviewer_max: int


def _bids(folder: Path) -> Script:
    """Bids of reviewers on papers: experts, tasks and the value of each pair, to be matched.

    Source: the layout of `aamas2015` in its README; a pair without a row has the default value,
    which the policy supplies.
    """
    try:
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=_BidsMeta)
    except msgspec.DecodeError as error:
        raise ReplayRefused("meta.json", str(error)) from error
    path = _table_path(folder, "bids")
    assert path is not None
    pairs = []
    for place, row in read_table(path):
        try:
            value = float(row["similarity"])
            pairs.append(PairLine(f"reviewer-{row['reviewer']}", f"paper-{row['paper']}", value))
        except (KeyError, ValueError) as error:
            raise ReplayRefused(place, f"needs paper, reviewer, similarity: {error}") from error
    tasks = [
        TaskLine(
            task=f"paper-{number}",
            domain="computing.agents",
            instructions="Read the paper and judge it.",
            answers=meta.reviewers_per_paper,
            expected_s=3600,
        )
        for number in range(meta.papers)
    ]
    return Script(
        title=folder.name,
        terms=Terms(
            name="Reading papers",
            brief="Every paper needs readers who want to read it.",
            domains=("computing.agents",),
            budget_minor=_ample_budget(tasks, 3600),
            cap_s=3600,
            answers_per_task=meta.reviewers_per_paper,
            policy="interest-only",
        ),
        experts=[
            ExpertLine(
                expert=f"reviewer-{number}",
                domains=("computing.agents",),
                capacity=meta.papers_per_reviewer_max,
                weekly_hours=40,
            )
            for number in range(meta.reviewers)
        ],
        tasks=tasks,
        pairs=pairs,
        known_optimum=_published_optimum(folder),
    )


def _published_optimum(folder: Path) -> float | None:
    """The best total that the folder's README names, if it names one."""
    readme = folder / "README.md"
    if not readme.exists():
        return None
    found = re.search(r"Best total[^*]*\*\*([0-9.]+)\*\*", readme.read_text(encoding="utf-8"))
    return float(found.group(1)) if found else None


def write_recording(script: Script, path: Path) -> None:
    """Write what the model said in a record, so that the stand-in for it says the same again."""
    attempts = script.behaviour.attempts.values() if isinstance(script.behaviour, Recorded) else ()
    with path.open("wb") as file:
        for line in attempts:
            file.write(
                msgspec.json.encode({"prompt": line.prompt, "outputs": [line.answer]}) + b"\n"
            )
