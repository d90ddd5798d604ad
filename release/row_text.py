"""Rows as text: ids decoded by the release's own tokenizer, escaped for a terminal, documents told apart.

Each row is a line `── step 7 · row 14 · source`, then its text. What a terminal would obey is shown as an escape: line
breaks and tabs alone are kept. Documents take turns in two colours where the rows, or the ids between documents, say
where they begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from open360.release.row_files import ids_of
from open360.schema.corpus import Corpus
from open360.schema.errors import Open360Error

MAX_TOKENIZER_BYTES = 64 << 20
COLORS = ("\x1b[36m", "\x1b[33m")
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
_KEPT = "\n\t"


class TokenizerError(Open360Error):
    """Ids cannot be turned into text."""


class Piece(NamedTuple):
    """Ids `[begin, end)` of a row, of one document; `source` is where it is from, as far as it is known."""

    begin: int
    end: int
    source: str | None = None


class Decoder:
    """Ids to text by a `tokenizer.json`. Raises TokenizerError."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        if len(data) > MAX_TOKENIZER_BYTES:
            raise TokenizerError(f"{name}: expected at most {MAX_TOKENIZER_BYTES} bytes, found {len(data)}")
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise TokenizerError("text needs the library 'tokenizers': pip install 'open360[pipeline]'") from error
        try:
            self._tokenizer = Tokenizer.from_str(data.decode())
        except Exception as error:  # tokenizers raises nothing narrower
            raise TokenizerError(f"{name}: expected a tokenizer, found none ({str(error)[:200]})") from error

    def text(self, ids: Sequence[int]) -> str:
        """The text of some ids, with special tokens shown. Ids that the vocabulary does not have give nothing."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def id_of(self, token: str) -> int | None:
        """The id of a token, None when the vocabulary does not have it."""
        found = self._tokenizer.token_to_id(token)
        return None if found is None else int(found)


def separators(corpus: Corpus | None, decoder: Decoder) -> frozenset[int]:
    """Ids that end a document, as far as the spec says."""
    if corpus is None:
        return frozenset()
    if corpus.row is not None and corpus.row.separator is not None:
        known = decoder.id_of(corpus.row.separator)
        if known is not None:
            return frozenset([known])
    special = corpus.tokenizer.special_ids if corpus.tokenizer is not None else None
    found = (special.separator if special.separator is not None else special.eos) if special is not None else None
    return frozenset() if found is None else frozenset([found])


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """How rows are shown.

    Attributes:
        ends: ids that end a document.
        color: whether escapes of a terminal are sent along.
        source: only documents of this source, where the rows say which are.
    """

    decoder: Decoder
    ends: frozenset[int] = field(default_factory=frozenset)
    color: bool = False
    source: str | None = None

    def __call__(self, table: pa.Table) -> Iterator[str]:
        """The rows of a table with the columns of a chunk, or of rows of others."""
        row_len = len(ids_of(table)) // max(table.num_rows, 1)
        names = table.column_names
        for at in range(table.num_rows):
            row = table.slice(at, 1)
            ids = ids_of(row).astype(np.int64)
            told = {name: row.column(name)[0].as_py() for name in ("step", "row", "source") if name in names}
            yield self._head(told)
            documents = row.column("documents")[0].as_py() if "documents" in names else None
            pieces = pieces_of(documents) if documents is not None else split(ids, self.ends, row_len)
            for number, piece in enumerate(pieces):
                if self.source is None or documents is None or piece.source == self.source:
                    yield self._colored(self.decoder.text(ids[piece.begin : piece.end].tolist()), number)
            yield "\n\n"

    def _head(self, told: dict[str, Any]) -> str:
        words = [f"{name} {value}" for name, value in told.items() if value is not None and name != "source"]
        if told.get("source") is not None:
            words.append(escaped(str(told["source"])).replace("\n", "\\n"))
        line = f"── {' · '.join(words)}"
        return f"{DIM}{line}{PLAIN}\n" if self.color else f"{line}\n"

    def _colored(self, text: str, number: int) -> str:
        safe = escaped(text)
        return f"{COLORS[number % len(COLORS)]}{safe}{PLAIN}" if self.color else safe


def escaped(text: str) -> str:
    """A text with everything as an escape that is not printable and no line break or tab."""
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def pieces_of(documents: Sequence[dict[str, Any]]) -> list[Piece]:
    """The documents of a row of ours."""
    return [Piece(d["start"], d["start"] + d["length"], d["source"]) for d in documents]


def split(ids: Any, ends: frozenset[int], row_len: int) -> list[Piece]:
    """A row cut after each id that ends a document."""
    cuts = [0, *(np.flatnonzero(np.isin(ids, list(ends))) + 1).tolist(), row_len]
    return [Piece(begin, end) for begin, end in pairwise(cuts) if begin < end]
