"""The rules of OpenReview's matcher, walked in our words, beside one exact flow."""

import json

import pytest

from tests.bench import match_openreview as bench


def test_one_flow_is_never_worse_than_two_by_the_same_rules() -> None:
    for seed in range(6):
        dense = bench.scores(30, 50, 12, seed)
        given, _, proved = bench.ours(dense)
        stepwise, _ = bench.by_its_rules(dense)
        assert proved
        one, two = (bench.judged("", dense, plan, 0.0) for plan in (given, stepwise))
        assert (one["open_seats"], one["short_of_least"]) == (0, 0)
        assert (two["open_seats"], two["short_of_least"]) == (0, 0)
        assert float(str(one["total"])) >= float(str(two["total"])) - 1e-6
        assert given.sum(axis=0).max() <= bench.MOST
        assert stepwise.sum(axis=0).max() <= bench.MOST


def test_the_bench_says_whether_the_matcher_itself_was_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.main(["--papers", "20", "--reviewers", "40", "--scored", "10"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["matcher"] == "not run: no checkout was given"
    assert (told["as_good"], told["proved"]) == (True, True)
