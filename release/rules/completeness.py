"""What a fully open release declares: the checklist of LLM360 (Liu et al., arXiv 2312.06550), as one rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from open360.release.findings import Finding
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, Source, Tokenizer
from open360.schema.run import Run


class Gap(NamedTuple):
    """Something that the spec does not say: where it belongs, of what, what is missing, and what to write."""

    pointer: str
    subject: str
    missing: str
    fix: str


class SpecIncomplete(Rule):
    """The spec leaves out what a fully open release declares.

    ## What it does
    Looks for authors, date, code, corpora with pinned sources, tokenizer and row format, runs with architecture,
    optimizer, schedule, batch, steps, seed, precision and series, and evaluations. (Licences and orders have rules of
    their own.)

    ## Why is this bad?
    Each of these is asked for by LLM360's definition of a fully open release, and nobody outside can fill it in later:
    without the seed or the pin of a source nothing can be rebuilt.

    ## Example
    A source `{name: wiki, http: https://example.org/wiki.zip}` without a sha256.

    ## Remedy
    Write down what is named in the finding. What is truly lost is a waiver, with the reason.

    ## Seen in practice
    CrystalCoder's training code has no commit, K2's upstream data no revisions, and one of its transformations was
    seeded by the clock: none of these can be run again.
    """

    code = "SPC002"
    name = "spec-incomplete"
    requires = frozenset({SPEC_READ})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each thing that is left out."""
        seen: set[tuple[str, str]] = set()
        for gap in _gaps(release):
            if (gap.pointer, gap.missing) in seen:
                continue  # told of another variant of the same run
            seen.add((gap.pointer, gap.missing))
            message = f"{gap.missing} is not declared"
            yield self.finding(release.place(gap.pointer), gap.subject, message, gap.fix)


def _gaps(release: ReleaseView) -> Iterator[Gap]:
    spec = release.spec
    parts = [
        ("authors", spec.authors, "who made the release", "add 'authors: [{name: …}]'"),
        ("date", spec.date, "the date of the release", "add 'date: YYYY-MM-DD'"),
        ("code", spec.code, "the code that made the release", "add 'code: [{repository: …, commit: …, entry: …}]'"),
        ("corpora", spec.corpora, "the training data", "add 'corpora'"),
        ("runs", spec.runs, "the training", "add 'runs'"),
        ("evaluations", spec.evaluations, "any evaluation", "add 'evaluations: [{task: …, metrics: […]}]'"),
    ]
    for key, value, missing, fix in parts:
        if not value:
            yield Gap(f"/{key}", spec.name, missing, fix)
    for index, code in enumerate(spec.code):
        if code.entry is None:
            yield Gap(f"/code/{index}/entry", code.purpose or spec.name, "the command that starts it", "add 'entry'")
    for index, corpus in enumerate(spec.corpora):
        yield from _gaps_of_corpus(f"/corpora/{index}", corpus)
    for run in spec.all_runs():
        yield from _gaps_of_run(release.run_pointer(run.name), run, spec.corpus_of(run))


def _gaps_of_corpus(at: str, corpus: Corpus) -> Iterator[Gap]:
    if not corpus.sources:
        yield Gap(f"{at}/sources", corpus.name, "where its documents come from", "add 'sources'")
    for index, source in enumerate(corpus.sources):
        missing = _missing_pin(source)
        if missing is not None:
            yield Gap(f"{at}/sources/{index}", source.name, missing[0], missing[1])
    if corpus.tokenizer is None:
        yield Gap(f"{at}/tokenizer", corpus.name, "its tokenizer", "add 'tokenizer'")
    elif not _is_pinned(corpus.tokenizer):
        fix = "add 'revision' (a commit of the repository) or 'files' with their sha256"
        yield Gap(f"{at}/tokenizer", corpus.name, "which version of its tokenizer", fix)
    if corpus.row is None:
        yield Gap(f"{at}/row", corpus.name, "how a training sequence is stored", "add 'row: {row_len: …, seq_len: …}'")


def _missing_pin(source: Source) -> tuple[str, str] | None:
    """What is missing to fetch the very same bytes again."""
    if source.kind is None:
        return "where it comes from", "add 'pypi', 'http', 'hub' or 'local', with its pin"
    if source.hub is not None and source.hub.revision is None:
        return "which commit of the data set", "add 'revision' to 'hub', a commit of 40 digits"
    if source.kind in ("pypi", "http") and source.sha256 is None:
        return "the sha256 of the downloaded file", "add 'sha256'"
    return None


def _is_pinned(tokenizer: Tokenizer) -> bool:
    if tokenizer.hub is not None:
        return tokenizer.revision is not None or bool(tokenizer.files)
    return tokenizer.train is not None or tokenizer.path is not None or bool(tokenizer.files)


def _gaps_of_run(at: str, run: Run, corpus: Corpus | None) -> Iterator[Gap]:
    parts = [
        ("corpus", run.corpus is not None, "the corpus that it was trained on"),
        ("architecture", bool(run.architecture), "its architecture"),
        ("optimizer", run.optimizer is not None, "its optimizer"),
        ("schedule", run.schedule is not None, "its learning rate"),
        ("batch", run.batch is not None, "its batch"),
        ("steps", run.steps is not None, "the number of its steps"),
        ("seed", run.seed is not None, "its seed"),
        ("precision", run.precision is not None, "its precision"),
        ("series", run.series is not None, "the series of its checkpoints"),
    ]
    for key, there, missing in parts:
        if not there:
            yield Gap(f"{at}/{key}", run.name, missing, f"add '{key}'")
    if run.seq_len is None and corpus is not None and corpus.row is None:
        yield Gap(f"{at}/seq_len", run.name, "its sequence length", "add 'row' to its corpus, or 'seq_len'")
