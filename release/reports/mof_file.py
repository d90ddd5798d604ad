"""`mof.yml`: a release in the format that the Model Openness Tool reads (its `schema/mof_schema.json`).

Components that are missing, or of which nothing is known, are left out. A component names its licence where that is
not the one of its type.
"""

from __future__ import annotations

from open360.release.quoted import Quoted
from open360.release.reports.openness import (
    FRAMEWORK,
    FRAMEWORK_DATE,
    FRAMEWORK_VERSION,
    KINDS,
    TRANSFORMERS_DECODERS,
    Component,
    ComponentStatus,
    Openness,
)
from open360.schema.model import ManifestModel
from open360.schema.serialization import dump_yaml
from open360.schema.spec import ReleaseSpec

UNLICENSED = "unlicensed"


class MofFramework(ManifestModel):
    """Which framework the file speaks of."""

    name: str
    version: str
    date: str


class MofLicense(ManifestModel):
    """A licence for all components of a type."""

    name: Quoted
    path: Quoted


class MofComponent(ManifestModel):
    """A component that is part of the release."""

    name: Quoted
    description: Quoted
    license: Quoted | None = None
    component_path: Quoted | None = None


class MofRelease(ManifestModel):
    """A release as the tool describes it."""

    name: Quoted
    version: Quoted
    date: Quoted | None = None
    license: dict[str, MofLicense]
    type: Quoted
    architecture: Quoted
    treatment: Quoted
    origin: Quoted
    producer: Quoted
    contact: Quoted
    repository: Quoted | None = None
    huggingface: Quoted | None = None
    components: tuple[MofComponent, ...]


class MofFile(ManifestModel):
    """The whole file."""

    framework: MofFramework
    release: MofRelease


def mof_file(spec: ReleaseSpec, openness: Openness) -> bytes:
    """`mof.yml` of a release."""
    framework = MofFramework(name=FRAMEWORK, version=FRAMEWORK_VERSION, date=FRAMEWORK_DATE)
    return dump_yaml(MofFile(framework=framework, release=_release(spec, openness)))


def _release(spec: ReleaseSpec, openness: Openness) -> MofRelease:
    root = spec.root_run()
    terms = {"code": spec.licenses.code, "data": spec.licenses.data, "document": spec.licenses.documents}
    types = {str(run.architecture.get("model_type")) for run in spec.all_runs()}
    model = root.hub.model if root is not None else None
    parent = root.parent.release if root is not None and root.parent is not None else None
    return MofRelease(
        name=spec.name,
        version=spec.version,
        date=spec.date.isoformat() if spec.date is not None else None,
        license={kind: MofLicense(name=name, path="") for kind, name in terms.items() if name is not None},
        type="language",
        architecture="transformer decoder" if types and types <= TRANSFORMERS_DECODERS else "",
        treatment="pre-trained" if root is None or root.objective == "pretrain" else "instruct fine-tuned",
        origin=parent or spec.name,
        producer=", ".join(author.name for author in spec.authors) or (model or spec.name).split("/")[0],
        contact=next((author.email for author in spec.authors if author.email), ""),
        repository=next((code.repository for code in spec.code if code.repository), None),
        huggingface=f"https://huggingface.co/{model}" if model is not None else None,
        components=tuple(
            _component(component, terms[component.type]) for component in openness.components if component.is_there
        ),
    )


def _component(component: Component, of_its_type: str | None) -> MofComponent:
    description = next(kind.description for kind in KINDS if kind.name == component.name)
    terms = UNLICENSED if component.status is ComponentStatus.UNLICENSED else component.license
    return MofComponent(
        name=component.name,
        description=description,
        license=terms if terms != of_its_type else None,
        component_path=component.path,
    )
