"""Files of documents, `*.jsonl.zst`: one JSON object a line, in independent zstd frames of about 1 MiB of text.

Any tool that reads zstd and JSON Lines reads them. The bytes depend on the documents alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
import zstandard

from open360.schema.atomic import replacing_file
from open360.schema.errors import Open360Error

FRAME_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 16 << 20  # of UTF-8; the largest document decides the memory of every stage
MAX_LINE_BYTES = 7 * MAX_DOCUMENT_BYTES  # a control character takes six bytes in JSON
LEVEL = 9
PIECE_BYTES = 1 << 10  # a hostile frame can unpack to 30,000 times its size
Progress = Callable[[int, int], None]


class DocumentError(Open360Error):
    """A document, or a file of documents, is not what it should be."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text with its origin. `id` is `<source>/<path>`, `sha256` that of the UTF-8 text."""

    id: str
    text: str
    source: str
    sha256: str

    @classmethod
    def of(cls, source: str, path: str, data: bytes) -> Document:
        """The document of a file. Raises DocumentError when it is too large or not UTF-8 text."""
        name = f"{source}/{path}"
        if len(data) > MAX_DOCUMENT_BYTES:
            raise DocumentError(
                f"{name}: expected at most {MAX_DOCUMENT_BYTES} bytes in one document, found {len(data)}; "
                "split the file, or leave it out with 'exclude'"
            )
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DocumentError(
                f"{name}: expected UTF-8 text, found {error.reason} at byte {error.start}; "
                "convert the file, or leave it out with 'exclude'"
            ) from error
        return cls(id=name, text=text, source=source, sha256=hashlib.sha256(data).hexdigest())


class DocumentWriter:
    """Writes documents one by one; a new frame starts when the last one holds `FRAME_BYTES` of lines."""

    def __init__(self, stream: zstandard.ZstdCompressionWriter) -> None:
        self._stream, self._in_frame = stream, 0

    def write(self, document: Document) -> None:
        """Add a document."""
        line = orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._stream.write(line)
        self._in_frame += len(line)
        if self._in_frame >= FRAME_BYTES:
            self._stream.flush(zstandard.FLUSH_FRAME)
            self._in_frame = 0


@contextlib.contextmanager
def writing_documents(path: Path) -> Iterator[DocumentWriter]:
    """Yield a writer of `path`, which appears when the block ends well."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with replacing_file(path) as partial, partial.open("wb") as file, compressor.stream_writer(file) as stream:
        yield DocumentWriter(stream)


def read_lines(
    path: Path, batch_bytes: int = FRAME_BYTES, *, progress: Progress | None = None
) -> Iterator[list[bytes]]:
    """Lines of a file of documents, in batches of about `batch_bytes`, however the file was compressed.

    `progress` is called with the bytes of the file that were read, and all of them.

    Raises:
        DocumentError: the file is not zstd, is cut short, or has a line beyond `MAX_LINE_BYTES`.
    """
    pieces: list[bytes] = []
    held = 0
    with path.open("rb") as file:
        size = path.stat().st_size
        for piece in _unpacked(file, path.name):
            pieces.append(piece)
            held += len(piece)
            if held < batch_bytes or b"\n" not in piece:
                if held > MAX_LINE_BYTES + batch_bytes:
                    raise DocumentError(f"{path.name}: a line has more than {MAX_LINE_BYTES} bytes; build it again")
                continue
            lines = b"".join(pieces).split(b"\n")
            pieces = [lines.pop()]
            held = len(pieces[0])
            if progress is not None:
                progress(file.tell(), size)
            yield lines
    lines = b"".join(pieces).split(b"\n")
    if lines.pop():
        raise DocumentError(f"{path.name}: the last line has no end, so the file is cut short; build it again")
    if lines:
        yield lines


def _unpacked(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Plain bytes of zstd frames, little by little; a frame that does not end is an error."""
    frame = None
    try:
        while data := file.read(PIECE_BYTES):
            while data:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                if plain := frame.decompress(data):
                    yield plain
                data = frame.unused_data
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as error:
        raise DocumentError(f"{name}: expected zstd frames, found {error}; build the file again") from error
    if frame is not None:
        raise DocumentError(f"{name}: the last zstd frame does not end, so the file is cut short; build it again")


def parse_document(line: bytes, file: str) -> Document:
    """The document of a line. Raises DocumentError when the line is no document or its digest is wrong."""
    try:
        document = Document(**orjson.loads(line))
        found = hashlib.sha256(document.text.encode()).hexdigest()
    except (orjson.JSONDecodeError, TypeError, AttributeError) as error:
        raise DocumentError(f"{file}: expected a document on every line, found {error}; build it again") from error
    if found != document.sha256:
        raise DocumentError(
            f"{file}: document '{document.id}' has text of sha256 {found}, expected {document.sha256}; build it again"
        )
    return document
