"""How open a release is: the evidence of its spec and its listing, judged by the Model Openness Framework."""

from __future__ import annotations

from collections.abc import Iterable

from open360.release import openness as mof
from open360.release.findings import Finding
from open360.release.openness import Evidence, Openness, judge
from open360.release.openness_listed import ListedEvidence
from open360.release.view import ReleaseView

GONE_CODES = frozenset({"HUB003", "HUB007"})  # their findings name an address or a repository that is not there


def openness_of(release: ReleaseView, findings: Iterable[Finding]) -> Openness | None:
    """How open a release is; None when its spec cannot be read.

    Args:
        findings: of this validation: what they show to be gone is not counted.
    Raises:
        HubError: the Hub cannot be reached.
    """
    if release.readable_spec is None:
        return None
    gone = frozenset(finding.subject for finding in findings if finding.code in GONE_CODES)
    evidence = ListedEvidence(release, gone)
    return judge(_evidence(evidence), evidence.sources_named())


def _evidence(of: ListedEvidence) -> dict[str, Evidence]:
    """Evidence by the name of the component."""
    return {
        mof.ARCHITECTURE: of.architecture(),
        mof.FINAL: of.final_weights(),
        mof.RESULTS: of.results(),
        mof.MODEL_CARD: of.card("model"),
        mof.DATA_CARD: of.card("dataset"),
        mof.REPORT: of.document("report", "technical report"),
        mof.OUTPUTS: Evidence(there=None, because="a spec has no field for it"),
        mof.TRAINING: of.code(("train",), "training"),
        mof.INFERENCE: of.inference(),
        mof.EVALUATION: of.evaluation_code(),
        mof.EVALUATION_DATA: of.evaluation_data(),
        mof.LIBRARIES: of.libraries(),
        mof.DATASETS: of.datasets(),
        mof.PREPROCESSING: of.preprocessing(),
        mof.INTERMEDIATE: of.intermediate_weights(),
        mof.PAPER: of.document("paper", "paper"),
        mof.METADATA: of.metadata(),
    }
