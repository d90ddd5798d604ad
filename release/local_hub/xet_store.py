"""A content-addressed store that speaks Xet, the transfer protocol of the Hub's stock client.

Layout, below `xet/`:

* `id`: a random name for this store, part of its URL, so that a client never mistakes it for another store.
* `pending/<hash>`: xorbs that no file uses yet. `xorbs/ab/<hash>`: xorbs in use, never changed.
* `files/ab/<xet hash>.json`: how a file is made of chunks. `sha256/ab/<sha256>`: its Xet hash, by sha256.

A file is recorded only after its bytes were put together once and had the sha256 that its uploader announced.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from open360.release.local_hub.objects import BLOCK, FORGOTTEN_AFTER, place
from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.xet_chunks import (
    Chunk,
    ShardFile,
    Term,
    read_chunk_table,
    read_shard,
    unpack_chunk,
)
from open360.schema import atomic

MAX_XORB_BYTES = 96 << 20
MAX_SHARD_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file whose bytes were verified."""

    xet_hash: str
    sha256: str
    size: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The part of a term that a byte range needs: chunks `first` up to `last`, exclusive, of `xorb`."""

    xorb: str
    first: int
    last: int
    size: int


class XetStore:
    """Xorbs and files of one Hub folder, written whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in ("pending", "xorbs", "files", "sha256"):
            (root / name).mkdir(parents=True, exist_ok=True)
        if not (root / "id").exists():
            atomic.write_bytes(root / "id", secrets.token_hex(8).encode())
        self.id = (root / "id").read_text()

    def forget_old_uploads(self) -> None:
        """Remove xorbs that no file has come to use, once they are a day old."""
        horizon = time.time() - FORGOTTEN_AFTER
        for path in (self._root / "pending").iterdir():
            if path.stat().st_mtime < horizon:
                path.unlink(missing_ok=True)

    def add_xorb(self, xorb: str, received: Path) -> bool:
        """Keep a xorb that has arrived in a temporary file; return whether it is new."""
        read_chunk_table(received)
        if self._kept(xorb).exists():
            return False
        place(received, self._root / "pending" / xorb)
        return True

    def add_shard(self, data: bytes) -> None:
        """Record the files of a shard.

        Raises:
            RefusalError: 400 when the shard is malformed, names chunks that are not here, or when the bytes of a file
                do not have the sha256 that the shard announces.
        """
        for file in read_shard(data):
            if not self._record(file.xet_hash).exists():
                self._verify(file)

    def _verify(self, file: ShardFile) -> None:
        digest = hashlib.sha256()
        for block in self._blocks(file.terms, 0, file.size):
            digest.update(block)
        found = digest.hexdigest()
        if file.sha256 not in (None, found):
            raise RefusalError(
                400,
                f"The uploaded bytes are not the announced object: expected sha256 {file.sha256}, found sha256 {found}",
            )
        for xorb in {term.xorb for term in file.terms}:
            self._keep(xorb)
        record = {"sha256": found, "size": file.size, "terms": [asdict(term) for term in file.terms]}
        atomic.write_bytes(self._record(file.xet_hash), json.dumps(record).encode())
        atomic.write_bytes(self._by_sha256(found), file.xet_hash.encode())

    def _keep(self, xorb: str) -> None:
        kept = self._kept(xorb)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # A second name, not a move: somebody may be reading it under the first.
        with contextlib.suppress(FileExistsError):
            kept.hardlink_to(self._root / "pending" / xorb)
            atomic.sync_folder(kept.parent)

    def find(self, sha256: str) -> str | None:
        """The Xet hash of the file with this sha256, if it is here."""
        try:
            return self._by_sha256(sha256).read_text()
        except FileNotFoundError:
            return None

    def read(self, xet_hash: str) -> StoredFile:
        """How a file is made; raise `RefusalError` (404) when it is not here."""
        try:
            data = json.loads(self._record(xet_hash).read_bytes())
        except FileNotFoundError:
            raise RefusalError(404, f"No file with the Xet hash {xet_hash}") from None
        terms = tuple(Term(**term) for term in data["terms"])
        return StoredFile(xet_hash=xet_hash, sha256=data["sha256"], size=data["size"], terms=terms)

    def blocks(self, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        """The bytes of a file from `start` up to `end`, in blocks of up to about 1 MiB."""
        return self._blocks(file.terms, start, end)

    def pieces(self, terms: Iterable[Term], start: int, end: int) -> tuple[int, list[Piece]]:
        """The chunks that hold the bytes from `start` up to `end`, and how many bytes come before in the first."""
        found: list[Piece] = []
        offset, at = 0, 0
        for term in terms:
            if at < end and at + term.size > start:
                skipped, piece = _trim(term, self.chunk_table(term.xorb), start - at, end - at)
                offset = offset if found else start - (at + skipped)
                found.append(piece)
            at += term.size
        return max(offset, 0), found

    def _blocks(self, terms: Iterable[Term], start: int, end: int) -> Iterator[bytes]:
        offset, pieces = self.pieces(terms, start, end)
        left, buffer = end - start, bytearray()
        for piece in pieces:
            for content in self._contents(piece):
                part = content[offset : offset + left]
                buffer += part
                left, offset = left - len(part), 0
                if len(buffer) >= BLOCK:
                    yield bytes(buffer)
                    buffer.clear()
        if buffer:
            yield bytes(buffer)

    def _contents(self, piece: Piece) -> Iterator[bytes]:
        table = self.chunk_table(piece.xorb)
        with self.xorb_path(piece.xorb).open("rb") as file:
            for chunk in table[piece.first : piece.last]:
                file.seek(chunk.start)
                yield unpack_chunk(file.read(chunk.end - chunk.start), chunk)

    def xorb_path(self, xorb: str) -> Path:
        """Where a xorb lies; raise `RefusalError` (400) when it is not here."""
        for path in (self._kept(xorb), self._root / "pending" / xorb):
            if path.exists():
                return path
        raise RefusalError(400, f"No xorb {xorb}: it was not uploaded to this store")

    def chunk_table(self, xorb: str) -> tuple[Chunk, ...]:
        """The chunks of a xorb that is here."""
        path = self.xorb_path(xorb)
        return _chunk_table(path, path.stat().st_mtime_ns)

    def _kept(self, xorb: str) -> Path:
        return self._root / "xorbs" / xorb[:2] / xorb

    def _record(self, xet_hash: str) -> Path:
        return self._root / "files" / xet_hash[:2] / f"{xet_hash}.json"

    def _by_sha256(self, sha256: str) -> Path:
        return self._root / "sha256" / sha256[:2] / sha256


@functools.lru_cache(maxsize=32)
def _chunk_table(path: Path, written: int) -> tuple[Chunk, ...]:  # noqa: ARG001  (a pending xorb may be replaced)
    return read_chunk_table(path)


def _trim(term: Term, table: tuple[Chunk, ...], start: int, end: int) -> tuple[int, Piece]:
    """Leave out chunks before `start` and after `end` (bytes, counted from the term); also return the bytes skipped."""
    chunks = table[term.first : term.last]
    if not 0 <= term.first < term.last <= len(table) or sum(chunk.size for chunk in chunks) != term.size:
        raise RefusalError(400, f"Malformed shard: {term} is not in its xorb")
    first, last, at, skipped, size = term.last, term.first, 0, 0, 0
    for index, chunk in enumerate(chunks, start=term.first):
        if at + chunk.size <= start:
            skipped += chunk.size
        elif at < end:
            first, last, size = min(first, index), index + 1, size + chunk.size
        at += chunk.size
    return skipped, Piece(xorb=term.xorb, first=first, last=last, size=size)
