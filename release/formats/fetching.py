"""Reads many byte ranges: close ones as one, many at a time, within a bound of memory, in the order asked for.

* Ranges at most `GAP_BYTES` apart are read together, the nearest first, as long as what is read for nothing is at most
  `GAP_SHARE` of what is wanted: few requests, and never more than 5 % too many bytes.
* At most `AT_A_TIME` reads are under way. What has come and was not yet given, and what is on its way, together take at
  most `HELD_BYTES`; a single wanted range above that takes twice its own size while it is put together.
* A range of up to `ONE_READ_BYTES` that is all there is to read is one request; else long ranges are cut.
* Going on after a cut, and proving that an answer is the range, is the clients' business; its length is checked again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, pairwise

from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.order.spans import Span, merged

GAP_BYTES = 64 << 10
GAP_SHARE = 0.05
ONE_READ_BYTES = 8 << 20
PIECE_BYTES = 4_200_000  # a batch of Pythia (4,196,352 bytes) is one piece
GROUP_BYTES = 48 << 20
GROUP_SPANS = 4096
HELD_BYTES = 84_000_000
AT_A_TIME = 24


def size_of(spans: Iterable[Span]) -> int:
    """Bytes of all spans together."""
    return sum(span.end - span.begin for span in spans)


def reads_for(wanted: Sequence[Span], gap: int = GAP_BYTES) -> list[Span]:
    """The reads that give all the wanted spans, by file and place."""
    wanted = [span for span in wanted if span.begin < span.end]
    joined = merged(wanted, _widest_gap(wanted, gap))
    if len(joined) <= 1 and size_of(joined) <= ONE_READ_BYTES:
        return joined
    return [piece for span in joined for piece in _pieces(span)]


def _widest_gap(wanted: Sequence[Span], gap: int) -> int:
    """The widest gap up to `gap` for which all gaps up to it may be read, too."""
    spans = merged(wanted)
    gaps = sorted(b.begin - a.end for a, b in pairwise(spans) if a.path == b.path and b.begin - a.end <= gap)
    left, widest = GAP_SHARE * size_of(spans), 0
    for width, equal in groupby(gaps):
        left -= width * len(list(equal))
        if left < 0:
            break
        widest = width
    return widest


def _pieces(span: Span) -> Iterator[Span]:
    """A span cut into the fewest equal pieces of at most `PIECE_BYTES`."""
    count = max(-(-(span.end - span.begin) // PIECE_BYTES), 1)
    step = max(-(-(span.end - span.begin) // count), 1)
    for begin in range(span.begin, span.end, step):
        yield Span(span.path, begin, min(begin + step, span.end))


def fetched(
    ranges: Ranges, wanted: Iterable[Span], *, gap: int = GAP_BYTES, at_a_time: int = AT_A_TIME, held: int = HELD_BYTES
) -> Iterator[memoryview]:
    """The bytes of each wanted span, in the order given; spans are taken from `wanted` as they are needed.

    Spans are merged within groups of at most `GROUP_BYTES`, neighbours in the order given. Raises what reading raises;
    reads that are under way then end by themselves.
    """
    executor = ThreadPoolExecutor(at_a_time, thread_name_prefix="open360-read")
    groups: deque[_Group] = deque()
    source = _grouped(wanted, gap)
    in_hand = 0

    def submit() -> None:
        nonlocal in_hand
        while True:
            if not groups or groups[-1].is_submitted:
                group = next(source, None)
                if group is None:
                    return
                groups.append(group)
            group = groups[-1]
            if group.is_submitted:  # only empty spans
                continue
            size = group.next_bytes
            if in_hand + size > held and in_hand and group is not groups[0]:
                return
            in_hand += size
            group.submit(executor, ranges)

    try:
        submit()
        while groups:
            group = groups[0]
            for number in range(len(group.wanted)):
                data = group.take(number)
                in_hand -= group.release(number)
                submit()
                yield data
                del data  # what was given is the reader's
            groups.popleft()
            submit()
    except GeneratorExit:
        raise
    except BaseException:
        ranges.give_up()
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def gathered(
    ranges: Ranges, parts: Iterable[Sequence[Span]], check: Callable[[Span, memoryview], None] | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes of each part, which are those of its spans put together, in order; taken from `parts` as needed.

    `check` looks at the bytes of each span before.
    """
    asked: deque[Sequence[Span]] = deque()

    def spans() -> Iterator[Span]:
        for part in parts:
            if part:
                asked.append(part)
                yield from part

    pieces = fetched(ranges, spans())
    for piece in pieces:
        part = asked.popleft()
        found = [piece, *(next(pieces) for _ in part[1:])]
        if check is not None:
            for span, data in zip(part, found, strict=True):
                check(span, data)
        given = found[0] if len(found) == 1 else b"".join(found)
        del piece, found
        yield given
        del given


def _grouped(wanted: Iterable[Span], gap: int) -> Iterator[_Group]:
    spans: list[Span] = []
    size = 0
    for span in wanted:
        if spans and (size + span.end - span.begin > GROUP_BYTES or len(spans) == GROUP_SPANS):
            yield _Group(spans, gap)
            spans, size = [], 0
        spans.append(span)
        size += span.end - span.begin
    if spans:
        yield _Group(spans, gap)


class _Group:
    """Wanted spans, and the pieces that they are read by; a piece is dropped when its last span was given away."""

    def __init__(self, wanted: list[Span], gap: int) -> None:
        self.wanted = wanted
        self.pieces = reads_for(wanted, gap)
        self._parts = _parts(wanted, self.pieces)
        self._uses = [0] * len(self.pieces)
        for first, end in self._parts:
            for index in range(first, end):
                self._uses[index] += 1
        self._futures: list[Future[bytes | memoryview] | None] = []

    @property
    def is_submitted(self) -> bool:
        return len(self._futures) == len(self.pieces)

    @property
    def next_bytes(self) -> int:
        piece = self.pieces[len(self._futures)]
        return piece.end - piece.begin

    def submit(self, executor: ThreadPoolExecutor, ranges: Ranges) -> None:
        self._futures.append(executor.submit(_read, ranges, self.pieces[len(self._futures)]))

    def take(self, number: int) -> memoryview:
        span, (first, end) = self.wanted[number], self._parts[number]
        parts = []
        for index in range(first, end):
            future, piece = self._futures[index], self.pieces[index]
            assert future is not None  # noqa: S101
            data = memoryview(future.result())
            parts.append(data[max(span.begin - piece.begin, 0) : span.end - piece.begin])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def release(self, number: int) -> int:
        """Drop the pieces that nobody wants any more; returns their bytes."""
        freed = 0
        for index in range(*self._parts[number]):
            self._uses[index] -= 1
            if not self._uses[index]:
                self._futures[index] = None
                freed += self.pieces[index].end - self.pieces[index].begin
        return freed


def _parts(wanted: Sequence[Span], pieces: Sequence[Span]) -> list[tuple[int, int]]:
    """Which pieces `[first, end)` hold each wanted span; pieces are sorted and do not overlap."""
    found = [(0, 0)] * len(wanted)
    at = 0
    for number in sorted(range(len(wanted)), key=wanted.__getitem__):
        span = wanted[number]
        if span.begin == span.end:
            continue
        while (pieces[at].path, pieces[at].end) <= (span.path, span.begin):
            at += 1
        end = at
        while end < len(pieces) and pieces[end].path == span.path and pieces[end].begin < span.end:
            end += 1
        found[number] = (at, end)
    return found


def _read(ranges: Ranges, span: Span) -> bytes | memoryview:
    data = ranges.read(span.path, span.begin, span.end)
    if len(data) != span.end - span.begin:
        found = f"{len(data)} bytes"
        raise DataFileError(span.path, f"bytes {span.begin} to {span.end}", found, "read it again")
    return data
