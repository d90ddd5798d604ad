"""One range of bytes, as RFC 9110 says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.local_hub.byte_ranges import parse_range
from open360.release.local_hub.refusals import RefusalError


@given(st.integers(1, 10_000), st.data())
def test_a_range_is_the_slice_it_names(size: int, data: st.DataObject) -> None:
    content = bytes(i % 251 for i in range(size))
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 2 * size))
    start, end = parse_range(f"bytes={first}-{last}", size) or (-1, -1)
    assert content[start:end] == content[first : last + 1]
    start, end = parse_range(f"bytes={first}-", size) or (-1, -1)
    assert content[start:end] == content[first:]
    count = data.draw(st.integers(1, 2 * size))
    start, end = parse_range(f"bytes=-{count}", size) or (-1, -1)
    assert content[start:end] == content[-count:]


@pytest.mark.parametrize("header", [None, "", "bytes=-", "rows=1-2", "bytes=1-2,4-5", "bytes=5-2", "bytes=a-b"])
def test_what_is_not_one_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_range(header, 100)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": "bytes */100"})
