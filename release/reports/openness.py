"""How open a release is, by the words of others: the Model Openness Framework's classes, and OSAID's three elements.

Pure: from a verdict on each component to the class, the components that the next class asks for, the file that the
Model Openness Tool reads, and the table of the Open Source AI Definition. Who decides on the components looks at the
release (`openness_evidence`).

Sources: Model Openness Framework 1.0 (White et al., arXiv 2403.13784; classes as in the Model Openness Tool's
settings), Open Source AI Definition 1.0 (opensource.org/ai).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from open360.release.quoted import Quoted
from open360.release.reports.open_licenses import OSI_APPROVED, is_open
from open360.schema.model import ManifestModel

FRAMEWORK = "Model Openness Framework"
FRAMEWORK_VERSION, FRAMEWORK_DATE = "1.0", "2024-12-15"
NO_CERTIFICATION = (
    "This is derived from what the spec says and the listing shows; it is no certification by the Open Source "
    "Initiative or the Linux Foundation."
)

ModelClass = Literal["I", "II", "III"]
ComponentType = Literal["code", "data", "document"]
CLASS_NAMES: Mapping[ModelClass, str] = {"I": "Open Science", "II": "Open Tooling", "III": "Open Model"}
_FROM_THE_WIDEST: tuple[ModelClass, ...] = ("III", "II", "I")

# Decoder-only architectures, by their `model_type`, whose code `transformers` itself holds.
TRANSFORMERS_DECODERS = frozenset(
    {
        *("apertus", "bloom", "falcon", "gemma", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "gptj", "granite", "llama"),
        *("mistral", "mixtral", "mpt", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen3"),
        *("smollm3", "starcoder2"),
    }
)


class ComponentStatus(StrEnum):
    """Whether a component is there, under which terms. Only `open` counts for a class."""

    OPEN = "open"
    NOT_OPEN = "not open"
    UNLICENSED = "no licence"
    MISSING = "missing"
    UNKNOWN = "not known"


class Component(ManifestModel):
    """What is known of one component. `license` is its own, else that of its type; `because` says how it is known."""

    name: str
    type: ComponentType
    asked_by: ModelClass
    required: bool
    status: ComponentStatus
    license: Quoted | None
    because: Quoted
    path: Quoted | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is part of the release, whatever its licence."""
        return self.status in (ComponentStatus.OPEN, ComponentStatus.NOT_OPEN, ComponentStatus.UNLICENSED)


class OsaidElement(ManifestModel):
    """One of the elements that the Open Source AI Definition asks for. `lacks` names what stands against it."""

    name: Literal["data information", "code", "parameters"]
    verdict: Literal["met", "not met", "not known"]
    lacks: tuple[str, ...]


class Openness(ManifestModel):
    """The Model Openness Framework's class of a release, None when it reaches none; and the elements of OSAID."""

    framework: str = f"{FRAMEWORK} {FRAMEWORK_VERSION}"
    components: tuple[Component, ...]
    model_class: ModelClass | None
    next_class: ModelClass | None
    lacks_for_next: tuple[str, ...]
    osaid: tuple[OsaidElement, ...]
    note: str = NO_CERTIFICATION

    def lacking(self) -> list[Component]:
        """Components that the next class asks for and that are not there, not open, or not known."""
        return [component for component in self.components if component.name in self.lacks_for_next]

    @property
    def class_text(self) -> str:
        """The class as a sentence's part, and what the next one asks for."""
        held = f"class {self.model_class} ({CLASS_NAMES[self.model_class]})" if self.model_class else "no class"
        if self.next_class is None:
            return held
        return (
            f"{held}; class {self.next_class} ({CLASS_NAMES[self.next_class]}) lacks {', '.join(self.lacks_for_next)}"
        )


@dataclass(frozen=True, kw_only=True)
class ComponentKind:
    """A component that the framework knows. A class asks for its own components and those of the wider classes."""

    name: str
    type: ComponentType
    asked_by: ModelClass
    description: str
    required: bool = True


def _kind(
    asked_by: ModelClass, type_: ComponentType, name: str, description: str, *, required: bool = True
) -> ComponentKind:
    return ComponentKind(name=name, type=type_, asked_by=asked_by, description=description, required=required)


ARCHITECTURE, FINAL, INTERMEDIATE = (
    "Model architecture",
    "Model parameters (Final)",
    "Model parameters (Intermediate)",
)
RESULTS, MODEL_CARD, DATA_CARD = "Evaluation results", "Model card", "Data card"
REPORT, PAPER = "Technical report", "Research paper"
TRAINING, INFERENCE, EVALUATION, PREPROCESSING = (
    "Training code",
    "Inference code",
    "Evaluation code",
    "Data preprocessing code",
)
EVALUATION_DATA, DATASETS, METADATA = "Evaluation data", "Datasets", "Model metadata"
OUTPUTS, LIBRARIES = "Sample model outputs", "Supporting libraries and tools"

KINDS: tuple[ComponentKind, ...] = (
    _kind("III", "code", ARCHITECTURE, "Code of the model's architecture"),
    _kind("III", "data", FINAL, "Weights at the end of training"),
    _kind("III", "document", RESULTS, "Results of the evaluations"),
    _kind("III", "document", MODEL_CARD, "Card of the model"),
    _kind("III", "document", DATA_CARD, "Card of the data"),
    _kind("III", "document", REPORT, "Technical report"),
    _kind("III", "document", OUTPUTS, "Examples of what the model writes", required=False),
    _kind("II", "code", TRAINING, "Code that trains the model"),
    _kind("II", "code", INFERENCE, "Code that runs the model"),
    _kind("II", "code", EVALUATION, "Code that evaluates the model"),
    _kind("II", "data", EVALUATION_DATA, "Data that the evaluations use"),
    _kind("II", "code", LIBRARIES, "Libraries and tools used", required=False),
    _kind("I", "data", DATASETS, "Data that the model was trained on"),
    _kind("I", "code", PREPROCESSING, "Code that prepares the data"),
    _kind("I", "data", INTERMEDIATE, "Weights of checkpoints along training"),
    _kind("I", "document", PAPER, "Research paper"),
    _kind("I", "data", METADATA, "Training configuration and optimizer states", required=False),
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found of a component: whether it is there (None: cannot be said), its licence, and how that is known."""

    there: bool | None
    because: str
    license: str | None = None
    path: str | None = None


def judge(found: Mapping[str, Evidence], sources_named: bool | None) -> Openness:
    """Verdict on a release from the evidence for each component, by the names of `KINDS`.

    Args:
        sources_named: whether every source of the data is named; None when that cannot be said.
    Raises:
        KeyError: a component has no evidence.
    """
    components = tuple(_component(kind, found[kind.name]) for kind in KINDS)
    by_name = {component.name: component for component in components}
    reached, following, lacks = _class_of(by_name)
    return Openness(
        components=components,
        model_class=reached,
        next_class=following,
        lacks_for_next=lacks,
        osaid=_osaid(by_name, sources_named),
    )


def _component(kind: ComponentKind, evidence: Evidence) -> Component:
    return Component(
        name=kind.name,
        type=kind.type,
        asked_by=kind.asked_by,
        required=kind.required,
        status=_status(evidence),
        license=evidence.license,
        because=evidence.because,
        path=evidence.path,
    )


def _status(evidence: Evidence) -> ComponentStatus:
    if evidence.there is None:
        return ComponentStatus.UNKNOWN
    if not evidence.there:
        return ComponentStatus.MISSING
    if evidence.license is None:
        return ComponentStatus.UNLICENSED
    return ComponentStatus.OPEN if is_open(evidence.license) else ComponentStatus.NOT_OPEN


def _class_of(by_name: Mapping[str, Component]) -> tuple[ModelClass | None, ModelClass | None, tuple[str, ...]]:
    """The class reached, the next one, and what that lacks. Classes build on each other, from III to I."""
    reached: ModelClass | None = None
    for wanted in _FROM_THE_WIDEST:
        lacks = [
            component.name
            for component in by_name.values()
            if component.asked_by == wanted and component.required and not _counts(component, by_name)
        ]
        if lacks:
            return reached, wanted, tuple(lacks)
        reached = wanted
    return reached, None, ()


def _counts(component: Component, by_name: Mapping[str, Component]) -> bool:
    """Whether a required component is open; a paper stands for the technical report."""
    stands_for_it = component.name == REPORT and by_name[PAPER].status is ComponentStatus.OPEN
    return component.status is ComponentStatus.OPEN or stands_for_it


def _lack(component: Component) -> str:
    return component.name if component.status is ComponentStatus.MISSING else f"{component.name} ({component.status})"


def _osaid(by_name: Mapping[str, Component], sources_named: bool | None) -> tuple[OsaidElement, ...]:
    """Data information: the data are described, and every source is named. The data themselves are not asked for."""
    code = [by_name[name] for name in (ARCHITECTURE, PREPROCESSING, TRAINING, INFERENCE, EVALUATION)]
    lacks = _not_under(code, OSI_APPROVED)
    described = _not_under([by_name[DATA_CARD]], None)
    if not sources_named:
        described.append(("names of all sources", sources_named is None))
    weights = _not_under([by_name[FINAL]], None)
    return (
        _element("data information", described),
        _element("code", lacks),
        _element("parameters", weights),
    )


def _not_under(components: Sequence[Component], among: frozenset[str] | None) -> list[tuple[str, bool]]:
    """`(what is lacking, whether that is only not known)`; `among` are the licences that will do, any open one."""
    found = []
    for part in components:
        is_met = part.status is ComponentStatus.OPEN
        if is_met and among is not None and part.license is not None and not is_open(part.license, among):
            found.append((f"{part.name} (no licence approved by the OSI)", False))
        elif not is_met:
            found.append((_lack(part), part.status is ComponentStatus.UNKNOWN))
    return found


def _element(
    name: Literal["data information", "code", "parameters"], lacks: Sequence[tuple[str, bool]]
) -> OsaidElement:
    verdict: Literal["met", "not met", "not known"] = "met"
    if lacks:
        verdict = "not known" if all(unknown for _, unknown in lacks) else "not met"
    return OsaidElement(name=name, verdict=verdict, lacks=tuple(text for text, _ in lacks))
