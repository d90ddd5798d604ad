"""zstd unpacked forwards: what the library packs comes back, and nothing that is broken is believed."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.formats.ranges import DataFileError
from open360.release.formats.zstd_stream import MAX_BLOCK_BYTES, Frame, Unpacked

SKIPPABLE = b"\x5e\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"skipped"


def pack(data: bytes, level: int = 3, **how: bool) -> bytes:
    return zstandard.ZstdCompressor(level=level, **how).compress(data)  # type: ignore[arg-type]


def unpack(packed: bytes, step: int, start: Frame = Frame(0, 0)) -> tuple[bytes, Unpacked]:  # noqa: B008
    source = Unpacked("file", (packed[at : at + step] for at in range(0, len(packed), step)), start)
    return b"".join(source), source


@given(
    st.lists(st.one_of(st.binary(max_size=400), st.integers(0, 400_000).map(bytes)), max_size=5),
    st.integers(1, 5_000),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_frames_are_unpacked_and_their_beginnings_noted(
    parts: list[bytes], step: int, checksum: bool, sized: bool
) -> None:
    packed = [pack(part, write_checksum=checksum, write_content_size=sized) for part in parts]
    joined = SKIPPABLE + SKIPPABLE.join(packed)
    found, source = unpack(joined, step)
    assert found == b"".join(parts)
    assert source.packed == len(joined)
    assert source.at_border
    assert len(source.frames) == len(parts)
    for number, frame in enumerate(source.frames):
        assert frame.unpacked == sum(map(len, parts[:number]))
        assert unpack(joined[frame.packed :], step, frame)[0] == b"".join(parts[number:])


@pytest.mark.parametrize("level", [-5, 1, 9, 19])
def test_large_frames_of_every_level_are_unpacked(level: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(97, 105, 700_000, dtype=np.uint8).tobytes() + bytes(700_000) + rng.bytes(300_000)
    assert unpack(pack(data, level), 10_000)[0] == data


def test_no_block_is_larger_than_the_format_allows_whatever_it_came_from() -> None:
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < 10_000
    sizes = [len(block) for block in Unpacked("file", [bomb])]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= MAX_BLOCK_BYTES


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_that_was_cut_is_found_out(data: st.DataObject) -> None:
    packed = pack(bytes(range(256)) * 20, write_checksum=True) + SKIPPABLE + pack(b"end")
    borders = {0, len(packed) - len(pack(b"end")), len(pack(bytes(range(256)) * 20, write_checksum=True)), len(packed)}
    at = data.draw(st.integers(0, len(packed)))
    if at in borders:
        unpack(packed[:at], 100)
    else:
        with pytest.raises(DataFileError, match="middle of one"):
            unpack(packed[:at], 100)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_random_bytes_are_unpacked_or_refused(data: bytes) -> None:
    for packed in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            unpack(packed, 64)
        except DataFileError as error:
            assert "file" in str(error)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_flipped_bit_is_found_by_the_checksum(data: st.DataObject) -> None:
    original = bytes(range(256)) * 8
    packed = bytearray(pack(original, write_checksum=True))
    at = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[at // 8] ^= 1 << at % 8
    try:
        found = unpack(bytes(packed), 50)[0]
    except DataFileError:
        return
    assert found == original or at // 8 < 14  # a bit of the header that says nothing of the content


def test_a_window_that_would_fill_the_memory_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd" + bytes([0x00, (30 - 10) << 3])  # a window of 1 GiB
    with pytest.raises(DataFileError, match="memory"):
        unpack(header + b"\x01\x00\x00", 10)
