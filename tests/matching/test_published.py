"""Published optima of the public bid sets."""

import pytest

from matching.assign import assign
from matching.verify import verify
from tests.matching.bids import bid_problem


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "best"),
    [("aamas2015", 1406.25), ("preflib1", 124.25), ("preflib2", 141.50), ("preflib3", 454.25)],
)
def test_the_published_optimum_is_reached_and_proved(name: str, best: float) -> None:
    problem = bid_problem(name)
    answer = assign(problem)
    assert answer.objective == best
    assert answer.bound == best
    assert answer.gap == 0
    assert verify(problem, answer) == []
