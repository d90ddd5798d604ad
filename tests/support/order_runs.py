"""Runs and corpora as short as they can be, and what tests of orders have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from open360.release.order.file_rows import RowSpan
from open360.schema.corpus import Corpus, FileSet, RowFormat
from open360.schema.model import StepFunction
from open360.schema.order import Order
from open360.schema.run import Restart, Run, StepSpan


def run_of(
    order: Order,
    batch: int | list[tuple[int, int]],
    steps: int | None,
    *,
    restarts: tuple[Restart, ...] = (),
    skipped: tuple[StepSpan, ...] = (),
    seed: int | None = None,
) -> Run:
    pieces = ((0, batch),) if isinstance(batch, int) else tuple(batch)
    return Run(
        name="run", objective="pretrain", corpus="mix", batch=StepFunction[int](pieces), steps=steps, order=order,
        restarts=restarts, skipped=skipped, seed=seed,
    )  # fmt: skip


def corpus_of(
    row_len: int, form: str = "npy", dtype: str = "uint16", files: FileSet | None = None, **row: Any
) -> Corpus:
    layout = RowFormat.model_validate({"row_len": row_len, "seq_len": row_len, "dtype": dtype, "format": form, **row})
    return Corpus(name="mix", row=layout, files=files)


def rows_in(spans: Iterable[RowSpan]) -> list[tuple[str, int]]:
    """The rows of some spans, one by one."""
    return [(span.file, row) for span in spans for row in range(span.first_row, span.end_row)]


def shuffled_by_hand(rows: int, group: int, seed: int) -> list[int]:
    order = np.arange(rows // group, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return [int(g) * group + i for g in order for i in range(group)]


class FarArray:
    """An index array of which parts are read, as from a server; it counts what was asked."""

    def __init__(self, array: Any) -> None:
        self.array, self.asked = array, 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> Any:
        part = self.array[key]
        self.asked += len(part)
        return part
