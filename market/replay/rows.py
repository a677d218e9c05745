"""A script's lines as the rows that the API takes in, and the batches in which they come."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from market.replay.caller import CallRefused
from market.replay.script import ExpertLine, PairLine, Recorded, Script, TaskLine

MOST_AT_ONCE = 100
"""Offers that the service lets one expert hold."""


def batches_of(script: Script) -> list[list[TaskLine]]:
    """The tasks as they came: a record's in its order, so many at a time as its experts may hold.

    An expert holds a hundred offers at most, and works forward in time; so what the record's
    busiest people did comes to the market in several batches.
    """
    if not isinstance(script.behaviour, Recorded):
        return [list(script.tasks)]
    room = {line.expert: min(line.capacity, MOST_AT_ONCE) for line in script.experts}
    by_name = {task.task: task for task in script.tasks}
    batches: list[list[TaskLine]] = [[]]
    held: Counter[str] = Counter()
    brought: set[str] = set()
    for line in sorted(script.behaviour.attempts.values(), key=lambda one: one.sent_at):
        if held[line.expert] == room[line.expert]:
            batches.append([])
            held.clear()
        held[line.expert] += 1
        if line.task not in brought:
            brought.add(line.task)
            batches[-1].append(by_name[line.task])
    batches[-1] += [task for task in script.tasks if task.task not in brought]
    return [batch for batch in batches if batch]


def email_of(name: str) -> str:
    """The address under which a person of a script signs up."""
    return f"{name}@people.example"


def _called(expert: str) -> str:
    """What a person is called; the number that told apart two of one name is left out."""
    words = expert.replace(".", " ").replace("-", " ").title().split()
    return " ".join(words[:-1] if len(words) > 2 and words[-1].isdecimal() else words)


def expert_row(line: ExpertLine) -> dict[str, object]:
    return {
        "email": email_of(line.expert),
        "name": _called(line.expert),
        "headline": line.headline,
        "domains": [{"domain": domain} for domain in line.domains],
        "country": line.country,
        "timezone": line.timezone,
        "weekly_hours": line.weekly_hours,
        "max_concurrent": min(line.capacity, MOST_AT_ONCE),
        "tier": line.pay_tier,
    }


def task_row(task: TaskLine) -> dict[str, object]:
    return {
        "external_id": task.task,
        "domain": task.domain,
        "payload": {"instructions": task.instructions},
        "expected_s": task.expected_s,
        "complexity": task.complexity,
    }


def pair_row(pair: PairLine) -> dict[str, object]:
    return {"expert": email_of(pair.expert), "task": pair.task, "value": pair.value}


def json_lines(rows: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for row in rows:
        yield encode(row) + b"\n"


def all_taken(what: str, answer: Mapping[str, object]) -> int:
    """How many rows an upload brought; a market that is not whole is not replayed."""
    if answer.get("rejected") or answer.get("conflict"):
        raise CallRefused(f"the upload of {what}", 200, str(answer)[:500])
    return int(str(answer["rows"]))
