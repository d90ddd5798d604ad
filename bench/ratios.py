"""Ratios of two programs timed side by side: the one way in which speed is judged here.

Both sides run in turn, pair after pair, each first in half of the pairs, so that a slow minute of the computer meets
both. The median of the pairs' ratios is compared with a limit; a limit that lies inside the spread of the pairs
decides nothing, and the verdict says so.

Programs in this folder import it after `sys.path.append(str(Path(__file__).resolve().parent))`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: what was compared, both sides as text, and the ratio with its spread and limit.

    `at_least`: the ratio must reach `limit`; else it must not exceed it. A row without a limit is for information.
    """

    what: str
    ours: str
    reference: str
    ratio: float
    low: float
    high: float
    limit: float | None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """`holds`, `fails`, `inconclusive` when the limit lies inside the spread, `-` without a limit."""
        if self.limit is None:
            return "-"
        if self.low != self.high and self.low < self.limit < self.high:
            return "inconclusive"
        reached = self.ratio >= self.limit if self.at_least else self.ratio <= self.limit
        return "holds" if reached else "fails"


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    limit: float | None,
    at_least: bool = True,
    repeats: int = 7,
    *,
    clock: Callable[[], float] = time.process_time,
    amount: float | None = None,
    unit: str = "",
    prepare: Callable[[], object] | None = None,
) -> Row:
    """Time `ours` and `reference` in `repeats` interleaved pairs, after one call of each that does not count.

    Args:
        limit: of the ratio; None when there is none.
        at_least: True: the ratio is the speed, time of `reference` / time of `ours`, and must reach `limit`.
            False: the ratio is the cost, time of `ours` / time of `reference`, and must not exceed `limit`.
        clock: `time.process_time` (CPU seconds of this process, all threads) or `time.perf_counter` (wall clock,
            for what waits or runs in other processes).
        amount: units of work in one call; both sides are then shown as `unit` per second instead of seconds.
        prepare: called before each timed call, outside of the time.
    """
    prepare = prepare if prepare is not None else _nothing
    ours()
    prepare()
    reference()
    pairs = []
    for index in range(repeats):
        if index % 2:
            theirs = _seconds(reference, clock, prepare)
            pairs.append((_seconds(ours, clock, prepare), theirs))
        else:
            mine = _seconds(ours, clock, prepare)
            pairs.append((mine, _seconds(reference, clock, prepare)))
    ratios = [theirs / mine if at_least else mine / theirs for mine, theirs in pairs]
    return Row(
        what=name,
        ours=_shown(statistics.median(mine for mine, _ in pairs), amount, unit),
        reference=_shown(statistics.median(theirs for _, theirs in pairs), amount, unit),
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        limit=limit,
        at_least=at_least,
    )


def _nothing() -> None:
    pass


def _seconds(call: Callable[[], object], clock: Callable[[], float], prepare: Callable[[], object]) -> float:
    prepare()
    begin = clock()
    call()
    return max(clock() - begin, 1e-9)


def _shown(seconds: float, amount: float | None, unit: str) -> str:
    if amount is None:
        return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"
    rate = amount / seconds
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:,.2f} {prefix}{unit}/s"
    return f"{rate:,.1f} {unit}/s"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| what | ours | reference | ratio (median) | spread (min–max) | limit | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        limit = "-" if row.limit is None else f"{sign} {row.limit:g}"
        lines.append(
            f"| {row.what} | {row.ours} | {row.reference} | {row.ratio:.3f} | {row.low:.3f}–{row.high:.3f} "
            f"| {limit} | {row.verdict} |"
        )
    return "\n".join(lines) + "\n"
