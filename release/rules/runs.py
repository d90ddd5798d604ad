"""Rules about runs: tokens that are stated in several places, and the record of restarts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from open360.release.findings import Finding, Part
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, rows_at, tokens_at

TOLERANCE = 0.05  # published token counts are rounded, often to two digits


class RestartInconsistent(Rule):
    """The record of restarts or of skipped steps contradicts itself.

    ## What it does
    Looks at `restarts` and `skipped` of every run: a restart goes on from a checkpoint of the series that is not later
    than the step at which the run stopped, restarts are in the order of time, and skipped spans lie inside the run and
    do not overlap.

    ## Why is this bad?
    The record is what rows and random numbers of later steps are worked out from; one wrong entry shifts them all.

    ## Example
    `restarts: [{at: 80000, restored: 82000}]`

    ## Remedy
    Correct the entry from the log of the training. When a checkpoint was restored that is not published, declare the
    series as `published: some`, or list it in `missing`.

    ## Seen in practice
    Amber's order inside a chunk depends on where it was restarted, and the restarts were never published; those of OLMo
    are known from run ids in the addresses of its checkpoints only.
    """

    code = "RUN003"
    name = "restart-inconsistent"
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs with restarts or skipped steps."""
        return sum(bool(run.restarts or run.skipped) for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each entry."""
        told: set[tuple[str, str]] = set()
        for run in release.spec.all_runs():
            for where, message in [*_wrong_restarts(release, run), *_wrong_spans(run)]:
                pointer = f"{release.run_pointer(run.name)}/{where}"
                if (pointer, message) not in told:  # not again for each variant
                    told.add((pointer, message))
                    fix = "correct it from the log of the training"
                    yield self.finding(release.place(pointer), run.name, message, fix)


def _wrong_restarts(release: ReleaseView, run: Run) -> Iterator[tuple[str, str]]:
    series = run.series
    steps = {plan.step for plan in release.plans(run)}
    known = bool(steps) and series is not None and series.published == "all" and not series.unplaced
    lost = [range(gap.first, gap.last + 1) for gap in series.missing] if series is not None else []
    reached = 0
    for index, restart in enumerate(run.restarts):
        where, at, restored = f"restarts/{index}", restart.at, restart.restored
        if run.steps is not None and at > run.steps:
            yield where, f"a restart at step {at} lies after the last step {run.steps}"
        if restored > at:
            yield where, f"the restart at step {at} restores step {restored}, which lies after it"
        elif known and restored not in steps | {0} and not any(restored in gap for gap in lost):
            yield where, f"the restart at step {at} restores step {restored}, which is no checkpoint of the series"
        if at < reached:
            yield where, f"the restart at step {at} lies before step {reached}, from which the run had gone on"
        reached = restored


def _wrong_spans(run: Run) -> Iterator[tuple[str, str]]:
    end = -1
    for index, span in sorted(enumerate(run.skipped), key=lambda entry: (entry[1].first, entry[1].last)):
        if run.steps is not None and span.last >= run.steps:
            yield f"skipped/{index}", f"steps {span.first} to {span.last} lie outside the run of {run.steps} steps"
        if span.first <= end:
            yield f"skipped/{index}", f"steps {span.first} to {span.last} were skipped twice"
        end = max(end, span.last)


class TokensContradict(Rule):
    """The tokens that a run saw are not those that its corpus has.

    ## What it does
    Compares, for pretraining runs, steps x batch x sequence length with the tokens of the corpus: those of its sources
    times their epochs, and its stated total; all counted as the corpus counts (`counting`: ids stored or predicted).
    A run may stop early or train on a part. It is a contradiction when a run sees more than all epochs hold, or when
    the total is neither the sum of the sources nor that sum times their epochs. Five percent are allowed, since
    published counts are rounded. Sources with sampling weights are not judged: weights say nothing of epochs.

    ## Why is this bad?
    One of the numbers is wrong, and it cannot be told which: how often data was repeated, how much was trained on, or
    what the mix was.

    ## Example
    A mix of 1,300 billion tokens, one epoch each, and a run of 1,415 billion.

    ## Remedy
    Correct the number that is wrong; state the `epochs` of sources that were repeated.

    ## Seen in practice
    The mix on the card of K2 adds up to 1,300 billion tokens, its training script runs through 1,415 billion; the third
    stage of CrystalCoder is 110 billion tokens by the card and 120 by its configuration.
    """

    code = "RUN004"
    name = "tokens-contradict"
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs of which steps, batch and corpus say enough."""
        return sum(_seen(release, run) is not None and bool(_stated(release, run)) for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run, and one for each corpus whose total is not that of its sources."""
        for index, corpus in enumerate(release.spec.corpora):
            once, often = _of_sources(corpus)
            total = corpus.tokens
            if total is not None and once and not any(_close(total, count) for count in (once, often)):
                message = f"'{corpus.name}' is said to have {total:,} tokens, its sources {_sum(once, often)}"
                fix = "correct the number that is wrong, or the 'epochs' of the sources"
                yield self.finding(release.place(f"/corpora/{index}/tokens"), corpus.name, message, fix)
        for run in release.spec.all_runs():
            seen, stated = _seen(release, run), _stated(release, run)
            if seen is not None and stated and all(seen > count * (1 + TOLERANCE) for count in stated):
                what = "ids" if _counts_ids(release, run) else "tokens"
                message = f"run '{run.name}' sees {seen:,} {what}, its corpus '{run.corpus}' has {max(stated):,}"
                place = release.place(f"{release.run_pointer(run.name)}/steps")
                fix = "correct steps, batch or the tokens of the corpus; state the 'epochs' of what was repeated"
                yield self.finding(place, run.name, message, fix)


def _sum(once: int, often: int) -> str:
    return f"{once:,}" if once == often else f"{once:,} ({often:,} with their epochs)"


def _close(a: int, b: int) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE)


def _of_sources(corpus: Corpus) -> tuple[int, int]:
    """Tokens of the sources, once and with their epochs; zeros when one does not say, or they are weighted."""
    if any(source.tokens is None or source.weight is not None for source in corpus.sources):
        return 0, 0
    once = sum(source.tokens or 0 for source in corpus.sources)
    return once, sum((source.tokens or 0) * source.epochs for source in corpus.sources)


def _stated(release: ReleaseView, run: Run) -> list[int]:
    """Tokens that the corpus of a run has by its sources and by its total, as far as they are stated."""
    corpus = release.spec.corpus_of(run)
    if corpus is None or any(source.weight is not None for source in corpus.sources):
        return []
    return [count for count in (_of_sources(corpus)[1], corpus.tokens) if count]


def _counts_ids(release: ReleaseView, run: Run) -> bool:
    corpus = release.spec.corpus_of(run)
    return corpus is not None and corpus.counting == "ids"


def _seen(release: ReleaseView, run: Run) -> int | None:
    """Tokens that a pretraining run went through, counted as its corpus counts; None when the spec does not say."""
    corpus = release.spec.corpus_of(run)
    if run.objective != "pretrain" or corpus is None or run.steps is None:
        return None
    try:
        if corpus.counting == "ids" and corpus.row is not None:
            return rows_at(run, run.steps) * (corpus.row.row_len - corpus.row.overlap)
        return tokens_at(run, corpus, run.steps)
    except ScheduleError:
        return None
