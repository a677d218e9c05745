"""The seeded simulations can be called by name, and the documents' examples run as they stand."""

import json
import re
from pathlib import Path

import pytest

from tests.bench import simulate
from tests.bench.simulations.arms import Arms, many_tests
from tests.bench.simulations.frontier import stories
from tests.bench.simulations.planted import planned

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["frontier", "experiments"])
def test_every_example_of_the_document_runs(name: str) -> None:
    shared: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        exec(example, shared)  # Documents of our own.


def test_simulations_are_known_by_name_and_another_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = {"aa", "ab", "adaptive", "frontier", "market", "offpolicy", "power-law"}
    assert wanted <= set(simulate.simulations())
    with pytest.raises(SystemExit):
        simulate.main(["nothing"])
    simulate.main(["aa", "--rounds", "2"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["name"] == "aa"
    assert told["rounds"] == 2


def test_a_simulation_with_one_seed_says_the_same_twice() -> None:
    arms = Arms("few", 15, 10, 0.5)
    first, second = (many_tests(arms, seed=5, rounds=3, effect=0.0) for _ in range(2))
    assert first == second


def test_eight_points_more_are_found_and_nothing_is_declared_of_equal_arms() -> None:
    arms = planned(0.08)
    equal = many_tests(arms, seed=1, rounds=60, effect=0.0, looks=5)
    assert float(str(equal["declared"])) <= 0.05
    # Peeking with the bound of a single look would have declared far more.
    assert float(str(equal["naive_peeking"])) > 0.05
    apart = many_tests(arms, seed=2, rounds=30, effect=0.08, looks=5)
    assert float(str(apart["declared_gain"])) >= 0.7


def test_a_hundred_become_twenty_and_a_hundred_again() -> None:
    told = stories(11, 3)
    assert told["opening"] == 100
    assert told["left"] == 20
    assert float(str(told["worst_after_two"])) >= 95
    assert told["silent_noticed"] == 1.0
