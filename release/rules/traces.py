"""Rules about what was measured: traces of the training, and evaluations of the checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.rules.rule import BOTH, Rule
from open360.release.view import ReleaseView
from open360.schema.layout import evaluation_path
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, tokens_at

MAX_TRACE_BYTES = 1 << 30
TRACE_MISSING = "MET001"
MAX_SHOWN = 3
TRAIN_AGAIN = "train the segment again, or publish the trace that belongs to it"


@dataclass(frozen=True, kw_only=True)
class TraceLine:
    """One step of a trace. Numbers are None when the line does not hold them in a readable form."""

    step: int
    loss: float | None
    grad_norm: float | None
    lr: float | None
    tokens: Any
    batch_sha256: str


def read_trace(release: ReleaseView, path: str) -> list[TraceLine]:
    """The lines of an intact trace; nothing when it is not. A line that cannot be read has the step -1."""
    data = release.read(path, MAX_TRACE_BYTES) if release.intact(path) else None
    return [_line(text) for text in (data or b"").splitlines()]


def _line(text: bytes) -> TraceLine:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        entry = None
    entry = entry if isinstance(entry, dict) else {}
    step = entry.get("step")
    return TraceLine(
        step=step if isinstance(step, int) and not isinstance(step, bool) else -1,
        loss=_number(entry.get("loss")),
        grad_norm=_number(entry.get("grad_norm")),
        lr=_number(entry.get("lr")),
        tokens=entry.get("tokens"),
        batch_sha256=str(entry.get("batch_sha256")),
    )


def _number(text: object) -> float | None:
    """A float from its exact hexadecimal form, such as `0x1.8p+1`."""
    try:
        return float.fromhex(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


class TraceMissing(Rule):
    """A checkpoint has no trace of the segment that made it.

    ## What it does
    Looks for the trace of every checkpoint but the initial one.

    ## Why is this bad?
    Loss, gradient norm and learning rate of these steps are lost; nobody can see a spike, or check a repetition of the
    training before its end.

    ## Example
    `ckpt_004` without `traces/ckpt_004.jsonl`.

    ## Remedy
    Train the segment again (`dvc repro -s train@ckpt_004`), or export the log of the training.

    ## Seen in practice
    The training logs of most releases live on a third party's website only, and not as files.
    """

    code = TRACE_MISSING
    name = "trace-missing"
    part = Part.CHECKPOINT

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        for run, checkpoint in release.built_checkpoints():
            if checkpoint.trace is None and checkpoint.step > 0:
                message = f"nothing tells how the training went up to step {checkpoint.step}"
                yield self.finding(release.place_of(run, checkpoint), checkpoint.name, message, TRAIN_AGAIN)


class TraceInconsistent(Rule):
    """A trace is not that of its segment.

    ## What it does
    Reads every trace: one line for each step of the segment, in order; the learning rate is exactly that of the
    declared schedule, the tokens are those seen up to and including the batch.

    ## Why is this bad?
    What is declared is not what ran: another schedule, another batch, steps that were left out.

    ## Example
    A schedule with a horizon of 4e12 tokens in the spec, and a trace that decays to 5e12.

    ## Remedy
    Correct the spec to what ran; or train again.

    ## Seen in practice
    The length of OLMo's schedule was changed in the middle of a run, and the published configuration states neither
    what ran before nor after.
    """

    code = "MET002"
    name = "trace-inconsistent"
    part = Part.CHECKPOINT
    level = EvidenceLevel.LOADED

    def claims(self, release: ReleaseView) -> int:
        """Traces that the manifest names."""
        return sum(checkpoint.trace is not None for _, checkpoint in release.built_checkpoints())

    def unseen(self, release: ReleaseView) -> int:
        """Those of them that are not intact."""
        traces = [checkpoint.trace for _, checkpoint in release.built_checkpoints()]
        return sum(trace is not None and not release.intact(trace.path) for trace in traces)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each trace."""
        for run, record in release.built_runs():
            first = 0
            for checkpoint in record.checkpoints:
                trace = checkpoint.trace
                if trace is not None and release.intact(trace.path):
                    wrong = list(_wrong_lines(release, run, read_trace(release, trace.path), first, checkpoint.step))
                    if wrong:
                        more = f" and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
                        message = f"{'; '.join(wrong[:MAX_SHOWN])}{more}"
                        yield self.finding(trace.path, checkpoint.name, message, TRAIN_AGAIN)
                first = checkpoint.step


def _wrong_lines(release: ReleaseView, run: Run, lines: list[TraceLine], first: int, end: int) -> Iterator[str]:
    steps = [line.step for line in lines]
    if -1 in steps:
        yield f"line {steps.index(-1) + 1} cannot be read"
        return
    if len(steps) != end - first or steps != list(range(first, end)):
        found = f"steps {steps[0]} to {steps[-1]} in {len(steps)} lines" if steps else "no line"
        yield f"it holds {found}, expected one line for each of the steps {first} to {end - 1}"
        return
    for line in lines:
        rate = release.rate(run, line.step)
        if rate is not None and line.lr != rate:
            yield f"step {line.step} has learning rate {line.lr}, declared is {rate}"
        tokens = _tokens_of(release, run, line.step)
        if tokens is not None and line.tokens != tokens:
            yield f"step {line.step} has {line.tokens} tokens, declared are {tokens}"


def _tokens_of(release: ReleaseView, run: Run, step: int) -> int | None:
    try:
        return tokens_at(run, release.spec.corpus_of(run), step + 1)
    except ScheduleError:
        return None


class NonFiniteMetric(Rule):
    """A loss, gradient norm or score is NaN or infinite.

    ## What it does
    Reads loss and gradient norm of every step of every trace, and every number of every evaluation record.

    ## Why is this bad?
    The training diverged there, or the measurement failed; averages and plots over it are NaN, too.

    ## Example
    `{"loss": "nan", "step": 1200}`

    ## Remedy
    Train again from the checkpoint before; measure again.

    ## Seen in practice
    Some chunks of Amber are said to have given a loss that is no number and to have been skipped; the release holds no
    log that could confirm it.
    """

    code = "MET004"
    name = "non-finite-metric"
    part = Part.CHECKPOINT
    level = EvidenceLevel.LOADED
    requires = BOTH

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints with a trace or an evaluation record in the manifest."""
        return len(_measured_files(release))

    def unseen(self, release: ReleaseView) -> int:
        """Those of them of which one of the two is not intact."""
        return sum(not all(map(release.intact, paths)) for paths in _measured_files(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        for run, checkpoint in release.built_checkpoints():
            if checkpoint.trace is not None:
                lines = read_trace(release, checkpoint.trace.path)
                wrong = [line.step for line in lines if not (_is_finite(line.loss) and _is_finite(line.grad_norm))]
                if wrong:
                    message = f"loss or gradient norm is not finite at {len(wrong)} steps, the first is {wrong[0]}"
                    yield self.finding(checkpoint.trace.path, checkpoint.name, message, TRAIN_AGAIN)
            path = evaluation_path(run.name, checkpoint.name)
            if not release.intact(path):
                continue
            record = release.document(path)
            if record is None or not _all_finite(record):
                message = f"it holds no finite numbers: {release.unreadable.get(path, 'one is NaN or infinite')}"
                yield self.finding(path, checkpoint.name, message, "evaluate the checkpoint again")


def _measured_files(release: ReleaseView) -> list[list[str]]:
    """Trace and evaluation record of each checkpoint that has one of them, as the manifest names them."""
    named, found = {record.path for record in release.files}, []
    for run, checkpoint in release.built_checkpoints():
        evaluation = evaluation_path(run.name, checkpoint.name)
        paths = [checkpoint.trace.path] if checkpoint.trace is not None else []
        if evaluation in named:
            paths.append(evaluation)
        if paths:
            found.append(paths)
    return found


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def _all_finite(plain: Any) -> bool:
    waiting = [plain]
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return True
