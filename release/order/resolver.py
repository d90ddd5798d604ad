"""What a resolver answers: which stored rows a batch holds, and in which batches a stored row was seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from open360.release.order.file_rows import FileRows, RowSpan, joined
from open360.release.order.positions import Positions
from open360.release.order.row_orders import BLOCK_ENTRIES, RowOrder
from open360.release.order.sample_maps import SampleMaps
from open360.schema.errors import Open360Error
from open360.schema.run import Run, StepSpan
from open360.schema.schedule import Segment

Layout = Literal["files", "stream", "samples"]


class UnresolvableOrderError(Open360Error):
    """Nobody can say which rows a batch holds, or not from what is known here; `reason` tells why."""

    def __init__(self, run: str, reason: str, remedy: str = "") -> None:
        self.run, self.reason = run, reason
        super().__init__(f"the order of run '{run}' cannot be resolved: {reason}; {remedy or 'see open360 catalogue'}")


class StepOutsideRunError(Open360Error):
    """Batches are asked for that the run does not have."""

    def __init__(self, run: str, first_step: int, end_step: int, steps: int | None) -> None:
        self.run, self.first_step, self.end_step, self.steps = run, first_step, end_step, steps
        asked = f"batch {first_step}" if end_step == first_step + 1 else f"batches {first_step} to {end_step - 1}"
        known = f"0 to {steps - 1}" if steps else "none" if steps == 0 else "0 or later, in increasing order"
        super().__init__(f"run '{run}' has no {asked} (expected: {known}); see 'open360 show'")


class Batch(NamedTuple):
    """The rows of a batch in the order of training. `skipped` is set where they were not learned from."""

    step: int
    rows: list[RowSpan]
    skipped: StepSpan | None


@dataclass(frozen=True, kw_only=True)
class ChunkPart:
    """Steps `[first_step, end_step)` train on chunk `number`, which is `file`; `rows_used` of its rows in all."""

    number: int
    file: str
    first_step: int
    end_step: int
    rows_used: int


class Resolver(ABC):
    """Rows of the batches of a run.

    Attributes:
        exact: whether rows of a batch can be named; else `reason` says why not, and `chunk` may still answer.
        layout: what a row span counts: rows of a `file`; rows of all files together, which are one `stream` (a row may
            begin in one and end in the next); or `samples` of index maps, whose ids `maps` finds in documents.
    """

    exact: bool = True
    reason: str | None = None
    layout: Layout = "files"
    maps: SampleMaps | None = None

    def __init__(self, run: Run) -> None:
        self.run = run
        self.steps = run.steps

    @abstractmethod
    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """Each batch of `[first_step, end_step)`, one after the other, however many there are.

        Raises UnresolvableOrderError, StepOutsideRunError, OrderError (the data and the order contradict each other).
        """

    @abstractmethod
    def rows(self, first_step: int, end_step: int) -> list[RowSpan]:
        """Rows of batches `[first_step, end_step)` in the order of training, neighbours in a file joined.

        As long as the answer: at worst one span for each row. Raises as `batches` does.
        """

    @abstractmethod
    def steps_of(self, file: str, row: int) -> list[int]:
        """Every batch that holds a stored row, in increasing order; none when the row was dropped.

        Raises UnresolvableOrderError, OrderError (no such row).
        """

    def chunks(self, first_step: int, end_step: int) -> list[ChunkPart]:  # noqa: ARG002
        """The chunks that these steps train on. Raises UnresolvableOrderError where the order is not by chunks."""
        raise UnresolvableOrderError(self.run.name, f"it is of kind '{self.run.order.kind}', not by chunks")

    def chunk(self, segment: Segment) -> ChunkPart:
        """The one chunk of a segment. Raises UnresolvableOrderError when there are several."""
        found = self.chunks(segment.first_step, segment.end_step)
        if len(found) != 1:
            several = f"segment '{segment.name}' trains on {len(found)} chunks"
            raise UnresolvableOrderError(self.run.name, several, "ask for its steps instead")
        return found[0]

    def skipped(self, step: int) -> StepSpan | None:
        """The declared span of steps, not learned from, that a batch belongs to."""
        return next((span for span in self.run.skipped if span.first <= step <= span.last), None)

    def check(self, first_step: int, end_step: int) -> None:
        """Raises StepOutsideRunError unless the run has these batches."""
        if first_step < 0 or end_step < first_step or (self.steps is not None and end_step > self.steps):
            raise StepOutsideRunError(self.run.name, first_step, end_step, self.steps)


class UnknownResolver(Resolver):
    """Knows why nobody can say."""

    exact = False

    def __init__(self, run: Run, reason: str) -> None:
        super().__init__(run)
        self.reason: str = reason

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:  # noqa: ARG002
        """Raises UnresolvableOrderError."""
        raise UnresolvableOrderError(self.run.name, self.reason)

    def rows(self, first_step: int, end_step: int) -> list[RowSpan]:  # noqa: ARG002
        """Raises UnresolvableOrderError."""
        raise UnresolvableOrderError(self.run.name, self.reason)

    def steps_of(self, file: str, row: int) -> list[int]:  # noqa: ARG002
        """Raises UnresolvableOrderError."""
        raise UnresolvableOrderError(self.run.name, self.reason)


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Steps `[first, end)` of a run follow one order; where it is None, `reason` says why it is not known."""

    first: int
    end: int | None
    order: RowOrder | None
    reason: str | None = None


class RowResolver(Resolver):
    """Rows by an order over numbered rows of files.

    `legs` follow one another from step 0 on: a restart with another seed begins a new one, at the row where the step
    that was restored had come to.
    """

    def __init__(
        self,
        run: Run,
        *,
        positions: Positions,
        legs: Sequence[Leg],
        files: FileRows,
        layout: Layout = "files",
        maps: SampleMaps | None = None,
    ) -> None:
        super().__init__(run)
        self.layout, self.maps = layout, maps
        self._positions, self._legs, self._files = positions, legs, files

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """One read of the order for each batch."""
        self.check(first_step, end_step)
        return (Batch(step, self.rows(step, step + 1), self.skipped(step)) for step in range(first_step, end_step))

    def rows(self, first_step: int, end_step: int) -> list[RowSpan]:
        """The order is read in blocks of `BLOCK_ENTRIES`."""
        self.check(first_step, end_step)
        return joined(self._spans(first_step, end_step))

    def _spans(self, first_step: int, end_step: int) -> Iterator[RowSpan]:
        for leg in self._legs:
            begin = max(first_step, leg.first)
            end = end_step if leg.end is None else min(end_step, leg.end)
            if begin >= end:
                continue
            order = self._order(leg)
            for place in self._positions.between(begin, end):
                for at in range(place.begin, place.end, BLOCK_ENTRIES):
                    stop = min(at + BLOCK_ENTRIES, place.end)
                    yield from self._files.spans(order.numbers(place.epoch, at, stop))

    def _order(self, leg: Leg) -> RowOrder:
        if leg.order is None:
            raise UnresolvableOrderError(self.run.name, f"from step {leg.first} on, {leg.reason}")
        return leg.order

    def steps_of(self, file: str, row: int) -> list[int]:
        """Looks through the order of every epoch where rows are shuffled."""
        numbers = self._files.numbers(file, row)
        epochs = self._positions.epochs
        if epochs is None:
            reason = "how many steps it has, and so how many epochs, is not declared"
            raise UnresolvableOrderError(self.run.name, reason, "add 'steps' to the run")
        found: set[int] = set()
        for leg in self._legs:
            if leg.end is not None and leg.end <= leg.first:
                continue
            order = self._order(leg)
            last = epochs if leg.end is None else min(epochs, self._positions.of(leg.end - 1).epoch + 1)
            for epoch in range(self._positions.of(leg.first).epoch, last):
                steps = (self._positions.step_of(epoch, place) for place in order.places(epoch, numbers))
                found.update(s for s in steps if s is not None and s >= leg.first and (leg.end is None or s < leg.end))
        return sorted(found)


class ChunkResolver(RowResolver):
    """Chunk after chunk of a file set; rows too where the order inside a chunk is known.

    `sequence` holds `(number, file)` of the chunks in the order of training.
    """

    def __init__(
        self,
        run: Run,
        *,
        positions: Positions,
        order: RowOrder,
        files: FileRows,
        sequence: Sequence[tuple[int, str]],
        rows_used: int,
        reason: str | None,
    ) -> None:
        super().__init__(run, positions=positions, legs=[Leg(first=0, end=None, order=order)], files=files)
        self.exact, self.reason = reason is None, reason
        self._sequence, self._used = sequence, rows_used

    def _order(self, leg: Leg) -> RowOrder:
        if self.reason is not None:
            inside = f"inside a chunk, {self.reason}"
            raise UnresolvableOrderError(self.run.name, inside, "ask for whole chunks instead")
        return super()._order(leg)

    def chunks(self, first_step: int, end_step: int) -> list[ChunkPart]:
        """In the order of training; a batch may take rows of two chunks, and then counts for both."""
        self.check(first_step, end_step)
        if first_step == end_step:
            return []
        begin, last = self._positions.of(first_step).begin, self._positions.of(end_step - 1).end - 1
        return [self._part(index, first_step, end_step) for index in range(begin // self._used, last // self._used + 1)]

    def _part(self, index: int, first_step: int, end_step: int) -> ChunkPart:
        if index >= len(self._sequence):
            used = len(self._sequence)
            raise UnresolvableOrderError(self.run.name, f"only {used} chunks are declared, chunk {index + 1} is needed")
        first = self._positions.step_of(0, index * self._used)
        last = self._positions.step_of(0, (index + 1) * self._used - 1)
        number, file = self._sequence[index]
        return ChunkPart(
            number=number,
            file=file,
            first_step=max(first_step, first if first is not None else first_step),
            end_step=min(end_step, last + 1 if last is not None else end_step),
            rows_used=self._used,
        )

    def steps_of_chunk(self, file: str) -> list[tuple[int, int]]:
        """Ranges of steps `[first, end)` that train on a chunk; several when it is trained on again."""
        found = []
        for index, (_, name) in enumerate(self._sequence):
            first = self._positions.step_of(0, index * self._used)
            if name == file and first is not None:
                last = self._positions.step_of(0, (index + 1) * self._used - 1)
                found.append((first, last + 1 if last is not None else (self.steps or first + 1)))
        return found
