"""Rules about the training order: is it declared, and can it be said which rows a step saw."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.findings import Finding, Part, Severity
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.order import ChunkOrder, FunctionOrder, PermutationFileOrder, UnknownOrder
from open360.schema.run import Run


class OrderUndeclared(Rule):
    """A run does not say how its steps map to rows.

    ## What it does
    Looks for `order` in every run: a default is no statement.

    ## Why is this bad?
    "The training data" without its order does not tell what a checkpoint has seen, so memorization, contamination and
    training dynamics cannot be studied on it.

    ## Example
    A run with a corpus and a batch, but no `order`.

    ## Remedy
    Add `order: {kind: materialized}` when the stored stream is the training order, another kind where it is not, and
    `{kind: unknown, reason: …}` where it was lost: a stated gap is worth more than a guess.

    ## Seen in practice
    Three copies of the Pythia data lie on the Hub in different orders, and for years only their authors knew which one
    was trained on.
    """

    code = "ORD001"
    name = "order-undeclared"
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run without an order."""
        for index, run in enumerate(release.spec.runs):
            at = f"/runs/{index}"
            in_variants = bool(run.variants) and all(
                release.declares(f"{at}/variants/{i}/order") for i in range(len(run.variants))
            )
            if not release.declares(f"{at}/order") and not in_variants:
                message = f"run '{run.name}' does not say how its steps map to rows"
                fix = "add 'order: {kind: materialized}', or the kind that is true, or 'unknown' with the reason"
                yield self.finding(release.place(f"{at}/order"), run.name, message, fix)


class OrderUnknown(Rule):
    """The training order of a run is lost, or not public.

    ## What it does
    Reports orders of kind `unknown`, orders inside a chunk that are unknown, and functions that cannot be resolved.

    ## Why is this bad?
    Nobody can say which rows a given step saw.

    ## Example
    `order: {kind: unknown, reason: rows were dealt out to ranks, and the number of ranks changed}`

    ## Remedy
    Publish the order as a file with its sha256, or the rows themselves in trained order. Where it is lost for good,
    the statement stays, as a waiver.

    ## Seen in practice
    Amber's order inside a chunk follows from a seed that changed with every restart, and the restarts were not
    published. An order file of OLMo was deleted, and the one uploaded later differed.
    """

    code = "ORD002"
    name = "order-unknown"
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run whose order cannot be resolved to rows."""
        seen: set[tuple[str, str]] = set()
        for run in release.spec.all_runs():
            problem = _problem_of(run)
            if problem is not None and (release.run_pointer(run.name), problem) not in seen:
                seen.add((release.run_pointer(run.name), problem))
                place = release.place(f"{release.run_pointer(run.name)}/order")
                fix = "publish the rows in trained order, or the order as a file with its sha256"
                yield self.finding(place, run.name, f"which rows a step of run '{run.name}' saw {problem}", fix)


def _problem_of(run: Run) -> str | None:
    order = run.order
    if isinstance(order, UnknownOrder):
        return f"is unknown: {order.reason}"
    if isinstance(order, ChunkOrder) and isinstance(order.within, UnknownOrder):
        return f"is known to the chunk only: {order.within.reason}"
    if isinstance(order, FunctionOrder) and not order.resolvable:
        return "cannot be computed: the files or their sizes are not public"
    return None


class OrderUnpinned(Rule):
    """The training order depends on something that can change.

    ## What it does
    Looks for orders that a function computes, without the version of the library that they were checked with and
    without golden batches; and for stored orders without the sha256 of their file.

    ## Why is this bad?
    The same seed gives another order under another version, and a file can be made again: what is then computed for a
    step looks right and is wrong.

    ## Example
    `order: {kind: function, algorithm: numpy-pcg64-shuffle, seed: 6198}`

    ## Remedy
    Add the `version` of the library, or `golden_batches` to the run: the digests of its first, a middle and its last
    batch prove any reader. Add `sha256` to a stored order.

    ## Seen in practice
    Marin changed its shuffle to another algorithm below the same configuration, so that older runs cannot be repeated;
    the order file of OLMo was made again with another size. NumPy does not promise the stream that OLMo's order is of.
    """

    code = "ORD007"
    name = "order-unpinned"
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs whose order is computed or stored."""
        return sum(_can_change(run) for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run; runs that are described together and lack the same give one."""
        seen: set[tuple[str, str]] = set()
        for run in release.spec.all_runs():
            if not _can_change(run):
                continue
            order, message = run.order, None
            if isinstance(order, FunctionOrder) and order.version is None and not run.golden_batches:
                message = "is computed, and neither a version of the library nor golden batches pin it"
                fix = "add 'version' to 'order', or 'golden_batches' to the run"
            elif isinstance(order, PermutationFileOrder) and order.sha256 is None:
                message = "is a file without a sha256"
                fix = "add 'sha256' to 'order'"
            pointer = release.run_pointer(run.name)
            if message is not None and (pointer, message) not in seen:
                seen.add((pointer, message))
                place = release.place(f"{pointer}/order")
                yield self.finding(place, run.name, f"the order of run '{run.name}' {message}", fix)


def _can_change(run: Run) -> bool:
    order = run.order
    return isinstance(order, PermutationFileOrder) or (isinstance(order, FunctionOrder) and order.resolvable)
