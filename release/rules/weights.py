"""Rules about the numbers in the weights, read with numpy: finite, near those of the neighbours, good to run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.positions import SWAPPED
from open360.release.rules.rule import SPEC_READ, CannotCheckError, Rule
from open360.release.rules.tensors import BUILD_AGAIN, UNREADABLE, WRONG_SHAPES
from open360.release.tensor_statistics import WeightStatistics, distance
from open360.release.view import ReleaseView
from open360.schema.errors import Open360Error
from open360.schema.run import Run

NON_FINITE = "CKP012"
MAX_SHOWN = 5
# Honest neighbours: 1.1 to 1.2 measured, 1.4 when updates are independent, 2 when noise alone moves the weights.
LONGEST_DETOUR = 2.5
FARTHEST_END = 10.0
FEWEST_WAYS = 3
FORWARD_FUNCTION = "open360.trainer.forward_pass:forward_pass_is_finite"


class NonFiniteWeights(Rule):
    """A checkpoint holds NaN or infinite numbers.

    ## What it does
    Reads every number of the weights.

    ## Why is this bad?
    The model answers nothing but NaN, and every segment after it is lost.

    ## Example
    A run in float16 whose loss overflowed at step 1,200.

    ## Remedy
    Find the step in the trace, and train again from the checkpoint before it.

    ## Seen in practice
    Some of Amber's 360 chunks are said to have given a loss that is no number, and to have been skipped; the release
    does not say which.
    """

    code = NON_FINITE
    name = "non-finite-weights"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ, UNREADABLE})
    part = Part.CHECKPOINT

    def unseen(self, release: ReleaseView) -> int:
        """Checkpoints outside the sample, and those without intact safetensors files."""
        return len(release.checkpoints) - sum(release.weights(seen) is not None for seen in release.loaded_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        for checkpoint in release.loaded_checkpoints:
            found = release.weights(checkpoint)
            if found is not None and found.non_finite:
                names = list(found.non_finite)
                count = sum(found.non_finite.values())
                message = f"{count} numbers are NaN or infinite, in {', '.join(names[:MAX_SHOWN])}"
                path = release.weight_paths(checkpoint)[0]
                yield self.finding(path, checkpoint.name, message, "train again from the checkpoint before it")


class UnlikeNeighbours(Rule):
    """A checkpoint's weights do not lie between those of its neighbours.

    ## What it does
    Estimates distances between the weights of neighbouring checkpoints. For a checkpoint with two neighbours the way
    through it must not be more than two and a half times as long as the direct way between them; at both ends the
    distance must not be more than ten times the largest of the others (scaled up to the learning rate spent on it).

    ## Why is this bad?
    These weights belong to another model, another run or another step, though their name and digests are in order.

    ## Example
    The last checkpoint, published under the name of the fifth.

    ## Remedy
    Compare it with the trace and with evaluations; publish the right weights.

    ## Seen in practice
    A branch of pythia-12b-deduped served the weights of another step: evaluations looked odd to those who tried it.
    """

    code = "CKP013"
    name = "unlike-neighbours"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ, NON_FINITE, WRONG_SHAPES, SWAPPED})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints with two neighbours; both ends of a run, too, where there are enough to compare with."""
        return sum(len(_judgeable(len(found))) for found in release.checkpoints_by_run())

    def unseen(self, release: ReleaseView) -> int:
        """Those of them that were not compared: they, or a neighbour, were not read."""
        runs = release.checkpoints_by_run(release.loaded_checkpoints)
        return self.claims(release) - sum(len(_judged(_ways(release, found))) for found in runs)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint that lies apart."""
        for checkpoints in release.checkpoints_by_run(release.loaded_checkpoints):
            for index, message in _apart(release, checkpoints):
                checkpoint = checkpoints[index]
                path = release.weight_paths(checkpoint)[0]
                fix = "compare it with the trace and the evaluations, and publish the right weights"
                yield self.finding(path, checkpoint.name, message, fix)


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """Distances between the weights of a run's checkpoints in a row; None where one of the two was not read.

    `steps` are those from each to the next, `direct` those from each to the one after the next.
    """

    steps: list[float | None]
    direct: list[float | None]


def _ways(release: ReleaseView, checkpoints: list[SeenCheckpoint]) -> _Ways:
    known = [release.weights(checkpoint) for checkpoint in checkpoints]
    return _Ways(
        steps=[_between(a, b) for a, b in pairwise(known)],
        direct=[_between(a, b) for a, b in zip(known, known[2:], strict=False)],
    )


def _judgeable(count: int) -> range:
    """Indices of those of `count` checkpoints in a row that can be judged when all of them are read."""
    return range(count) if count > FEWEST_WAYS else range(1, count - 1)


def _judged(ways: _Ways) -> set[int]:
    """Indices of the checkpoints that were judged."""
    count = len(ways.steps) + 1
    inner = {
        index
        for index in range(1, count - 1)
        if None not in (ways.steps[index - 1], ways.steps[index], ways.direct[index - 1])
    }
    others = sum(way is not None for way in ways.steps) - 1
    ends = ((0, 0), (count - 1, len(ways.steps) - 1)) if others >= FEWEST_WAYS - 1 else ()
    return inner | {index for index, way in ends if ways.steps[way] is not None}


def _apart(release: ReleaseView, checkpoints: list[SeenCheckpoint]) -> Iterator[tuple[int, str]]:
    run, found = checkpoints[0].run, _ways(release, checkpoints)
    ways = found.steps
    for index in range(1, len(checkpoints) - 1):
        way_in, way_out, direct = ways[index - 1], ways[index], found.direct[index - 1]
        if way_in is None or way_out is None or direct is None:
            continue
        if min(way_in, way_out) > 0 and way_in + way_out > LONGEST_DETOUR * direct:
            before, after = checkpoints[index - 1].name, checkpoints[index + 1].name
            yield index, f"its weights lie far from those of '{before}' and '{after}', which lie close to each other"
    spent = [_spent(release, run, a.step, b.step) for a, b in pairwise(checkpoints)]
    if len(ways) >= FEWEST_WAYS:
        for index, way in ((0, 0), (len(checkpoints) - 1, len(ways) - 1)):
            if _is_far(ways, spent, way):
                yield index, "its weights lie far from those of its neighbour, compared with all other neighbours"


def _is_far(ways: list[float | None], spent: list[float | None], way: int) -> bool:
    """Whether a way is longer than ten times what the others would be with as much learning rate, or more."""
    here, own = ways[way], spent[way]
    others = [
        there * max(1.0, own / rate if own and rate else 1.0)
        for index, (there, rate) in enumerate(zip(ways, spent, strict=True))
        if index != way and there is not None
    ]
    return here is not None and len(others) >= FEWEST_WAYS - 1 and here > FARTHEST_END * max(others) > 0


def _spent(release: ReleaseView, run: Run, first: int, end: int) -> float | None:
    """Sum of the learning rates of batches `[first, end)`, from a few of them."""
    stride = max((end - first) // 16, 1)
    rates = [release.rate(run, step) for step in range(first, end, stride)]
    known = [rate for rate in rates if rate is not None]
    return sum(known) / len(known) * (end - first) if known else None


def _between(a: WeightStatistics | None, b: WeightStatistics | None) -> float | None:
    return distance(a, b) if a is not None and b is not None else None


_RUN_ONCE: WeakKeyDictionary[ReleaseView, int] = WeakKeyDictionary()  # how many checkpoints were run


class ForwardPassFails(Rule):
    """A checkpoint cannot be loaded and run.

    ## What it does
    Loads every checkpoint with `transformers` and runs it once on a few ids; its outputs must be finite. Needs torch:
    without it the rule is skipped.

    ## Why is this bad?
    The checkpoint cannot be used, whatever its digests say.

    ## Example
    A `config.json` with another number of heads than the weights have.

    ## Remedy
    Build the checkpoint again with the configuration of its run.

    ## Seen in practice
    A published checkpoint of nanochat loaded without an error and wrote gibberish: what came with it did not fit.
    """

    code = "CKP014"
    name = "forward-pass-fails"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ, NON_FINITE, WRONG_SHAPES})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints whose code is not their own."""
        return sum(not checkpoint.run.custom_code for checkpoint in release.checkpoints)

    def unseen(self, release: ReleaseView) -> int:
        """Those of them that were not run: outside the sample, not intact, or too large to fetch."""
        return self.claims(release) - _RUN_ONCE.get(release, 0)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        run_once = _forward_pass()
        _RUN_ONCE[release] = 0
        for checkpoint in release.loaded_checkpoints:
            if checkpoint.run.custom_code:
                continue  # code from a repository is never run here
            with release.folder_of(checkpoint) as folder:
                if folder is None:
                    continue
                _RUN_ONCE[release] += 1
                try:
                    problem = None if run_once(folder) else "its outputs are not finite"
                except Open360Error as error:
                    problem = f"it cannot be run: {error}"
            if problem is not None:
                place = release.place_of_checkpoint(checkpoint)
                yield self.finding(place, checkpoint.name, problem, BUILD_AGAIN)


def _forward_pass() -> Callable[[Path], bool]:
    """`(checkpoint folder) -> whether its outputs are finite`, by its dotted name, so that torch stays out of here."""
    module, _, function = FORWARD_FUNCTION.partition(":")
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise CannotCheckError("it needs open360[train]")
    try:
        found: Callable[[Path], bool] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CannotCheckError(f"it needs open360[train] ({error})") from error
    return found
