"""Published tables of checkpoints (CSV with a header), read with their claims taken apart. Nothing of them is believed.

OLMo's have the columns `Step,Checkpoint Directory`, later ones `Stage,Step,Tokens Seen,Checkpoint Directory`.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from open360.schema.errors import Open360Error
from open360.schema.series import CheckpointList

MAX_LIST_BYTES = 16 << 20
MAX_ROWS = 500_000
_NUMBER = re.compile(r"\d{1,18}")
_STEP_IN_LINK = re.compile(r"(?<![A-Za-z0-9])(?:global_)?step[-_]?(\d{1,18})(?![0-9])", re.IGNORECASE)


class ListError(Open360Error):
    """A table of checkpoints cannot be read."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name}: {problem}; correct the table, or the columns that the spec names")


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """A row of a table; `line` counts from 1, the header included. None: the column holds no such thing."""

    line: int
    step: int | None
    tokens: int | None = None
    link: str | None = None

    @property
    def linked_steps(self) -> tuple[int, ...]:
        """The steps that the link names."""
        return tuple(int(found) for found in _STEP_IN_LINK.findall(self.link or ""))


def parse_list(name: str, data: bytes, declared: CheckpointList) -> list[ListRow]:
    """The rows of a table that `declared` is about, in its order.

    Raises ListError: it is no CSV, a column is missing, or it is longer than any list is.
    """
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        places = {column: _place(name, header, column) for column in _columns(declared)}
        found: list[ListRow] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = {column: cells[at].strip() if at < len(cells) else "" for column, at in places.items()}
            if all(row[column] == value for column, value in declared.only.items()):
                found.append(
                    ListRow(
                        line=reader.line_num,
                        step=_number(row[declared.step]),
                        tokens=_number(row[declared.tokens]) if declared.tokens is not None else None,
                        link=row[declared.link] if declared.link is not None else None,
                    )
                )
            if len(found) > MAX_ROWS:
                raise ListError(name, f"it has more than {MAX_ROWS} rows")
    except UnicodeDecodeError as error:
        raise ListError(name, "it is no UTF-8 text") from error
    except csv.Error as error:
        raise ListError(name, f"it is no CSV ({str(error)[:100]})") from error
    return found


def _columns(declared: CheckpointList) -> list[str]:
    named = [declared.step, declared.tokens, declared.link, *declared.only]
    return [column for column in named if column is not None]


def _place(name: str, header: list[str], column: str) -> int:
    if header.count(column) != 1:
        shown = ", ".join(header[:8])[:200] or "none"
        raise ListError(name, f"expected one column '{column}', found {header.count(column)} (columns: {shown})")
    return header.index(column)


def _number(text: str) -> int | None:
    """Whole numbers as people write them: `1000`, `1,000`, `1_000`, `1000.0`."""
    plain = text.replace(",", "").replace("_", "").removesuffix(".0")
    return int(plain) if _NUMBER.fullmatch(plain) and plain.isascii() else None
