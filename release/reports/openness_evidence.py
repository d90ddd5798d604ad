"""How open a release is: the evidence of its spec and its listing, judged by the Model Openness Framework."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from open360.release.findings import Finding
from open360.release.reports import openness as mof
from open360.release.reports.openness import Evidence, Openness, judge
from open360.release.reports.openness_listed import ListedEvidence
from open360.release.view import ReleaseView
from open360.schema.spec import ReleaseSpec

DEAD_ADDRESS, REPOSITORY_MISSING = "HUB003", "HUB007"


def openness_of(release: ReleaseView, findings: Iterable[Finding]) -> Openness | None:
    """How open a release is; None when its spec cannot be read.

    Args:
        findings: of this validation; what they show to be gone does not count as there.
    Raises:
        HubError: the Hub cannot be reached.
    """
    if release.readable_spec is None:
        return None
    evidence = ListedEvidence(release, frozenset(_gone(release.readable_spec, findings)))
    return judge(_evidence(evidence), evidence.sources_named())


def _gone(spec: ReleaseSpec, findings: Iterable[Finding]) -> Iterator[str]:
    """Addresses and repositories that the findings show not to be there."""
    for finding in findings:
        if finding.code == REPOSITORY_MISSING:
            yield finding.subject
        elif finding.code == DEAD_ADDRESS:
            yield from _text_at(spec, finding.location.pointer)


def _text_at(spec: ReleaseSpec, pointer: str) -> Iterator[str]:
    """The text that stands at a place of the spec, when a text stands there."""
    value: object = spec
    for part in pointer.split("/")[1:]:
        is_index = isinstance(value, tuple) and part.isdecimal() and int(part) < len(value)
        value = value[int(part)] if is_index and isinstance(value, tuple) else getattr(value, part, None)
    if isinstance(value, str):
        yield value


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
