"""Digests of files: right, in one read, remembered only when that is safe."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from open360.release import hashing
from open360.release.hash_cache import HashCache
from open360.release.hashing import FileDigest, hash_file, hash_files, hash_tensor_file, tensors_digest_of
from open360.schema.digests import TensorFileError, digest_of_tensor_file

LATER_NS = 10**10


def _digest(data: bytes) -> FileDigest:
    return FileDigest(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    return path


def _later(file: Path) -> int:
    return file.stat().st_ctime_ns + LATER_NS


@given(st.binary(max_size=5000), st.integers(1, 700))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_digest_does_not_depend_on_the_size_of_the_blocks(tmp_path: Path, data: bytes, block: int) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "BLOCK_BYTES", block)
        assert hash_file(tmp_path / "file") == _digest(data)


def test_many_files_come_in_the_order_asked_for_whatever_their_sizes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}" for i in range(50)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * (1 if i % 7 else 300_000))
    wanted = paths[::-1]
    told: list[tuple[int, int]] = []
    found = list(hash_files(wanted, workers=3, progress=lambda done, total, _: told.append((done, total))))
    assert found == [(path, _digest(path.read_bytes())) for path in wanted]
    total = sum(path.stat().st_size for path in paths)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_both_digests_of_a_tensor_file_come_from_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    save_file({f"layer.{i}": rng.standard_normal((300, 500)).astype("f4") for i in range(5)}, path)
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 1000)
    read: list[int] = []
    digest, tensors = hash_tensor_file(path, read.append)
    assert digest == FileDigest(bytes=path.stat().st_size, sha256=_digest(path.read_bytes()).sha256, tensors=tensors)
    assert tensors == digest_of_tensor_file("model", memoryview(path.read_bytes()))
    assert sum(read) == path.stat().st_size
    assert dict(hash_files([path])) == {path: digest}


def test_tensors_that_do_not_lie_in_the_order_of_their_names_have_the_same_digest(tmp_path: Path) -> None:
    mixed = {"a": np.ones(3, "f4"), "b": np.ones(5, "f8"), "c": np.ones(7, "i1")}
    save_file(mixed, tmp_path / "mixed.safetensors")  # stored by type first
    _, tensors = hash_tensor_file(tmp_path / "mixed.safetensors")
    assert tensors == digest_of_tensor_file("mixed", memoryview((tmp_path / "mixed.safetensors").read_bytes()))


def test_weights_split_over_files_have_the_digest_of_the_whole(tmp_path: Path) -> None:
    tensors = {f"w{i}": np.full((4, i + 1), i, "f4") for i in range(6)}
    save_file(tensors, tmp_path / "whole.safetensors")
    shards = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    save_file({name: tensors[name] for name in list(tensors)[::2]}, shards[0])
    save_file({name: tensors[name] for name in list(tensors)[1::2]}, shards[1])
    assert tensors_digest_of(shards) == hash_tensor_file(tmp_path / "whole.safetensors")[1]
    with pytest.raises(TensorFileError, match="two of them hold tensors of one name"):
        tensors_digest_of([shards[0], shards[0]])


def test_a_malformed_tensor_file_still_has_a_sha256(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes((10**10).to_bytes(8, "little") + b"{}")
    assert dict(hash_files([path])) == {path: _digest(path.read_bytes())}
    with pytest.raises(TensorFileError, match="claims 10000000000 bytes"):
        hash_tensor_file(path)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        assert hash_file(path).bytes == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_told_or_raised(tmp_path: Path) -> None:
    good, missing, pipe = tmp_path / "good", tmp_path / "missing", tmp_path / "pipe"
    good.write_bytes(b"x")
    os.mkfifo(pipe)
    told: list[Path] = []
    found = dict(hash_files([missing, good, pipe], on_error=lambda path, _: told.append(path)))
    assert (list(found), told) == ([good], [missing, pipe])
    with pytest.raises(FileNotFoundError):
        list(hash_files([good, missing]))


def test_workers_stop_when_the_caller_goes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}" for i in range(30)]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    stream = hash_files(paths, workers=2)
    next(stream)
    stream.close()  # would hang if a worker did not stop


def test_an_unchanged_file_is_not_read_again(file: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    first = dict(hash_files([file], cache=cache))
    remembered = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    assert remembered.find(file, file.stat()) == (first[file].sha256, None)
    # A cached answer is used: the line of another digest (with its check) would be believed.
    forged = HashCache(tmp_path / "forged", tmp_path, clock=lambda: _later(file))
    forged.keep(file, file.stat(), "0" * 64, None)
    assert dict(hash_files([file], cache=forged))[file].sha256 == "0" * 64


def test_a_file_that_changed_just_now_is_not_remembered(file: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache", tmp_path, clock=lambda: file.stat().st_ctime_ns + 10**9)
    dict(hash_files([file], cache=cache))
    assert cache.find(file, file.stat()) is None
    assert not (tmp_path / "cache").exists()


def test_a_change_that_keeps_size_and_modification_time_is_seen(file: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    dict(hash_files([file], cache=cache))
    before = file.stat()
    file.write_bytes(b"other byte")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert dict(hash_files([file], cache=cache))[file] == _digest(b"other byte")


@given(damage=st.binary(min_size=1, max_size=40), at=st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_cache_never_gives_a_wrong_digest(file: Path, tmp_path: Path, damage: bytes, at: int) -> None:
    path = tmp_path / "cache"
    path.unlink(missing_ok=True)
    dict(hash_files([file], cache=HashCache(path, tmp_path, clock=lambda: _later(file))))
    data = bytearray(path.read_bytes())
    data[at : at + len(damage)] = damage
    path.write_bytes(data)
    damaged = HashCache(path, tmp_path, clock=lambda: _later(file))
    assert dict(hash_files([file], cache=damaged))[file] == _digest(b"some bytes")


def test_a_moved_folder_keeps_its_cache(file: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    cache.keep(file, file.stat(), "1" * 64, "2" * 64)
    moved = HashCache(tmp_path / "cache", tmp_path / "elsewhere", clock=lambda: _later(file))
    assert moved.find(tmp_path / "elsewhere" / "file", file.stat()) == ("1" * 64, "2" * 64)


def test_a_cache_with_many_old_lines_is_written_anew(file: Path, tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    for i in range(1100):
        cache.keep(file, file.stat(), f"{i:064x}", None)
    again = HashCache(tmp_path / "cache", tmp_path, clock=lambda: _later(file))
    assert again.find(file, file.stat()) == (f"{1099:064x}", None)
    assert len((tmp_path / "cache").read_bytes().splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_no_error(file: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_bytes(b"")
    cache = HashCache(tmp_path / "occupied" / "cache", tmp_path, clock=lambda: _later(file))
    assert dict(hash_files([file], cache=cache))[file] == _digest(b"some bytes")
