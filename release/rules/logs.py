"""The rule about the log of a training: published as a file, not only shown by a service."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.evidence.measurements import evaluation_name, service_of
from open360.release.findings import Finding, Part, Severity
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.run import Run


class LogsElsewhere(Rule):
    """The log of a training, or the results of an evaluation, are only on the site of a third party.

    ## What it does
    Looks at the `logs` of each run: one of them must be a file of the release or an address that is not one of a
    tracking service (Weights & Biases, Comet, Neptune, TensorBoard.dev, SwanLab, ClearML). The `results` of
    evaluations are looked at in the same way. Traces in the manifest are logs.

    ## Why is this bad?
    Such pages are drawn for eyes, sample the curves, change their address, are deleted with an account or with the
    service: TensorBoard.dev was shut down, and all that it held went with it.

    ## Example
    `logs: ["https://wandb.ai/llm360/Amber"]`

    ## Remedy
    Export loss, gradient norm, learning rate and tokens of every step to a file, and publish it with the release.

    ## Seen in practice
    The metrics of Amber, CrystalCoder and K2 are in Weights & Biases reports; that of Pythia is called "messy" by its
    own README, and corresponds to the runs roughly and in parts.
    """

    code = "MET010"
    name = "logs-elsewhere"
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})
    part = Part.STATEMENT

    def claims(self, release: ReleaseView) -> int:
        """Runs, and evaluations with results."""
        return len(release.spec.runs) + sum(e.results is not None for e in release.spec.evaluations)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run, and for each evaluation."""
        guessed = release.foreign is not None and release.foreign.document.is_guess
        fix = "publish the log as a file: loss, gradient norm, learning rate and tokens of every step"
        for index, run in enumerate(release.spec.runs):  # its variants have the same log
            services = [service_of(log) for log in run.logs]
            place = release.place(f"/runs/{index}/logs")
            if run.logs and None not in services:
                named = ", ".join(dict.fromkeys(name for name in services if name is not None))
                yield self.finding(place, run.name, f"the log of run '{run.name}' is only at {named}", fix)
            elif not run.logs and not guessed and not _has_traces(release, run):
                yield self.finding(place, run.name, f"run '{run.name}' does not say where its training log is", fix)
        for number, evaluation in enumerate(release.spec.evaluations):
            service = service_of(evaluation.results or "")
            if service is not None:
                subject = evaluation_name(release.spec, number)
                message = f"the results of '{subject}' are only at {service}"
                place = release.place(f"/evaluations/{number}/results")
                yield self.finding(place, subject, message, "publish the records as JSON files")


def _has_traces(release: ReleaseView, run: Run) -> bool:
    manifest = release.readable_manifest
    names = {expanded.name for expanded in run.expanded()}
    records = [record for record in manifest.runs if record.name in names] if manifest is not None else []
    return any(checkpoint.trace is not None for record in records for checkpoint in record.checkpoints)
