"""How closely the data of a run can be pulled, by what its spec says: to the batch, to the chunk, or not; and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from open360.schema.corpus import Corpus, FileSet
from open360.schema.order import ChunkOrder, FunctionOrder, MaterializedOrder, PermutationFileOrder, UnknownOrder
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, checkpoints
from open360.schema.spec import ReleaseSpec

Level = Literal["batch", "chunk", "no"]
LEVELS: tuple[Level, ...] = ("batch", "chunk", "no")
REPORTED_LOST = re.compile(r"\b(lost|deleted|dead|gone|corrupted)\b")


@dataclass(frozen=True, kw_only=True, order=True)
class Ability:
    """Down to what the data of a checkpoint can be pulled, and the reason in one sentence."""

    level: Level
    reason: str


@dataclass(frozen=True, kw_only=True)
class EntrySummary:
    """What an entry of the catalogue holds: `abilities` by run, `checkpoints` declared for all runs together."""

    name: str
    checkpoints: int
    data: tuple[str, ...]
    abilities: dict[str, Ability]

    @property
    def best(self) -> Ability:
        """The closest ability of any run; of several runs, the most frequent reason."""
        for level in LEVELS:
            found = Counter(ability for ability in self.abilities.values() if ability.level == level)
            if found:
                return found.most_common(1)[0][0]
        return Ability(level="no", reason="no run is declared")

    def runs_with(self, level: Level) -> int:
        """How many runs can be pulled so closely."""
        return sum(ability.level == level for ability in self.abilities.values())


def summary_of(spec: ReleaseSpec) -> EntrySummary:
    """A spec in short."""
    return EntrySummary(
        name=spec.name,
        checkpoints=sum(_declared(run, spec.corpus_of(run)) for run in spec.all_runs()),
        data=tuple(dict.fromkeys(place for corpus in spec.corpora if (place := _place(corpus)) is not None)),
        abilities={run.name: ability_of(run, spec.corpus_of(run)) for run in spec.all_runs()},
    )


def ability_of(run: Run, corpus: Corpus | None) -> Ability:
    """How closely the data that a checkpoint of `run` saw can be pulled."""
    order = run.order
    if isinstance(order, UnknownOrder):
        return _no(order.reason)
    if isinstance(order, FunctionOrder) and not order.resolvable:
        return _no("the order follows from files, or sizes of files, that are not public")
    if corpus is None:
        return _no("no corpus is declared")
    if _place(corpus) is None:
        return _no(f"the tokenised files of '{corpus.name}' are not published")
    if isinstance(order, ChunkOrder):
        return _in_chunks(order)
    if run.batch is None or corpus.row is None:
        return _no("batch or length of rows is not stated")
    if isinstance(order, MaterializedOrder):
        return _in_stream(corpus.files)
    if corpus.files is None or (corpus.files.listed is None and corpus.files.count is None):
        return _no("the list of the files that the order is over is not stated")
    if isinstance(order, PermutationFileOrder):
        return _by_file(order)
    if order.seed is None and run.seed is None:
        return _no("the seed of the order is not stated")
    return Ability(level="batch", reason="the order follows from a seed and a public list of files")


def _no(reason: str) -> Ability:
    return Ability(level="no", reason=reason)


def _in_chunks(order: ChunkOrder) -> Ability:
    if isinstance(order.within, UnknownOrder):
        return Ability(level="chunk", reason=f"inside a chunk, {order.within.reason}")
    return Ability(level="batch", reason="chunks are trained one after the other, each in the order of its file")


def _in_stream(files: FileSet | None) -> Ability:
    if files is None or files.pattern is None or files.count is None:
        return _no("the stored stream is the order, but how many files it has is not stated")
    if files.bytes is None and files.rows is None:
        return _no("the stored stream is the order, but the sizes of its files are not stated")
    return Ability(level="batch", reason="the stored stream is the order: a batch is a range of bytes")


def _by_file(order: PermutationFileOrder) -> Ability:
    for told in (order.evidence, order.description):
        if told is not None and REPORTED_LOST.search(told):
            return _no(told)
    if order.url is None and (order.repo is None or order.path is None):
        return _no("where the index file is, is not stated")
    return Ability(level="batch", reason="a stored permutation gives the place of every row")


def _declared(run: Run, corpus: Corpus | None) -> int:
    try:
        plans = len(checkpoints(run, corpus))
    except ScheduleError:
        plans = 0
    return plans + (len(run.series.unplaced) if run.series is not None else 0)


def _place(corpus: Corpus) -> str | None:
    """Where the tokenised files of a corpus are: a repository or an address; None when nowhere."""
    if corpus.repository is not None and (corpus.repository.dataset or corpus.repository.url) is not None:
        return corpus.repository.dataset or corpus.repository.url
    listed = corpus.files.listed if corpus.files is not None else None
    return "files at addresses of a list" if listed is not None else None
