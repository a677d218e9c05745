import numpy as np
import pytest
from scipy.optimize import Bounds, minimize

from matching.design import CUBE, ENTRIES, Design, Factor
from matching.newton import least
from matching.refit import fit_map


def whole_matrix(design: Design) -> np.ndarray:
    """The columns one by one, from what the design makes of unit vectors."""
    table = np.column_stack([design.logits(row) for row in np.eye(design.width)])
    table[:, design.nowhere] = 0.0
    return table


def make_design(rows: int) -> Design:
    rng = np.random.default_rng(2)
    dense = np.column_stack([np.ones(rows), rng.normal(size=(rows, 2))])
    at = rng.integers(-1, 6, rows)
    slope = Factor(rng.integers(0, 4, rows), 4, 0.5, rng.normal(size=rows))
    return Design(dense, [Factor(at, 6, 1.0), slope])


@pytest.mark.parametrize("rows", [1, 300, ENTRIES // 3 + 7, CUBE // 9 * 2 + 5])
def test_products_in_blocks_are_those_of_the_whole_matrix(rows: int) -> None:
    design, rng = make_design(rows), np.random.default_rng(1)
    matrix, felt = whole_matrix(design), rng.normal(size=rows)
    assert np.allclose(design.sums(felt), felt @ matrix)
    wide = design.square_sums(felt)[design.columns :]
    assert np.allclose(wide, (felt @ matrix**2)[design.columns :])
    own = matrix[:, : design.columns]
    assert np.allclose(design.gram(felt), (own * felt[:, None]).T @ own)


def test_the_least_is_that_of_a_search_that_writes_the_matrix_down() -> None:
    design, rng = make_design(400), np.random.default_rng(3)
    y = (rng.random(400) < 0.4 - 0.2 * np.sign(design.dense[:, 1])).astype(float)
    weight, precision = rng.uniform(0.2, 1.0, 400), rng.uniform(0.3, 2.0, design.width)
    matrix = whole_matrix(design)

    def loss(theta: np.ndarray) -> float:
        eta = matrix @ theta
        return float(weight @ (np.logaddexp(0, eta) - y * eta) + 0.5 * precision @ theta**2)

    # The first column works downwards, so that its bound is in the way.
    rising = np.array([1, 2])
    below = np.full(design.width, -np.inf)
    below[rising] = 0.0
    start = np.zeros(design.width)
    other = minimize(loss, start, method="L-BFGS-B", bounds=Bounds(below, np.inf))
    found = least(design, y, weight, precision, rising, start, tolerance=1e-9)
    assert loss(found) <= float(other.fun) + 1e-6
    assert np.allclose(found, other.x, atol=2e-3)
    assert (found[rising] >= 0).all()
    free = least(design, y, weight, precision, np.zeros(0, np.int64), start, tolerance=1e-9)
    assert loss(free) < loss(found)
    assert free[1] < 0 == found[1]
    assert (found[design.nowhere] == 0).all()


def test_rows_that_part_the_classes_do_not_carry_coefficients_away() -> None:
    dense = np.column_stack([np.ones(50), np.linspace(-1, 1, 50)])
    y = (dense[:, 1] > 0).astype(float)
    precision = np.full(2, 1e-6)
    found = least(
        Design(dense, []), y, np.ones(50), precision, np.zeros(0, np.int64), np.zeros(2),
        tolerance=1e-3,
    )  # fmt: skip
    assert np.isfinite(found).all()
    assert found[1] > 10


@pytest.mark.parametrize("each", [4, 12])
def test_tasks_done_once_take_nothing_from_how_experts_differ(each: int) -> None:
    rng = np.random.default_rng(5)
    expert = np.repeat(np.arange(400), each)
    craft = rng.normal(0, 1.0, 400)
    y = (rng.random(len(expert)) < 1 / (1 + np.exp(1 - craft[expert]))).astype(float)
    once = Factor(np.arange(len(y)), len(y), 1.0)
    fit = fit_map(
        np.ones((len(y), 1)), [once, Factor(expert, 400, 0.7)], y, np.ones(len(y)),
        penalised=np.array([0.05]), rising=np.zeros(0, np.int64),
    )  # fmt: skip
    assert fit.variance[0] < 0.1
    assert 0.55 < fit.variance[1] < 1.3
