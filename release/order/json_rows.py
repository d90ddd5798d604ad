"""Rows stored as JSON lines (Amber, K2): one object a line, of any length, so that no row has a computable place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from open360.release.order.spans import OrderError

MAX_LINE_BYTES = 8 << 20
BLOCK_BYTES = 1 << 20

ReadRange = Callable[[int, int], bytes]


@dataclass(frozen=True, kw_only=True)
class JsonRow:
    """Ids of a row, and the label of its source."""

    ids: NDArray[np.uint32]
    source: str | None


def parse_row(name: str, line: bytes, *, ids: str, source: str | None = None) -> JsonRow:
    """A row from its line; `ids` and `source` are keys. Raises OrderError."""
    if len(line) > MAX_LINE_BYTES:
        raise OrderError(name, f"a line of more than {MAX_LINE_BYTES} bytes")
    try:
        plain = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise OrderError(name, "a line that is no JSON") from error
    values = plain.get(ids) if isinstance(plain, dict) else None
    if not isinstance(values, list) or not set(map(type, values)) <= {int}:  # a bool is another type
        raise OrderError(name, f"a row without whole numbers under '{ids[:60]}'")
    try:
        numbers = np.array(values, dtype=np.uint32)
    except OverflowError as error:
        raise OrderError(name, f"a row with numbers under '{ids[:60]}' that are no ids") from error
    label = plain.get(source) if source is not None else None
    return JsonRow(ids=numbers, source=label if isinstance(label, str) else None)


def lines_between(name: str, read: ReadRange, begin: int, end: int, file_bytes: int) -> Iterator[bytes]:
    """The lines that lie whole in bytes `[begin, end)` of a file, without what ends them; empty ones are left out.

    Raises OrderError when a line is longer than `MAX_LINE_BYTES`.
    """
    rest, at = b"", begin
    inside = begin == 0  # a file begins with a line; elsewhere the first one may have begun before
    while at < end:
        stop = min(at + BLOCK_BYTES, end)
        *lines, rest = (rest + read(at, stop)).split(b"\n")
        at = stop
        if lines and not inside:
            inside = True
            del lines[0]
        if len(rest) > MAX_LINE_BYTES:
            raise OrderError(name, f"a line of more than {MAX_LINE_BYTES} bytes")
        yield from (line for line in lines if line.strip())
    if inside and end == file_bytes and rest.strip():
        yield rest
