"""Which rows of an order a batch takes: arithmetic of batch sizes that change, and of epochs.

The rows of an epoch are numbered from 0 in the order of training. A batch never holds rows of two epochs: what is left
at the end of an epoch and fills no batch is dropped (OLMo's loaders, old and new). Orders without epochs have no end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from open360.release.order.spans import OrderError
from open360.schema.model import StepFunction


class Place(NamedTuple):
    """Rows `[begin, end)` in the order of an epoch; epoch 0 is the run's first."""

    epoch: int
    begin: int
    end: int


class _Stretch(NamedTuple):
    """Steps `[first, end)` with one batch size. Its first step takes rows from `begin` of `epoch` on.

    `fit` batches fit into what is left of that epoch, `whole` into each one after it; both None without epochs.
    """

    first: int
    end: int | None
    batch: int
    epoch: int
    begin: int
    fit: int | None
    whole: int

    def place(self, step: int) -> Place:
        at = step - self.first
        epoch, begin = self.epoch, self.begin + at * self.batch
        if self.fit is not None and at >= self.fit:
            later, at = divmod(at - self.fit, self.whole)
            epoch, begin = self.epoch + 1 + later, at * self.batch
        return Place(epoch, begin, begin + self.batch)

    def step(self, epoch: int, position: int) -> int | None:
        if epoch == self.epoch and position >= self.begin:
            at = (position - self.begin) // self.batch
            inside = self.fit is None or at < self.fit
        elif epoch > self.epoch and self.fit is not None:
            at = position // self.batch
            inside = at < self.whole
            at += self.fit + (epoch - self.epoch - 1) * self.whole
        else:
            return None
        step = self.first + at
        return step if inside and (self.end is None or step < self.end) else None


class Positions:
    """Rows of every batch, and the batch of every row. Time and memory follow the changes of the batch size alone.

    Args:
        steps: batches of the run, None when nobody has said.
        first: row that batch 0 starts at.
        epoch_rows: rows of an epoch, None where the order goes on for ever.
    Raises:
        OrderError: a batch is larger than an epoch.
    """

    def __init__(
        self, batch: StepFunction[int], *, steps: int | None = None, first: int = 0, epoch_rows: int | None = None
    ) -> None:
        self.steps, self.epoch_rows = steps, epoch_rows
        self._stretches: list[_Stretch] = []
        starts = [start for start, _ in batch.root if steps is None or start < steps]
        epoch, begin = 0, first
        for start, end in zip(starts, [*starts[1:], steps], strict=True):
            stretch = self._stretch(start, end, batch.at(start), epoch, begin)
            self._stretches.append(stretch)
            if end is not None and end > start:
                epoch, _, begin = stretch.place(end - 1)
        self._firsts = [stretch.first for stretch in self._stretches]

    def _stretch(self, start: int, end: int | None, size: int, epoch: int, begin: int) -> _Stretch:
        if self.epoch_rows is None:
            return _Stretch(start, end, size, epoch, begin, None, 0)
        fit, whole = max(self.epoch_rows - begin, 0) // size, self.epoch_rows // size
        if not whole and (end is None or end - start > fit):
            raise OrderError(
                f"a batch of {size} rows from step {start} on", f"an epoch has only {self.epoch_rows} rows"
            )
        return _Stretch(start, end, size, epoch, begin, fit, whole)

    def of(self, step: int) -> Place:
        """The rows of batch `step`."""
        return self._stretches[bisect_right(self._firsts, step) - 1].place(step)

    def between(self, first_step: int, end_step: int) -> Iterator[Place]:
        """The rows of batches `[first_step, end_step)` in order; neighbouring rows of an epoch are one place."""
        step = first_step
        while step < end_step:
            stretch = self._stretches[bisect_right(self._firsts, step) - 1]
            stop = end_step if stretch.end is None else min(end_step, stretch.end)
            place = stretch.place(step)
            if stretch.fit is not None:  # the last batch of this epoch
                left = stretch.fit - (step - stretch.first)
                stop = min(stop, step + (left if left > 0 else stretch.whole - place.begin // stretch.batch))
            yield Place(place.epoch, place.begin, place.begin + (stop - step) * stretch.batch)
            step = stop

    def step_of(self, epoch: int, position: int) -> int | None:
        """The batch that takes a row of an epoch; None when it is dropped, or not reached."""
        found = (stretch.step(epoch, position) for stretch in self._stretches)
        return next((step for step in found if step is not None), None)

    @property
    def epochs(self) -> int | None:
        """Epochs that the run begins; None when the number of its steps is not known."""
        if self.steps is None:
            return 1 if self.epoch_rows is None else None
        return self.of(self.steps - 1).epoch + 1 if self.steps else 0
