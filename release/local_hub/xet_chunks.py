"""The two binary formats of Xet that a store has to read: xorbs (chunks, packed) and shards (how files are made).

Specification: the Xet protocol, "Xorb format" and "Shard format" (Hugging Face Hub documentation).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from open360.release.local_hub.refusals import RefusalError

MAX_CHUNKS = 8 * 1024
MAX_CHUNK_BYTES = 128 * 1024
XORB_TRAILER = b"XETBLOB"
SHARD_TAG = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
END_OF_FILES = b"\xff" * 32
HAS_VERIFICATION, HAS_SHA256 = 0x80000000, 0x40000000
RECORD = 48  # bytes of each record of a shard's file section

_CHUNK_HEADER = 8


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Where a chunk lies in its xorb: `start` is the byte of its header, `end` that after its data."""

    start: int
    end: int
    size: int
    scheme: int


@dataclass(frozen=True, kw_only=True)
class Term:
    """A run of chunks (`first` up to `last`, exclusive) of one xorb: `size` bytes of a file."""

    xorb: str
    first: int
    last: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A file that a shard describes; `sha256` as its uploader claims it."""

    xet_hash: str
    terms: tuple[Term, ...]
    sha256: str | None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(term.size for term in self.terms)


def hash_to_text(data: bytes) -> str:
    """A Xet hash in hex: four little-endian 64-bit numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", data))


def read_chunk_table(path: Path) -> tuple[Chunk, ...]:
    """List the chunks of a xorb by walking its headers; raise `RefusalError` (400) when it is malformed."""
    chunks: list[Chunk] = []
    total = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at < total:
            file.seek(at)
            header = file.read(_CHUNK_HEADER)
            if header.startswith(XORB_TRAILER):
                break
            if len(header) < _CHUNK_HEADER or header[0] != 0 or header[4] > 2 or len(chunks) >= MAX_CHUNKS:
                raise RefusalError(400, f"Malformed xorb: no chunk header at byte {at}")
            packed, size = (int.from_bytes(header[i : i + 3], "little") for i in (1, 5))
            end = at + _CHUNK_HEADER + packed
            if size > MAX_CHUNK_BYTES or end > total:
                raise RefusalError(400, f"Malformed xorb: the chunk at byte {at} is too large")
            chunks.append(Chunk(start=at, end=end, size=size, scheme=header[4]))
            at = end
    return tuple(chunks)


def unpack_chunk(packed: bytes, chunk: Chunk) -> bytes:
    """The content of a chunk, given its header and data; raise `RefusalError` (400) when it does not unpack."""
    data = packed[_CHUNK_HEADER:]
    if chunk.scheme > 0:
        try:
            data = pa.decompress(data, decompressed_size=chunk.size, codec="lz4", asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise RefusalError(
                400, f"Malformed xorb: the chunk at byte {chunk.start} does not unpack: {error}"
            ) from error
    if len(data) != chunk.size:
        raise RefusalError(
            400, f"Malformed xorb: the chunk at byte {chunk.start} has {len(data)} bytes, not {chunk.size}"
        )
    return _interleave(data) if chunk.scheme == 2 else data


def _interleave(grouped: bytes) -> bytes:
    """Undo the grouping of every fourth byte, which makes floats compress better."""
    source = np.frombuffer(grouped, dtype=np.uint8)
    out = np.empty_like(source)
    at = 0
    for group in range(4):
        count = len(out[group::4])
        out[group::4] = source[at : at + count]
        at += count
    return out.tobytes()


def read_shard(data: bytes) -> tuple[ShardFile, ...]:
    """The files that a shard describes; raise `RefusalError` (400) when it is malformed."""
    if not data.startswith(SHARD_TAG):
        raise RefusalError(400, "Malformed shard: it does not begin with the tag of one")
    files: list[ShardFile] = []
    at = RECORD
    while (record := _record(data, at))[:32] != END_OF_FILES:
        flags, count = struct.unpack("<II", record[32:40])
        terms = tuple(_term(_record(data, at + RECORD * (1 + i))) for i in range(min(count, len(data) // RECORD)))
        at += RECORD * (1 + count * (2 if flags & HAS_VERIFICATION else 1))
        sha256 = None
        if flags & HAS_SHA256:
            sha256 = hash_to_text(_record(data, at)[:32])
            at += RECORD
        files.append(ShardFile(xet_hash=hash_to_text(record[:32]), terms=terms, sha256=sha256))
    return tuple(files)


def _record(data: bytes, at: int) -> bytes:
    record = data[at : at + RECORD]
    if len(record) < RECORD:
        raise RefusalError(400, f"Malformed shard: it ends inside the record at byte {at}")
    return record


def _term(record: bytes) -> Term:
    size, first, last = struct.unpack("<III", record[36:48])
    return Term(xorb=hash_to_text(record[:32]), first=first, last=last, size=size)
