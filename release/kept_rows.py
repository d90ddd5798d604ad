"""Which rows of batches of ours are kept: by their numbers, and by the sources of their documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from open360.release.pull_selection import SelectionError

MAX_SOURCES = 40


class KeptRows:
    """Keeps rows with numbers `[first, end)`, and rows that hold a document of a source; all without either."""

    def __init__(self, rows: tuple[int, int] | None = None, source: str | None = None) -> None:
        self.rows, self.source = rows, source
        self._seen: set[str] = set()
        self._count = 0

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return self.rows is None and self.source is None

    def of(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The tables without the rows that are left out."""
        for table in tables:
            kept = self._kept(table)
            self._count += kept.num_rows
            yield kept

    def check(self) -> None:
        """Raise SelectionError when no row was of the source."""
        if self.source is not None and not self._count:
            known = ", ".join(sorted(self._seen)) or "none"
            raise SelectionError(f"none of these rows holds a document of source '{self.source}' (found: {known})")

    def _kept(self, table: pa.Table) -> pa.Table:
        if self.rows is not None:
            numbers = np.asarray(table.column("row").to_numpy())
            table = table.filter(pa.array((numbers >= self.rows[0]) & (numbers < self.rows[1])))
        if self.source is not None:
            documents = table.column("documents").combine_chunks()
            sources = pc.struct_field(pc.list_flatten(documents), "source")
            if len(self._seen) < MAX_SOURCES:
                self._seen.update(str(name) for name in pc.unique(sources).to_pylist())
            holders = np.asarray(pc.list_parent_indices(documents).to_numpy())
            of_source = np.asarray(
                pc.equal(sources, self.source).fill_null(fill_value=False).to_numpy(zero_copy_only=False)
            )
            mask = np.zeros(table.num_rows, dtype=bool)
            mask[holders[of_source]] = True
            table = table.filter(pa.array(mask))
        return table
