"""Real and made-up markets, sent through the whole service on this machine."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from pyarrow import parquet

from market.replay.folders import read_folder
from market.replay.generate import TIERS, generate_market
from market.replay.report import counted
from market.replay.rows import MOST_AT_ONCE, batches_of
from market.replay.script import Recorded, ReplayRefused, whole_weeks_until

LONGEST_S = 900
FIRST = 60
"""Attempts of a record that every run of the tests goes through."""


def replayed(*words: str) -> dict[str, object]:
    """The report of a replay, run as anyone would run it."""
    answer = subprocess.run(
        [sys.executable, "-m", "market.cli", "replay", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-4000:] + answer.stdout[-2000:]
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def test_a_made_up_market_is_worked_reviewed_and_paid_to_the_last_second() -> None:
    report = replayed("--experts", "12", "--tasks", "16", "--seed", "3")
    facts, money = report["facts"], report["money"]
    assert isinstance(facts, dict)
    assert isinstance(money, dict)
    assert report["holds"] is True
    assert facts["attempts"] == facts["submissions"] == facts["verdicts"] > 8
    assert facts["votes"] == 3 * facts["verdicts"]
    assert money["paid_s"] == money["worked_s"] > 0
    assert money["payouts_open"] == 0
    assert money["ledger_debits_minor"] == money["ledger_credits_minor"]


def test_a_conference_is_matched_at_its_published_optimum_over_http(shared_data: Path) -> None:
    report = replayed(str(shared_data / "matching" / "aamas2015"))
    facts = report["facts"]
    assert isinstance(facts, dict)
    assert facts["tasks"] == 613
    assert facts["offers"] == 1839
    assert abs(facts["matched_value"] - 1406.25) < 1e-6


def test_the_first_days_of_a_record_come_out_as_recorded(shared_data: Path, tmp_path: Path) -> None:
    whole = shared_data / "quality" / "nibbler_r1_r3"
    attempts = parquet.read_table(whole / "submissions.parquet").sort_by("time").slice(0, FIRST)
    votes = parquet.read_table(whole / "validations.parquet")
    kept = votes.join(attempts.select(["round", "example"]), ["round", "example"], None, "inner")
    parquet.write_table(attempts, tmp_path / "submissions.parquet")
    parquet.write_table(kept, tmp_path / "validations.parquet")
    rows = attempts.to_pylist()
    report = replayed(str(tmp_path))
    facts = report["facts"]
    assert isinstance(facts, dict)
    assert report["holds"] is True
    assert facts["attempts"] == facts["answers_kept"] == FIRST
    assert facts["people"] == len({row["submitter"] for row in rows}) > 5
    assert facts["votes"] == kept.num_rows == 5 * FIRST
    assert facts["validated_share"] == sum(row["validated"] for row in rows) / FIRST
    assert facts["stump_share"] == sum(row["stump"] for row in rows) / FIRST


@pytest.mark.slow
def test_a_record_of_people_who_stumped_a_model_comes_out_as_recorded(shared_data: Path) -> None:
    report = replayed(str(shared_data / "quality" / "nibbler_r1_r3"))
    facts = report["facts"]
    assert isinstance(facts, dict)
    assert report["holds"] is True
    assert facts["attempts"] == facts["answers_kept"] == 1532
    assert facts["people"] == 78
    assert facts["votes"] == 7660
    assert facts["raters"] == 12
    assert round(facts["validated_share"], 4) == 0.7892
    assert round(facts["stump_share"], 4) == 0.2454
    assert facts["top_decile_people"] == 8
    assert round(facts["top_decile_share"], 4) == 0.8933


def test_the_record_counts_itself_as_its_readme_says(shared_data: Path) -> None:
    script = read_folder(shared_data / "quality" / "nibbler_r1_r3")
    assert isinstance(script.behaviour, Recorded)
    facts = counted(script.behaviour)
    assert (facts["attempts"], facts["people"], facts["votes"]) == (1532, 78, 7660)
    stints = [line.active_s for line in script.behaviour.attempts.values()]
    assert min(stints) >= 1
    assert max(stints) == 600


def test_a_record_comes_in_batches_that_nobody_has_to_refuse(shared_data: Path) -> None:
    script = read_folder(shared_data / "quality" / "nibbler_r1_r3")
    assert isinstance(script.behaviour, Recorded)
    who = {task: expert for expert, task in script.behaviour.attempts}
    when = {line.task: line.sent_at for line in script.behaviour.attempts.values()}
    batches = batches_of(script)
    assert sum(map(len, batches)) == len(script.tasks)
    for batch in batches:
        assert max(Counter(who[task.task] for task in batch).values()) <= MOST_AT_ONCE
    edges = [(when[b[0].task], when[b[-1].task]) for b in batches]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(edges))


def test_the_same_seed_makes_the_same_market_and_another_seed_another() -> None:
    one, again, other = generate_market(5), generate_market(5), generate_market(6)
    assert one.experts == again.experts
    assert one.pairs == again.pairs
    assert one.experts != other.experts
    assert one.behaviour is not None
    assert again.behaviour is not None
    at = datetime(2026, 1, 5, tzinfo=UTC)
    expert, task = one.experts[0].expert, one.tasks[0].task
    assert one.behaviour.attempt_of(expert, task, at) == again.behaviour.attempt_of(
        expert, task, at
    )


def test_a_made_up_market_lies_behind_and_nobody_does_two_things_at_a_time() -> None:
    script = generate_market(3, experts=4, tasks=12)
    assert script.behaviour is not None
    at, person = datetime(2026, 1, 5, tzinfo=UTC), script.experts[0].expert
    drawn = [script.behaviour.attempt_of(person, task.task, at) for task in script.tasks]
    spans = sorted(
        (line.sent_at - timedelta(seconds=line.active_s), line.sent_at) for line in drawn if line
    )
    assert spans[-1][1] < at
    assert all(one[1] < two[0] for one, two in pairwise(spans))
    # What it is offered when that is recorded comes after it, and before now, or never.
    until = spans[-1][1]
    later = [script.behaviour.attempt_of(person, task.task, at, until) for task in script.tasks]
    assert any(later)
    assert not all(later)
    follow = [(one.sent_at - timedelta(seconds=one.active_s), one.sent_at) for one in later if one]
    assert until < follow[0][0]
    assert follow[-1][1] < at
    assert all(one[1] < two[0] for one, two in pairwise(follow))


def test_few_people_of_a_made_up_market_bring_most_of_what_counts() -> None:
    script = generate_market(1, experts=200, tasks=600)
    assert script.behaviour is not None
    assert {line.pay_tier for line in script.experts} == {name for name, _ in TIERS}
    at = datetime(2026, 1, 5, tzinfo=UTC)
    brought = []
    for person in script.experts:
        won = tried = 0
        for task in script.tasks[:40]:
            line = script.behaviour.attempt_of(person.expert, task.task, at)
            if line is not None:
                votes = script.behaviour.votes_on(line)
                tried += 1
                won += sum(vote.model_failed for vote in votes) * 2 > len(votes)
        brought.append(person.capacity * won / tried)
    brought.sort(reverse=True)
    assert sum(brought[:40]) > 0.5 * sum(brought)


def test_a_record_moves_forward_by_whole_weeks_and_no_more_than_needed() -> None:
    now = datetime(2026, 11, 22, 3, tzinfo=UTC)
    first = datetime(2023, 7, 6, 9, tzinfo=UTC)
    shift = whole_weeks_until(first, now)
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert now < first + shift <= now + timedelta(weeks=1)
    assert whole_weeks_until(now + timedelta(days=1), now) == timedelta(0)


OWN = {
    "experts.csv": "expert,domains,pay_tier\nada,chemistry|biology,T3\n",
    "tasks.jsonl": '{"task": "t1", "domain": "chemistry", "instructions": "Ask."}\n',
    "history.csv": "expert,task,value\nada,t1,0.5\n",
    "attempts.jsonl": (
        '{"attempt": "a1", "expert": "ada", "task": "t1", "sent_at": "2026-01-05T10:00:00",'
        ' "active_s": 60, "prompt": "p", "answer": "x"}\n'
    ),
    "votes.csv": "attempt,rater,model_failed,attempt_fair,seconds\na1,r1,true,false,30\n",
}


def folder_of(tmp_path: Path, **changed: str) -> Path:
    for name, content in OWN.items():
        (tmp_path / name).write_text(content)
    for name, content in changed.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    return tmp_path


def test_our_own_format_is_read(tmp_path: Path) -> None:
    script = read_folder(folder_of(tmp_path))
    assert script.experts[0].domains == ("chemistry", "biology")
    assert isinstance(script.behaviour, Recorded)
    assert script.behaviour.attempts["ada", "t1"].sent_at.tzinfo is not None
    assert counted(script.behaviour)["validated_share"] == 1.0
    assert script.terms.only_known_pairs


@pytest.mark.parametrize(
    ("changed", "place", "reason"),
    [
        ({"experts_csv": "expert,domains,age\nada,c,9\n"}, "experts.csv line 2", "age"),
        ({"tasks_jsonl": "{nonsense\n"}, "tasks.jsonl line 1", "no JSON"),
        ({"tasks_jsonl": '["a"]\n'}, "tasks.jsonl line 1", "no JSON object"),
        ({"history_csv": "expert,task,value\nbob,t1,1\n"}, "history row 1", "unknown expert"),
        ({"history_csv": "expert,task,value\nada,t9,1\n"}, "history row 1", "unknown task"),
        ({"history_csv": "expert,task,value\nada,t1,high\n"}, "history.csv line 2", "value"),
        (
            {"votes_csv": "attempt,rater,model_failed,attempt_fair,seconds\na9,r,true,true,1\n"},
            "votes row 1",
            "unknown attempt",
        ),
        ({"experts_csv": "expert,domains\nada,c\nada,c\n"}, "experts", "twice"),
        ({"market_json": '{"budget": 5}'}, "market.json", "budget"),
    ],
)
def test_a_folder_that_cannot_be_replayed_says_where_and_why(
    tmp_path: Path, changed: dict[str, str], place: str, reason: str
) -> None:
    with pytest.raises(ReplayRefused) as refused:
        read_folder(folder_of(tmp_path, **changed))
    assert refused.value.place == place
    assert reason in refused.value.reason


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "experts.csv").write_bytes("expert,domains\nzoë,c\n".encode("latin-1"))
    with pytest.raises(ReplayRefused, match="is no UTF-8"):
        read_folder(folder)


def test_a_folder_that_is_none_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "market.cli", "replay", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "there is no such folder" in answer.stderr
