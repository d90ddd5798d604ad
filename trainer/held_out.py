"""Held-out documents: read within bounds, turned into windows in which every id of a document is predicted once."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from open360.schema.errors import IntegrityError
from open360.trainer.errors import MissingInputError

MAX_LINE_BYTES = 256 << 20
NEXT = "build or fetch the corpus again"
FIELDS = ("id", "text", "source", "sha256")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A held-out document; `text_bytes` counts its text in UTF-8."""

    id: str
    source: str
    text: str
    text_bytes: int


def read_documents(path: Path, label: str) -> Iterator[Document]:
    """The documents of a `held_out.jsonl.zst`, in order.

    Raises:
        MissingInputError: there is no such file.
        IntegrityError: it is no zstd file of JSON lines, or a text has another digest than its line says.
    """
    if not path.is_file():
        raise MissingInputError(label, "the held-out documents of the corpus")
    try:
        # Not zstandard's stream_reader: it takes a file that was cut short for a whole one.
        with pa.input_stream(str(path), compression="zstd") as plain, io.BufferedReader(plain) as lines:
            number = 0
            while line := lines.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise IntegrityError(f"{label}, line {number}", f"at most {MAX_LINE_BYTES} bytes", "more", NEXT)
                yield _document(json.loads(line), f"{label}, line {number}")
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise IntegrityError(label, "zstd with a JSON object a line", f"{error}"[:200], NEXT) from error


def _document(entry: Any, where: str) -> Document:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in FIELDS):
        raise IntegrityError(where, f"an object with the texts {', '.join(FIELDS)}", type(entry).__name__, NEXT)
    data = entry["text"].encode()
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry["sha256"]:
        raise IntegrityError(f"{where}, document '{entry['id']}'", f"text of sha256 {entry['sha256']}", digest, NEXT)
    return Document(id=entry["id"], source=entry["source"], text=entry["text"], text_bytes=len(data))


def windows(ids: list[int], separator: int, seq_len: int) -> Iterator[tuple[list[int], list[int]]]:
    """`(context ids, ids to predict)` pairs of equal length, at most `seq_len`, that cover `ids` once, in order.

    The first window starts from the separator, each further one from the id before its first predicted id.
    """
    stream = [separator, *ids]
    for begin in range(0, len(ids), seq_len):
        end = min(begin + seq_len, len(ids))
        yield stream[begin:end], ids[begin:end]
