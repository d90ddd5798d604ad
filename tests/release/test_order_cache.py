"""Shuffled orders on disk: the same as in memory, whole or not at all, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from open360.release.order.row_orders import KeptShuffles
from open360.release.order_cache import CachedShuffles


@pytest.mark.parametrize("memory", [None, 100])
def test_an_order_from_disk_is_the_one_from_memory(tmp_path: Path, memory: int | None) -> None:
    cached = CachedShuffles(tmp_path, small_rows=10, memory=memory)
    expected = KeptShuffles()(1000, 7)
    np.testing.assert_array_equal(cached(1000, 7), expected)
    assert cached.path(1000, 7).stat().st_size == 4000
    assert cached.path(1000, 7).read_bytes() == expected.astype("<u4").tobytes()
    again = CachedShuffles(tmp_path, small_rows=10)(1000, 7)
    np.testing.assert_array_equal(again, expected)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1


def test_it_is_made_once(tmp_path: Path) -> None:
    cached = CachedShuffles(tmp_path, small_rows=10)
    cached(1000, 7)
    made = cached.path(1000, 7).stat().st_ino
    cached(1000, 7)
    assert cached.path(1000, 7).stat().st_ino == made


def test_small_orders_are_kept_in_memory_alone(tmp_path: Path) -> None:
    assert len(CachedShuffles(tmp_path)(1000, 7)) == 1000
    assert not (tmp_path / "orders").exists()


def test_an_order_that_was_cut_is_made_again(tmp_path: Path) -> None:
    cached = CachedShuffles(tmp_path, small_rows=10)
    expected = np.array(cached(1000, 7))
    with cached.path(1000, 7).open("r+b") as file:
        file.truncate(3996)
    np.testing.assert_array_equal(cached(1000, 7), expected)


def test_a_folder_that_cannot_be_written_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "orders").write_text("a file where the folder should be")
    np.testing.assert_array_equal(CachedShuffles(tmp_path, small_rows=10)(1000, 7), KeptShuffles()(1000, 7))


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    cached = CachedShuffles(tmp_path, small_rows=10, max_bytes=9000)
    for age, seed in ((300, 1), (200, 2)):
        cached(1000, seed)
        used = cached.path(1000, seed).stat().st_mtime - age
        os.utime(cached.path(1000, seed), (used, used))
    left_over = tmp_path / "orders" / ".pcg64.x.partial"
    left_over.write_bytes(b"half")
    os.utime(left_over, (0, 0))
    cached(1000, 3)
    kept = {path.name for path in (tmp_path / "orders").iterdir()}
    assert kept == {cached.path(1000, 2).name, cached.path(1000, 3).name}
    assert len(cached(5000, 1)) == 5000  # more than fits: in memory
    assert not cached.path(5000, 1).exists()


def test_memory_keeps_the_last_orders_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open360.release.order.row_orders.MAX_KEPT_BYTES", 9000)
    kept = KeptShuffles()
    first = kept(1000, 1)
    assert kept(1000, 1) is first
    kept(1000, 2)
    kept(1000, 3)
    assert kept(1000, 1) is not first
