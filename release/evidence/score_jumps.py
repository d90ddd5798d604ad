"""Scores that jump against both neighbours: a pure function of a curve, made to raise few false alarms.

A checkpoint that holds the weights of another one gives such a jump. So does noise, and so do the first steps of a
training; the formula keeps clear of both. With the points ordered by step, let

* `e(i)` be the distance of score *i* from the closed interval between the scores before and after it: 0 on every
  monotone stretch, whatever its steepness and however unevenly the steps are spaced;
* `s(i)` be the standard error of that distance, √(stderr(i)² + max(stderr(i-1), stderr(i+1))²), where the record has
  one for all three;
* `E(i)` be the largest `e` of all other points but i-1 and i+1, after a tenth of them, the largest, is left out:
  how far this curve strays anyway;
* `V(i)` be the median of |y(j) - (y(j-1) + y(j+1)) / 2| over the same points: its noise and its curvature;
* `R(i)` be the span of all scores but score *i*.

Score *i* jumps when, of a curve of at least 9 points with standard errors,

    e(i) > 5 s(i)   and   e(i) > 2 E(i)   and   e(i) > 4 V(i)   and   e(i) > R(i) / 25

and, of a curve of at least 20 points without,

    e(i) > (4 + 80 / m) E(i)   and   e(i) > (10 + 120 / m) V(i)   and   e(i) > R(i) / 5   and   e(i) > |y(i ± 1)| / 10

where *m* is the number of the other points. The first and the last point have one neighbour, and are not judged; nor
is the neighbour of a point that jumps farther.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_WITH_STDERR = 9
LEAST_WITHOUT = 20
STDERRS = 5.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """A score at a step; `stderr` is None where the record does not have it."""

    step: int
    value: float
    stderr: float | None = None


def jumps(points: Sequence[Point]) -> list[int]:
    """Indices of the points that jump. `points` are ordered by step, and finite."""
    values = [point.value for point in points]
    strays = [0.0, *(_beyond(*values[i - 1 : i + 2]) for i in range(1, len(values) - 1)), 0.0]
    bends = [0.0, *(_bend(*values[i - 1 : i + 2]) for i in range(1, len(values) - 1)), 0.0]
    most = len(values) // 10 + 4  # more cannot exceed what nine tenths of the others keep to
    found: set[int] = set()
    for i in sorted(range(len(values)), key=lambda i: (-strays[i], i))[:most]:
        if strays[i] > 0 and not {i - 1, i + 1} & found and _jumps(points, strays, bends, i):
            found.add(i)
    return sorted(found)


def judged(points: Sequence[Point]) -> list[int]:
    """Indices of the points that `jumps` judges."""
    return [i for i in range(1, len(points) - 1) if len(points) >= _least(_error(points, i))]


def _least(error: float | None) -> int:
    return LEAST_WITHOUT if error is None else LEAST_WITH_STDERR


def _jumps(points: Sequence[Point], strays: list[float], bends: list[float], i: int) -> bool:
    error = _error(points, i)
    if len(points) < _least(error):
        return False
    others = [j for j in range(1, len(points) - 1) if abs(j - i) > 1]
    rest = sorted(strays[j] for j in others)
    usual = rest[len(rest) - 1 - len(rest) // 10]
    noise = statistics.median(bends[j] for j in others)
    values = [point.value for j, point in enumerate(points) if j != i]
    span = max(values) - min(values)
    if error is not None:
        return strays[i] > max(STDERRS * error, 2 * usual, 4 * noise, span / 25)
    level = max(abs(points[i - 1].value), abs(points[i + 1].value))
    return strays[i] > max((4 + 80 / len(others)) * usual, (10 + 120 / len(others)) * noise, span / 5, level / 10)


def _beyond(before: float, here: float, after: float) -> float:
    """Distance of `here` from the interval between its neighbours."""
    low, high = min(before, after), max(before, after)
    return max(low - here, here - high, 0.0)


def _bend(before: float, here: float, after: float) -> float:
    return abs(here - (before + after) / 2)


def _error(points: Sequence[Point], i: int) -> float | None:
    """Standard error of a point's distance from its neighbours; None when one of the three does not state its own."""
    before, here, after = (points[j].stderr for j in (i - 1, i, i + 1))
    if before is None or here is None or after is None or min(before, here, after) < 0:
        return None
    return math.hypot(here, max(before, after))
