"""Errors of the trainer. Mismatching digests and ranges are `open360.schema.errors.IntegrityError`."""

from __future__ import annotations

from open360.schema.errors import Open360Error


class NumericProfileError(Open360Error):
    """The process computes otherwise than the run's determinism class asks for, so nothing is computed at all."""

    def __init__(self, setting: str, expected: str, found: str, next_step: str) -> None:
        self.setting, self.expected, self.found = setting, expected, found
        super().__init__(f"{setting}: expected {expected}, found {found}; {next_step}")


class UntrainableRunError(Open360Error):
    """The spec of a run leaves something out that training reads, or asks for what this trainer does not do."""

    def __init__(self, run: str, problems: tuple[str, ...]) -> None:
        self.run, self.problems = run, problems
        lines = [f"run '{run}' cannot be trained: {problem}" for problem in problems]
        super().__init__("\n".join([*lines, "correct the run in release.yaml and try again"]))


class MissingInputError(Open360Error):
    """A file that a segment, or an evaluation, starts from is not there."""

    def __init__(self, path: str, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"{path}: expected {what}, found no such file; build it with 'dvc repro' or fetch it first")


class NonFiniteWeightsError(Open360Error):
    """An update made weights or optimizer state that are no numbers: the learning rate is far too high."""

    def __init__(self, run: str, steps: tuple[int, int], what: str) -> None:
        self.run, self.steps, self.what = run, steps, what
        super().__init__(
            f"run '{run}', steps {steps[0]} to {steps[1] - 1}: expected finite weights and optimizer state, "
            f"found {what}; lower the learning rate or the weight decay, then 'dvc repro'"
        )


class NonFiniteScoreError(Open360Error):
    """A checkpoint scores what is no number."""

    def __init__(self, run: str, checkpoint: str, metrics: list[str]) -> None:
        self.run, self.checkpoint, self.metrics = run, checkpoint, metrics
        super().__init__(
            f"checkpoint '{checkpoint}' of run '{run}': expected finite scores, found others for "
            f"{', '.join(metrics)}; look at its weights with 'open360 validate .'"
        )


class NonFiniteLossError(Open360Error):
    """A batch gave a loss or a gradient norm that is no number."""

    def __init__(self, run: str, step: int, rows: tuple[int, int], chunk: str, loss: float, grad_norm: float) -> None:
        self.run, self.step, self.rows, self.chunk = run, step, rows, chunk
        self.loss, self.grad_norm = loss, grad_norm
        super().__init__(
            f"run '{run}', step {step}: expected a finite loss and gradient norm, found {loss} and {grad_norm}, "
            f"on rows {rows[0]} to {rows[1]} of {chunk}; look at the batch with 'open360 pull . --step {step}', "
            "then change the learning rate, the clipping or the data"
        )
