"""File contents: small ones by git blob id, large ones by sha256, and uploads that are still coming in.

Layout, below the Hub's folder:

* `blobs/git/ab/<blob id>` and `blobs/sha256/ab/<sha256>`: finished contents, never changed.
* `uploads/<id>/`: one announced large file: `upload.json`, and `parts/<n>` for one sent in parts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from starlette.concurrency import run_in_threadpool

from open360.release.local_hub import git_objects
from open360.release.local_hub.refusals import RefusalError
from open360.schema import atomic

BLOCK = 1 << 20
FORGOTTEN_AFTER = 24 * 3600  # seconds after which an unfinished upload is thrown away at the next start


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A large file that was announced: the URL with its id is the permission to send it."""

    id: str
    sha256: str
    size: int
    part_size: int | None

    @property
    def parts(self) -> int:
        """How many parts are expected."""
        return 1 if self.part_size is None else -(-self.size // self.part_size)


@dataclass(frozen=True, kw_only=True)
class Received:
    """Bytes that have arrived in a temporary file."""

    path: Path
    size: int
    sha256: str


class ObjectStore:
    """Contents of one Hub folder, written whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._uploads = root / "uploads"
        self._incoming = root / "incoming"
        for folder in (self._blobs / "git", self._blobs / "sha256", self._uploads, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def forget_old_uploads(self) -> None:
        """Remove what interrupted uploads have left, once it is a day old."""
        horizon = time.time() - FORGOTTEN_AFTER
        for path in [*self._uploads.iterdir(), *self._incoming.iterdir()]:
            if path.stat().st_mtime < horizon:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def regular_path(self, blob_id: str) -> Path:
        """Where a small file's content lies."""
        return self._blobs / "git" / blob_id[:2] / blob_id

    def large_path(self, sha256: str) -> Path:
        """Where a large file's content lies, if it came by LFS."""
        return self._blobs / "sha256" / sha256[:2] / sha256

    def put_regular(self, data: bytes) -> str:
        """Store a small file; return its blob id."""
        blob_id = git_objects.blob_id(data)
        path = self.regular_path(blob_id)
        if not path.exists():
            atomic.write_bytes(path, data)
        return blob_id

    def open_upload(self, *, sha256: str, size: int, part_size: int | None) -> Upload:
        """Announce a large file."""
        upload = Upload(id=secrets.token_hex(16), sha256=sha256, size=size, part_size=part_size)
        with atomic.replacing_folder(self._uploads / upload.id) as folder:
            (folder / "parts").mkdir()
            data = {"sha256": sha256, "size": size, "part_size": part_size}
            (folder / "upload.json").write_text(json.dumps(data))
        return upload

    def read_upload(self, upload_id: str) -> Upload:
        """Find an announced file; raise `RefusalError` (404) for an unknown id."""
        if not upload_id.isalnum():
            raise RefusalError(404, "No such upload")
        try:
            data = json.loads((self._uploads / upload_id / "upload.json").read_bytes())
        except FileNotFoundError:
            raise RefusalError(404, "No such upload: ask the LFS batch endpoint for a new URL") from None
        return Upload(id=upload_id, sha256=data["sha256"], size=data["size"], part_size=data["part_size"])

    def accept(self, upload: Upload, received: Received) -> None:
        """Keep a whole large file; raise `RefusalError` (422) when its bytes are not the announced ones."""
        if received.sha256 != upload.sha256 or received.size != upload.size:
            raise RefusalError(
                422,
                f"The uploaded bytes are not the announced object: expected sha256 {upload.sha256} "
                f"({upload.size} bytes), found sha256 {received.sha256} ({received.size} bytes)",
            )
        place(received.path, self.large_path(upload.sha256))
        shutil.rmtree(self._uploads / upload.id, ignore_errors=True)

    def accept_part(self, upload: Upload, number: int, received: Received) -> str:
        """Keep a part (numbered from 1); return its ETag."""
        if upload.part_size is None or not 1 <= number <= upload.parts:
            raise RefusalError(400, f"Part {number} was not asked for: expected 1 to {upload.parts}")
        place(received.path, self._uploads / upload.id / "parts" / str(number))
        return received.sha256

    def join_parts(self, upload: Upload, etags: list[tuple[int, str]]) -> None:
        """Make the large file of its parts, in order; raise `RefusalError` when one is missing or bytes are wrong."""
        if [number for number, _ in etags] != list(range(1, upload.parts + 1)):
            raise RefusalError(400, f"Expected parts 1 to {upload.parts} of {upload.sha256}, in order")
        digest, size = hashlib.sha256(), 0
        with self.incoming_file() as whole:
            with whole.open("wb") as out:
                for number, etag in etags:
                    part_digest = hashlib.sha256()
                    for block in self._part_blocks(upload, number):
                        part_digest.update(block)
                        digest.update(block)
                        size += out.write(block)
                    if part_digest.hexdigest() != etag.strip('"'):
                        raise RefusalError(400, f"Part {number} is not the one with ETag {etag}: send it again")
            self.accept(upload, Received(path=whole, size=size, sha256=digest.hexdigest()))

    def _part_blocks(self, upload: Upload, number: int) -> Iterator[bytes]:
        path = self._uploads / upload.id / "parts" / str(number)
        if not path.exists():
            raise RefusalError(400, f"Part {number} of {upload.sha256} has not arrived")
        return read_blocks(path, 0, path.stat().st_size)

    @contextmanager
    def incoming_file(self) -> Iterator[Path]:
        """A temporary file on the same disk; gone afterwards unless it was moved to its place."""
        with NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            path = Path(file.name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


async def receive(stream: AsyncIterator[bytes], path: Path, *, limit: int) -> Received:
    """Write a request body to a temporary file, block by block; raise `RefusalError` (413) beyond `limit` bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        async for block in stream:
            size += len(block)
            if size > limit:
                raise RefusalError(413, f"The body is larger than the {limit} bytes that were announced or allowed")
            digest.update(block)
            await run_in_threadpool(out.write, block)
    return Received(path=path, size=size, sha256=digest.hexdigest())


def read_blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `end`, in blocks."""
    with path.open("rb") as file:
        file.seek(start)
        left = end - start
        while left > 0:
            block = file.read(min(BLOCK, left))
            if not block:
                raise EOFError(f"{path} ends {left} bytes early")
            left -= len(block)
            yield block


def place(temporary: Path, path: Path) -> None:
    """Give a temporary file its final name, so that it lasts a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.sync_file(temporary)
    temporary.chmod(0o644)
    temporary.replace(path)
    atomic.sync_folder(path.parent)
