"""Writes the texts of a data set on the Hub as a file of documents; a program of its own, started by `sources`.

Leaving a stream of `datasets` early can abort the interpreter at exit, so it runs in a process that is thrown away.
Reads one JSON object (`repo`, `config`, `split`, `revision`, `text`, `source`, `out`) from standard input. Only pinned
data is loaded: no code of a repository is run. `HF_ENDPOINT` is respected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from open360.release.corpus.document_file import Document, DocumentError, writing_documents

WRONG_ROWS = 2


def write_rows(rows: Iterable[dict[str, Any]], source: str, column: str, out: Path) -> None:
    """Write the text of each row as a document with the row's number as its path. Raises DocumentError."""
    with writing_documents(out) as writer:
        for number, row in enumerate(rows):
            text = row.get(column)
            if not isinstance(text, str):
                raise DocumentError(
                    f"{source}/{number}: expected text in column '{column}', found {type(text).__name__} "
                    f"(columns: {', '.join(row)}); correct 'text' of the source"
                )
            writer.write(Document.of(source, str(number), text.encode()))


def main() -> None:
    """Load, write, exit: with `WRONG_ROWS` when the rows are not as the spec says."""
    from datasets import load_dataset

    ask = json.load(sys.stdin)
    rows = load_dataset(ask["repo"], ask["config"], split=ask["split"], revision=ask["revision"], streaming=True)
    try:
        write_rows(rows, ask["source"], ask["text"], Path(ask["out"]))
    except DocumentError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WRONG_ROWS)


if __name__ == "__main__":
    main()
