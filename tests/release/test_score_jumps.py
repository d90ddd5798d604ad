"""Jumps of scores: the formula finds a checkpoint that scores like another one, and leaves honest curves alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.evidence.score_jumps import Point, jumps

Values = npt.NDArray[np.float64]
LENGTHS = st.integers(min_value=3, max_value=160)
SEEDS = st.integers(min_value=0, max_value=1 << 32)


def _points(values: Values, stderr: float | None = None) -> list[Point]:
    return [Point(step=1000 * i, value=float(value), stderr=stderr) for i, value in enumerate(values)]


def _growth(length: int, rng: np.random.Generator) -> Values:
    """A score that rises from chance, somewhere along the training, more or less steeply."""
    at = np.linspace(0, 1, length)
    return 0.25 + 0.5 / (1 + np.exp(-(at - rng.uniform(0.0, 0.9)) * rng.uniform(3, 40)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=200), st.booleans())
def test_a_monotone_curve_never_jumps_however_steep_and_uneven_it_is(values: list[float], falls: bool) -> None:
    curve = np.sort(np.array(values))
    assert jumps(_points(curve[::-1] if falls else curve)) == []
    assert jumps(_points(curve, stderr=1e-9)) == []


@settings(max_examples=150, deadline=None)
@given(LENGTHS, SEEDS)
def test_a_smooth_curve_does_not_jump(length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.linspace(0, length / 16, length)
    waves = sum(rng.normal() * np.sin(2 * np.pi * (rate * at + rng.uniform())) for rate in (0.2, 0.5, 1.0))
    assert jumps(_points(np.asarray(waves))) == []
    assert jumps(_points(_growth(length, rng), stderr=0.01)) == []


@settings(max_examples=150, deadline=None)
@given(LENGTHS, SEEDS, st.floats(min_value=1e-4, max_value=0.3))
def test_honest_noise_does_not_jump_with_standard_errors_and_without(length: int, seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    curve = _growth(length, rng) + noise * rng.normal(size=length)
    assert jumps(_points(curve)) == []
    assert jumps(_points(curve, stderr=noise)) == []


@settings(max_examples=100, deadline=None)
@given(LENGTHS, SEEDS)
def test_a_score_at_chance_that_hops_between_two_values_does_not_jump(length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert jumps(_points(rng.choice([0.25, 0.27], size=length))) == []


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=20, max_value=160), SEEDS, st.data())
def test_a_checkpoint_in_the_first_half_that_scores_like_the_last_is_found(
    length: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    curve = np.linspace(0.25, 0.75, length) + 0.002 * rng.normal(size=length)
    wrong = data.draw(st.integers(min_value=1, max_value=length // 3))
    curve[wrong] = curve[-1]
    assert jumps(_points(curve)) == [wrong]
    assert jumps(_points(curve, stderr=0.005)) == [wrong]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(min_value=1e-3, max_value=1e3))
def test_the_judgement_depends_on_no_unit(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    curve = _growth(40, rng) + 0.01 * rng.normal(size=40)
    curve[10] = 2.0
    assert jumps(_points(curve)) == jumps(_points(curve * factor)) == jumps(_points(-curve)) == [10]


@pytest.mark.parametrize("change", [lambda curve: curve[:8], lambda curve: curve[-2:], lambda curve: curve[:0]])
def test_short_curves_are_not_judged(change: Callable[[Values], Values]) -> None:
    curve = np.zeros(30)
    curve[4] = 1.0
    assert jumps(_points(curve, stderr=0.01)) == [4]
    assert jumps(_points(change(curve), stderr=0.01)) == []


def test_the_first_and_the_last_score_are_not_judged() -> None:
    curve = np.linspace(0, 0.1, 30)
    curve[0] = curve[-1] = 9.0
    assert jumps(_points(curve, stderr=0.001)) == []


def test_without_the_standard_error_of_a_neighbour_a_small_jump_is_not_judged() -> None:
    points = _points(np.linspace(0.3, 0.6, 24), stderr=0.001)
    points[5] = Point(step=5000, value=0.42, stderr=0.001)
    assert jumps(points) == [5]
    assert jumps([Point(step=p.step, value=p.value, stderr=-1.0) for p in points]) == []  # none at all
    points[6] = Point(step=6000, value=points[6].value)
    assert jumps(points) == []
