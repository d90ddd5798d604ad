"""What a pull will read, file by file: ranges and bytes, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from open360.release.order.spans import Span
from open360.release.provenance import PlannedRead

LISTED_READS = 10_000


@dataclass(frozen=True, kw_only=True)
class FileReads:
    """What is read of a file: how many ranges, and their bytes; `begin` and `end` enclose them all."""

    path: str
    ranges: int
    bytes: int
    begin: int
    end: int


@dataclass(kw_only=True)
class ReadPlan:
    """What is read of all files. Of very many ranges only their sum is kept (`reads` is None then)."""

    files: dict[str, FileReads] = field(default_factory=dict)
    reads: list[PlannedRead] | None = field(default_factory=list)
    estimated: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(file.bytes for file in self.files.values())

    def add(self, span: Span, *, estimated: bool) -> None:
        """Count a range; one that goes on where the last one of its file ends, or begins where it began, joins it."""
        self.estimated |= estimated
        known = self.files.get(span.path)
        if known is None:
            size = span.end - span.begin
            self.files[span.path] = FileReads(path=span.path, ranges=1, bytes=size, begin=span.begin, end=span.end)
            self._listed(span, joined=False)
            return
        joined = known.end == span.begin or (estimated and span.begin == known.begin)
        new = max(span.end - known.end, 0) if estimated and joined else span.end - span.begin
        self.files[span.path] = FileReads(
            path=span.path,
            ranges=known.ranges + (not joined),
            bytes=known.bytes + new,
            begin=min(known.begin, span.begin),
            end=max(known.end, span.end),
        )
        self._listed(span, joined=joined)

    def _listed(self, span: Span, *, joined: bool) -> None:
        if self.reads is None:
            return
        last = self.reads[-1] if self.reads else None
        if joined and last is not None and last.path == span.path:
            self.reads[-1] = PlannedRead(path=span.path, begin=last.begin, end=max(last.end, span.end))
        elif len(self.reads) < LISTED_READS:
            self.reads.append(PlannedRead(path=span.path, begin=span.begin, end=span.end))
        else:
            self.reads = None
