"""Rules about the ids in rows: those that have to be there are, those that no model knows are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from open360.release.corpus.id_tally import IdTally
from open360.release.evidence.data_scan import scans
from open360.release.evidence.data_scan import special_ids as declared_special_ids
from open360.release.evidence.foreign_data import declared_files, files_of
from open360.release.evidence.once import once
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import CannotCheckError
from open360.release.rules.data import looks, special_ids, vocabulary_of
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus

ENOUGH_IDS = 1 << 16  # documents are shorter than this: what stands between them has then been passed


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What was read of a corpus' ids, and those that have to occur, by what they are called."""

    corpus: Corpus
    index: int
    wanted: dict[str, int]
    tally: IdTally
    whole: bool

    @property
    def says_something(self) -> bool:
        """Whether an id that was not seen is not there."""
        return bool(self.wanted) and self.tally.ids > 0 and (self.whole or self.tally.ids >= ENOUGH_IDS)


@once
def _read(release: ReleaseView) -> list[_Read]:
    """Every corpus of which rows were read. Raises CannotCheckError when there are no rows that could be."""
    indices = {corpus.name: index for index, corpus in enumerate(release.spec.corpora)}
    if release.foreign is not None:
        return [
            _Read(
                corpus=scan.corpus,
                index=indices[scan.corpus.name],
                wanted=declared_special_ids(scan.corpus),
                tally=scan.tally,
                whole=scan.whole,
            )
            for scan in scans(release)
        ]
    _require_manifest(release)
    found = []
    for corpus in release.spec.corpora:
        mine = [look for look in looks(release) if look.run.corpus == corpus.name]
        wanted = special_ids(release, corpus)
        tally = IdTally(wanted.values())
        for look in mine:
            tally.take_over(look.tally)
        built = _chunks_of(release, corpus)
        found.append(
            _Read(
                corpus=corpus,
                index=indices[corpus.name],
                wanted=wanted,
                tally=tally,
                whole=bool(mine) and len(mine) == built,
            )
        )
    return found


def _chunks_of(release: ReleaseView, corpus: Corpus) -> int:
    return sum(len(record.chunks) for run, record in release.built_runs() if run.corpus == corpus.name)


def _require_manifest(release: ReleaseView) -> None:
    if release.readable_manifest is None:
        raise CannotCheckError("there is no manifest that says which chunks there are")


class SpecialIdNeverSeen(Rule):
    """An id that stands between documents is declared, and occurs nowhere in the data.

    ## What it does
    Reads rows (all of our own chunks and of small files; of large ones a bounded part, spread over each file) and
    counts the declared separator, else the declared end of text. It speaks only when all rows were read, or more ids
    than any document is long.

    ## Why is this bad?
    Documents run into one another: borders cannot be found again, and the model never saw the token that everybody
    believes it was trained on.

    ## Example
    `special_ids: {separator: 0}`, and the lowest id in a million rows is 2.

    ## Remedy
    Publish the data that was trained on, or declare that documents are not separated.

    ## Seen in practice
    The preshuffled, deduplicated Pile that Pythia was trained on holds no end-of-document token at all, though its
    documentation says that documents are separated by it; a user found out.
    """

    code = "DAT007"
    name = "special-id-never-seen"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ})
    part = Part.CORPUS

    def claims(self, release: ReleaseView) -> int:
        """Corpora with published rows in which an id has to occur."""
        if release.foreign is None:
            return sum(bool(read.wanted) for read in _read(release) if _chunks_of(release, read.corpus))
        with_rows = (corpus for _, corpus, _ in declared_files(release) if corpus.row is not None)
        return len({corpus.name for corpus in with_rows if declared_special_ids(corpus)})

    def unseen(self, release: ReleaseView) -> int:
        """Those of them of which not enough was read."""
        return self.claims(release) - sum(read.says_something for read in _read(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each corpus and id."""
        for read in _read(release):
            for what, special in read.wanted.items():
                if read.says_something and not read.tally.seen[special]:
                    many = "all" if read.whole else "the"
                    message = f"id {special} ({what}) occurs in none of {many} {read.tally.ids} ids that were looked at"
                    place = release.place(f"/corpora/{read.index}/tokenizer/special_ids")
                    fix = "publish the rows that were trained on, or declare no such id"
                    yield self.finding(place, read.corpus.name, message, fix)


class IdBeyondVocabulary(Rule):
    """The data holds ids that the model does not know.

    ## What it does
    Compares the highest id of the rows that are read with the size of the model's vocabulary (of the tokenizer's, where
    no architecture is declared).

    ## Why is this bad?
    Such a row cannot have been trained on: it stops the trainer, or reads memory of something else. So it is the data
    of another tokenizer, or damaged.

    ## Example
    Id 50,400 in rows for a vocabulary of 50,304.

    ## Remedy
    Tokenise again with the tokenizer that is declared, or declare the one that was used.

    ## Seen in practice
    Users "don't end up with the right tokenizer for reasons we have been unable to debug", says Pythia's own README; a
    tokenizer that does not belong to the weights gave gibberish in a port of nanochat.
    """

    code = "DAT009"
    name = "id-beyond-vocabulary"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Files of rows for a model whose vocabulary is known."""
        if release.foreign is None:
            known = (record for run, record in release.built_runs() if vocabulary_of(release, run) is not None)
            return sum(len(record.chunks) for record in known)
        corpora = (corpus for _, corpus, _ in declared_files(release) if corpus.row is not None)
        found = [files_of(release, corpus) for corpus in corpora if _vocabulary_of(release, corpus) is not None]
        return sum(len({file.name for file in files.files}) for files in found if files is not None)

    def unseen(self, release: ReleaseView) -> int:
        """Those of them of which no id was read: outside the sample, not intact, or out of reach."""
        if release.foreign is None:
            return self.claims(release) - sum(vocabulary_of(release, look.run) is not None for look in looks(release))
        known = (scan for scan in scans(release) if _vocabulary_of(release, scan.corpus) is not None)
        return self.claims(release) - sum(file.tally.ids > 0 for scan in known for file in scan.scans)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        fix = "tokenise again with the declared tokenizer, or declare the one that was used"
        if release.foreign is None:
            _require_manifest(release)
            for look in looks(release):
                problems = [problem for problem in look.problems if problem.code == "ids"]
                for problem in problems[:1]:
                    yield self.finding(look.chunk.file.path, look.chunk.name, str(problem), fix)
        for scan in scans(release):
            limit = _vocabulary_of(release, scan.corpus)
            for file in scan.scans:
                if limit is not None and file.tally.highest >= limit:
                    message = f"'{file.file.name}' holds id {file.tally.highest}, the vocabulary has {limit}"
                    yield self.finding(file.file.path or file.file.url or "", file.file.name, message, fix)


def _vocabulary_of(release: ReleaseView, corpus: Corpus) -> int | None:
    """The smallest vocabulary of the models that were trained on a corpus."""
    sizes = [vocabulary_of(release, run) for run in release.spec.all_runs() if run.corpus == corpus.name]
    known = [size for size in sizes if size is not None]
    if not known and corpus.tokenizer is not None:
        return corpus.tokenizer.vocabulary
    return min(known, default=None)
