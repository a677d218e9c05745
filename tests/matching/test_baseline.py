"""People and a model on the same items."""

import numpy as np
import pytest

from matching.arrays import ArrayInvalid
from matching.baseline import Standing, compare


def test_five_people_and_a_model_on_thirty_items_stand_on_one_scale_with_intervals() -> None:
    rng = np.random.default_rng(4)
    model = (np.arange(30) < 12).astype(float)
    right = (rng.random((5, 30)) < 0.85).astype(float)
    found = compare(right, model)
    assert found.standing is Standing.HUMAN
    assert found.model.low < 12 / 30 < found.model.high < found.human.low
    assert (found.beats > 0.9).all()
    assert all(one.low <= one.value <= one.high for one in (found.human, *found.people))


def test_it_is_saturated_when_nobody_is_above_the_model_and_unclear_when_somebody_may_be() -> None:
    model = np.ones(30)
    model[:3] = 0
    right = np.tile(model, (4, 1))
    right[:, 20:25] = 0
    assert compare(right, model).standing is Standing.SATURATED
    # As good as the model is not better than it.
    assert compare(np.tile(model, (3, 1)), model).standing is Standing.SATURATED
    right[0] = model
    right[0, 0], right[0, 10] = 1, 0
    found = compare(right, model)
    assert found.standing is Standing.UNCLEAR
    assert 0.3 < found.beats[0] < 0.7


def test_few_answers_say_nothing_and_never_nan() -> None:
    nobody = compare(np.zeros((0, 30)), np.ones(30))
    assert nobody.standing is Standing.THIN
    assert (nobody.human.low, nobody.human.high) == (0.0, 1.0)
    right = np.full((3, 30), np.nan)
    right[:, :5] = 1
    found = compare(right, np.zeros(30))
    assert found.standing is Standing.THIN
    assert not found.is_counted.any()
    assert np.isfinite([one.value for one in found.people]).all()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ArrayInvalid, match="fit"):
        compare(np.ones((2, 3)), np.ones(4))
    with pytest.raises(ArrayInvalid, match="NaN"):
        compare(np.full((2, 3), 0.5), np.ones(3))
