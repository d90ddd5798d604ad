"""Runs and corpora as short as they can be, for tests of orders."""

from __future__ import annotations

from typing import Any

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
