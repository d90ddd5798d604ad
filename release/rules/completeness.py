"""What a fully open release declares: the checklist of LLM360 (Liu et al., arXiv 2312.06550), as one rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from open360.release.findings import Finding, Part
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, Source, Tokenizer
from open360.schema.run import Run
from open360.schema.series import Series
from open360.schema.spec import Evaluation


class Gap(NamedTuple):
    """Something that the spec does not say: where it belongs, of what, what is missing, and what to write."""

    pointer: str
    subject: str
    missing: str
    fix: str


class SpecIncomplete(Rule):
    """The spec leaves out what a fully open release declares.

    ## What it does
    Looks for authors, date, code, corpora with pinned sources, tokenizer, row format, seed and held-out part, runs with
    architecture, optimizer, schedule, batch, steps, seed, precision, devices, parent and series (format, dtype,
    optimizer states, where they are published), and evaluations. Licences, orders, commits, logs and harnesses have
    rules of their own. Of a release that open360 did not build it also asks for what our own build measures or fixes:
    tokens and epochs of sources, how tokens are counted, processing, files and their sizes, settings of the optimizer,
    the trainer's configuration, restarts and skipped steps, code needed for loading, what `main` is, units and shots.
    `[]` and `false` are statements. A guessed spec is not judged.

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
    part = Part.STATEMENT
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Things that a spec describes: the release, code, corpora, sources, runs, evaluations."""
        spec = release.spec
        parts = len(spec.code) + len(spec.corpora) + len(spec.all_runs()) + len(spec.evaluations)
        return 1 + parts + sum(len(corpus.sources) for corpus in spec.corpora)

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
    spec, foreign = release.spec, release.foreign is not None
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
        whose = code.purpose or spec.name
        if code.entry is None:
            yield Gap(f"/code/{index}/entry", whose, "the command that starts it", "add 'entry'")
        if foreign and code.repository is None:
            yield Gap(f"/code/{index}/repository", whose, "where the code is", "add 'repository'")
    for index, corpus in enumerate(spec.corpora):
        yield from _gaps_of_corpus(f"/corpora/{index}", corpus)
        if foreign:
            yield from _gaps_of_foreign_corpus(f"/corpora/{index}", corpus)
    for run in spec.all_runs():
        at = release.run_pointer(run.name)
        yield from _gaps_of_run(at, run, spec.corpus_of(run))
        if foreign:
            yield from _gaps_of_foreign_run(at, run)
    yield from _gaps_of_main(release) if foreign else ()
    for index, evaluation in enumerate(spec.evaluations):
        yield from _gaps_of_evaluation(f"/evaluations/{index}", evaluation) if foreign else ()


def _gaps_of_corpus(at: str, corpus: Corpus) -> Iterator[Gap]:
    if not corpus.sources:
        yield Gap(f"{at}/sources", corpus.name, "where its documents come from", "add 'sources'")
    for index, source in enumerate(corpus.sources):
        missing = _missing_pin(source)
        if missing is not None:
            yield Gap(f"{at}/sources/{index}", source.name, missing[0], missing[1])
    if corpus.tokenizer is None:
        yield Gap(f"{at}/tokenizer", corpus.name, "its tokenizer", "add 'tokenizer'")
    else:
        if not _is_pinned(corpus.tokenizer):
            fix = "add 'revision' (a commit of the repository) or 'files' with their sha256"
            yield Gap(f"{at}/tokenizer", corpus.name, "which version of its tokenizer", fix)
        if corpus.tokenizer.vocabulary is None:
            yield Gap(f"{at}/tokenizer", corpus.name, "how many ids its tokenizer has", "add 'vocabulary'")
    if corpus.row is None:
        yield Gap(f"{at}/row", corpus.name, "how a training sequence is stored", "add 'row: {row_len: …, seq_len: …}'")
    if corpus.seed is None:
        yield Gap(f"{at}/seed", corpus.name, "the seed of its order of documents", "add 'seed'")
    if corpus.held_out is None:
        yield Gap(f"{at}/held_out", corpus.name, "what is held out from training", "add 'held_out: {documents: …}'")


def _gaps_of_foreign_corpus(at: str, corpus: Corpus) -> Iterator[Gap]:
    for index, source in enumerate(corpus.sources):
        if source.tokens is None and source.documents is None:
            yield Gap(f"{at}/sources/{index}/tokens", source.name, "how many tokens it has", "add 'tokens'")
    if corpus.sources and not any({"epochs", "weight"} & source.model_fields_set for source in corpus.sources):
        fix = "add 'epochs' or 'weight' to each"
        yield Gap(f"{at}/sources", corpus.name, "how often each of its sources was read", fix)
    counted = corpus.tokens is not None or any(source.tokens is not None for source in corpus.sources)
    if counted and "counting" not in corpus.model_fields_set:
        fix = "add 'counting: ids' (ids stored) or 'counting: trained' (ids predicted)"
        yield Gap(f"{at}/counting", corpus.name, "what its token counts count", fix)
    if not corpus.processing:
        fix = "add 'processing: [{name: …, repository: …, commit: …}]'"
        yield Gap(f"{at}/processing", corpus.name, "how its documents were processed", fix)
    for index, step in enumerate(corpus.processing):
        if step.repository is None:
            fix = "add 'repository', and its commit"
            yield Gap(f"{at}/processing/{index}", step.name, "the code of this step", fix)
    apart = bool(corpus.sources) and all(source.files is not None for source in corpus.sources)
    if corpus.files is None and not apart:
        yield Gap(f"{at}/files", corpus.name, "the files of the tokenised data", "add 'files: {pattern: …, count: …}'")
    elif (
        corpus.files is not None
        and not {"count", "rows", "total_rows", "bytes", "listed"} & corpus.files.model_fields_set
    ):
        fix = "add 'count', 'rows' of each file, 'total_rows' or 'bytes'"
        yield Gap(f"{at}/files", corpus.name, "how many files and rows it has", fix)
    if corpus.row is not None and not {"dtype", "format"} <= corpus.row.model_fields_set:
        yield Gap(f"{at}/row", corpus.name, "format and type of the stored rows", "add 'format' and 'dtype'")


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
        ("parallelism", bool(run.parallelism) or run.determinism == "portable", "on how many devices it ran"),
        ("parent", run.parent is not None or run.objective == "pretrain", "the checkpoint that it started from"),
    ]
    for key, there, missing in parts:
        if not there:
            yield Gap(f"{at}/{key}", run.name, missing, f"add '{key}'")
    if run.seq_len is None and corpus is not None and corpus.row is None:
        yield Gap(f"{at}/seq_len", run.name, "its sequence length", "add 'row' to its corpus, or 'seq_len'")
    if run.series is not None:
        yield from _gaps_of_series(at, run, run.series)


def _gaps_of_series(at: str, run: Run, series: Series) -> Iterator[Gap]:
    if run.hub.model is None:
        yield Gap(f"{at}/hub", run.name, "where its checkpoints are published", "add 'hub: {model: ORG/NAME}'")
    if series.optimizer == "unknown":
        fix = "add 'optimizer: always', 'final' or 'never'"
        yield Gap(f"{at}/series/optimizer", run.name, "which checkpoints have the state of the optimizer", fix)
    if series.format is None:
        yield Gap(f"{at}/series/format", run.name, "the format of its checkpoints", "add 'format: safetensors'")
    if series.dtype is None:
        yield Gap(f"{at}/series/dtype", run.name, "the dtype of its checkpoints", "add 'dtype: float32'")


def _gaps_of_foreign_run(at: str, run: Run) -> Iterator[Gap]:
    optimizer = run.optimizer
    if optimizer is not None:
        asked = {"weight_decay", "clip"} | ({"betas", "epsilon"} if "adam" in optimizer.type else set())
        left_out = sorted(asked - optimizer.model_fields_set)
        if left_out:
            missing = f"{', '.join(left_out)} of its optimizer"
            yield Gap(f"{at}/optimizer", run.name, missing, "add them, as they were in the trainer")
    statements = [
        ("configuration", "the configuration that its trainer read", "add 'configuration: {path: …, states: {…}}'"),
        ("custom_code", "whether loading it needs code from the repository", "add 'custom_code: false', or true"),
    ]
    if run.objective == "pretrain":
        statements += [
            ("restarts", "whether and where it was restarted", "add 'restarts: [{at: …, restored: …}]', or '[]'"),
            ("skipped", "whether steps were skipped", "add 'skipped: [{first: …, last: …, reason: …}]', or '[]'"),
        ]
    for key, missing, fix in statements:
        if key not in run.model_fields_set:
            yield Gap(f"{at}/{key}", run.name, missing, fix)


def _gaps_of_main(release: ReleaseView) -> Iterator[Gap]:
    """Model repositories of which nobody says what `main` holds."""
    told = {run.hub.model for run in release.spec.all_runs() if run.series is not None and _names_main(run.series)}
    told |= {merge.hub.model for merge in release.spec.merges if merge.revision in (None, "main")}
    for run in release.spec.all_runs():
        if run.series is not None and run.hub.model is not None and run.hub.model not in told:
            fix = "add 'aliases: {main: NAME}' to the series, or 'unplaced: [main]'"
            at = f"{release.run_pointer(run.name)}/series"
            yield Gap(at, run.name, f"which checkpoint 'main' of {run.hub.model} is", fix)


def _names_main(series: Series) -> bool:
    names = {*series.aliases, *series.revisions.values(), *series.named, *series.unplaced, series.initial}
    return "main" in names


def _gaps_of_evaluation(at: str, evaluation: Evaluation) -> Iterator[Gap]:
    for key, missing in (("unit", "the unit of its scores"), ("shots", "the number of its shots")):
        if key not in evaluation.model_fields_set:
            yield Gap(f"{at}/{key}", evaluation.task, missing, f"add '{key}'")
