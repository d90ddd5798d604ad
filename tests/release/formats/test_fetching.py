"""Many ranges at once: right, in order, merged, within bounds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.formats import fetching
from open360.release.formats.fetching import GAP_SHARE, PIECE_BYTES, fetched, gathered, reads_for, size_of
from open360.release.formats.ranges import DataFileError
from open360.release.order.spans import Span, merged
from tests.support.counted_ranges import CountedRanges

FILES = {name: np.random.default_rng(seed).bytes(3_000) for seed, name in enumerate("ab")}


@st.composite
def any_spans(draw: st.DrawFn) -> list[Span]:
    def one() -> Span:
        begin = draw(st.integers(0, 3_000))
        return Span(draw(st.sampled_from("ab")), begin, draw(st.integers(begin, min(begin + 400, 3_000))))

    return [one() for _ in range(draw(st.integers(0, 20)))]


@given(any_spans(), st.integers(0, 500), st.integers(1, 30), st.integers(1, 2_000), st.integers(10, 3_000))
@settings(deadline=None, max_examples=80)
def test_every_range_is_given_in_the_order_asked_for(
    spans: list[Span], gap: int, at_a_time: int, held: int, group: int
) -> None:
    ranges = CountedRanges(FILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "PIECE_BYTES", 97)
        patch.setattr(fetching, "ONE_READ_BYTES", 150)
        patch.setattr(fetching, "GROUP_BYTES", group)
        found = [bytes(data) for data in fetched(ranges, iter(spans), gap=gap, at_a_time=at_a_time, held=held)]
    assert found == [FILES[span.path][span.begin : span.end] for span in spans]
    assert ranges.most_at_once <= at_a_time


@given(any_spans(), st.integers(0, 500))
def test_reads_hold_all_that_is_wanted_and_little_else(spans: list[Span], gap: int) -> None:
    reads = reads_for(spans, gap)
    wanted = merged(spans)
    assert size_of(reads) <= (1 + GAP_SHARE) * size_of(wanted)
    assert len(reads) <= max(len(wanted), 1)
    for span in wanted:
        assert span.begin == span.end or any(
            read.path == span.path and read.begin <= span.begin and span.end <= read.end for read in reads
        )


def test_ranges_that_lie_close_are_one_read_and_far_ones_are_not() -> None:
    rows = [Span("a", begin, begin + 1_000) for begin in (0, 1_040, 5_000, 6_020)]
    assert reads_for(rows) == [Span("a", 0, 2_040), Span("a", 5_000, 7_020)]
    assert reads_for(rows, gap=0) == rows


def test_a_batch_of_four_megabytes_is_one_read_alone_and_one_of_many_among_others() -> None:
    batch = 4_196_352
    assert reads_for([Span("a", 5, 5 + batch)]) == [Span("a", 5, 5 + batch)]
    many = [Span("a", 2 * batch * n, 2 * batch * n + batch) for n in range(10)]
    assert reads_for(many) == many
    assert all(read.end - read.begin <= PIECE_BYTES for read in reads_for([Span("a", 0, 1 << 26)]))


def test_twenty_and_more_reads_are_under_way_where_there_are_as_many() -> None:
    together = threading.Barrier(20)
    ranges = CountedRanges({"a": bytes(1 << 20)}, before=lambda _: together.wait(30) and None)
    wanted = [Span("a", 20_000 * n, 20_000 * n + 10_000) for n in range(40)]
    assert len(list(fetched(ranges, wanted))) == 40
    assert ranges.most_at_once >= 20


def test_what_is_read_ahead_is_bounded() -> None:
    taken = []

    def wanted() -> list[Span]:
        return [Span("a", 1_000 * n, 1_000 * n + 900) for n in range(1_000)]

    ranges = CountedRanges({"a": bytes(1_000_000)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "GROUP_BYTES", 4_000)
        for number, data in enumerate(fetched(ranges, wanted(), gap=0, held=20_000)):
            taken.append(len(data))
            assert ranges.bytes_read <= 900 * (number + 1) + 20_000
    assert len(taken) == 1_000


def test_a_reader_that_stops_early_asks_for_no_more() -> None:
    ranges = CountedRanges({"a": bytes(1 << 20)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "GROUP_SPANS", 16)
        pieces = fetched(ranges, (Span("a", n, n + 1) for n in range(0, 1 << 20, 2)), held=64, at_a_time=2)
        next(pieces)
        pieces.close()
    assert len(ranges.reads) <= 16 + 64


@pytest.mark.parametrize("failing", [0, 7, 39])
def test_the_first_failure_ends_everything(failing: int) -> None:
    def before(span: Span) -> None:
        if span.begin == failing * 20_000:
            raise DataFileError("a", "bytes", "none", "look")

    ranges = CountedRanges({"a": bytes(1 << 20)}, before=before)
    wanted = [Span("a", 20_000 * n, 20_000 * n + 10_000) for n in range(40)]
    found = []
    with pytest.raises(DataFileError):
        found += [bytes(data) for data in fetched(ranges, wanted)]
    assert ranges.given_up == 1


def test_a_source_that_gives_too_little_is_found_out() -> None:
    class Short(CountedRanges):
        def read(self, path: str, begin: int, end: int) -> bytes:
            return super().read(path, begin, end)[:-1]

    with pytest.raises(DataFileError, match="expected bytes 5 to 25, found 19 bytes"):
        list(fetched(Short(FILES), [Span("a", 5, 25)]))


@given(st.lists(any_spans(), max_size=5))
@settings(deadline=None, max_examples=30)
def test_parts_are_put_together_from_their_spans(parts: list[list[Span]]) -> None:
    found = [bytes(data) for data in gathered(CountedRanges(FILES), parts)]
    assert found == [b"".join(FILES[s.path][s.begin : s.end] for s in part) for part in parts if part]
