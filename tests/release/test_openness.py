"""Classes of openness: the framework's rules, licences, what is told from spec and listing, and `mof.yml`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open360.release.evidence.card_facts import spdx_of
from open360.release.findings import EvidenceLevel, Finding, Location, Report, Severity
from open360.release.license_expressions import license_ids, unknown_ids
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.reports.mof_file import mof_file
from open360.release.reports.open_licenses import is_open
from open360.release.reports.openness import (
    ARCHITECTURE,
    DATA_CARD,
    EVALUATION,
    EVALUATION_DATA,
    FINAL,
    INTERMEDIATE,
    KINDS,
    PAPER,
    REPORT,
    RESULTS,
    TRAINING,
    Component,
    ComponentStatus,
    Evidence,
    Openness,
    judge,
)
from open360.release.reports.openness_evidence import openness_of
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.release.view import ReleaseView
from open360.schema.serialization import load_spec, parse_yaml
from tests.support.foreign_release import RELEASES, change, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.page_server import Pages, page_server
from tests.support.tiny_release import build_tiny_release

OPEN, CLOSED = Evidence(there=True, because="seen", license="MIT"), Evidence(there=True, because="", license="X-1")
GONE, UNKNOWN = Evidence(there=False, because="not there"), Evidence(there=None, because="cannot be said")
BARE = Evidence(there=True, because="seen")
NAMES = [kind.name for kind in KINDS]
REQUIRED = {kind.name: kind.asked_by for kind in KINDS if kind.required}


def _judge(sources_named: bool | None = True, **changes: Evidence) -> Openness:
    """A verdict where everything is open but for what is said, by name with `_` for what is no letter."""
    found = dict.fromkeys(NAMES, OPEN)
    for name, evidence in changes.items():
        (key,) = [known for known in NAMES if "".join(c if c.isalnum() else "_" for c in known).strip("_") == name]
        found[key] = evidence
    return judge(found, sources_named)


def test_there_are_seventeen_components_of_which_fourteen_are_asked_for() -> None:
    assert len(NAMES) == len(set(NAMES)) == 17
    assert sorted(REQUIRED.values()).count("III") == 6
    assert sorted(REQUIRED.values()).count("II") == 4
    assert sorted(REQUIRED.values()).count("I") == 4


def test_a_release_with_every_component_open_is_of_class_one() -> None:
    openness = _judge()
    assert (openness.model_class, openness.next_class, openness.lacks_for_next) == ("I", None, ())
    assert all(element.verdict == "met" for element in openness.osaid)


@pytest.mark.parametrize("evidence", [GONE, UNKNOWN, BARE, CLOSED])
@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_required_component_that_is_not_open_costs_the_class_and_is_named(name: str, evidence: Evidence) -> None:
    openness = judge({**dict.fromkeys(NAMES, OPEN), name: evidence}, True)
    if name == REPORT:  # the paper stands for it
        assert openness.model_class == "I"
        return
    wider = {"III": None, "II": "III", "I": "II"}
    assert openness.model_class == wider[REQUIRED[name]]
    assert openness.next_class == REQUIRED[name]
    assert openness.lacks_for_next == (name,)
    assert openness.lacking()[0].because == evidence.because
    assert name in openness.class_text


def test_a_report_does_not_stand_for_the_paper_and_nothing_stands_for_both() -> None:
    assert _judge(Research_paper=GONE).model_class == "II"
    both = _judge(Research_paper=GONE, Technical_report=GONE)
    assert (both.model_class, both.lacks_for_next) == (None, (REPORT,))


def test_components_that_are_optional_cost_nothing() -> None:
    openness = _judge(Sample_model_outputs=GONE, Supporting_libraries_and_tools=UNKNOWN, Model_metadata=BARE)
    assert openness.model_class == "I"


statuses = st.sampled_from([OPEN, CLOSED, GONE, UNKNOWN, BARE])


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, statuses)), st.sampled_from(NAMES))
def test_opening_a_further_component_never_lowers_the_class(found: dict[str, Evidence], name: str) -> None:
    order = [None, "III", "II", "I"]
    before, after = judge(found, None), judge({**found, name: OPEN}, None)
    assert order.index(before.model_class) <= order.index(after.model_class)
    for old, new in zip(before.osaid, after.osaid, strict=True):
        assert not (old.verdict == "met" and new.verdict != "met")


def test_osaid_asks_for_code_parameters_and_information_on_the_data_but_not_for_the_data() -> None:
    data, code, parameters = _judge(Datasets=GONE, Model_parameters__Intermediate=GONE).osaid
    assert [element.verdict for element in (data, code, parameters)] == ["met"] * 3
    assert _judge(Data_card=GONE).osaid[0].verdict == "not met"
    assert _judge(sources_named=None).osaid[0].verdict == "not known"
    assert _judge(sources_named=False).osaid[0].lacks == ("names of all sources",)
    assert _judge(Training_code=UNKNOWN).osaid[1].verdict == "not known"
    assert _judge(Training_code=UNKNOWN, Inference_code=GONE).osaid[1].verdict == "not met"
    assert _judge(Model_parameters__Final=BARE).osaid[2].verdict == "not met"


def test_osaid_takes_code_under_licences_of_the_osi_only() -> None:
    openness = _judge(Training_code=Evidence(there=True, because="", license="CC-BY-4.0"))
    assert openness.model_class == "I"
    assert openness.osaid[1].verdict == "not met"
    assert "OSI" in openness.osaid[1].lacks[0]


def test_the_verdict_says_that_it_is_no_certification() -> None:
    assert "no certification" in _judge().note


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Apache-2.0", True),
        ("mit", True),
        ("ODC-By-1.0", True),
        ("OpenMDW-1.1", True),
        ("CC-BY-3.0-NL", True),
        ("BSD-3-Clause AND MIT", True),
        ("CC-BY-NC-4.0 OR MIT", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("CC-BY-NC-4.0", False),
        ("MIT AND CC-BY-NC-4.0", False),
        ("(MIT OR Apache-2.0) AND CC-BY-ND-4.0", False),
        ("LicenseRef-BigScience-BLOOM-RAIL-1.0", False),
        ("llama2", False),
        ("((", False),
        ("", False),
    ],
)
def test_an_expression_is_open_when_its_terms_are(expression: str, expected: bool) -> None:
    assert is_open(expression) is expected


@given(st.text(alphabet="AMITNDOR()+- .0123456789", max_size=40))
@example("()")
@example("MIT OR ( )")
def test_no_text_makes_the_reading_of_licences_fail(text: str) -> None:
    assert is_open(text) in (True, False)
    assert isinstance(license_ids(text), frozenset)
    assert all(isinstance(name, str) for name in unknown_ids(text))
    assert spdx_of(text) is None or isinstance(spdx_of(text), str)


def test_empty_brackets_are_no_licence() -> None:
    assert unknown_ids("MIT OR ()") == ["MIT OR ()"]
    assert spdx_of("()") == "LicenseRef-unnamed"


# What a release shows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "tiny")
    return tmp_path / "tiny"


def _of_folder(folder: Path, level: EvidenceLevel = EvidenceLevel.LISTED) -> dict[str, Component]:
    openness = openness_of(ReleaseView(FolderTarget(folder), level), [])
    assert openness is not None
    return {component.name: component for component in openness.components}


def _edit_spec(folder: Path, old: str, new: str) -> None:
    file = folder / "release.yaml"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))


def test_a_release_of_ones_own_has_code_weights_and_data_and_lacks_what_it_does_not_name(tiny: Path) -> None:
    found = _of_folder(tiny)
    for name in (ARCHITECTURE, TRAINING, FINAL, INTERMEDIATE):
        assert found[name].status is ComponentStatus.OPEN, found[name]
    assert found[PAPER].status is ComponentStatus.MISSING
    assert found[REPORT].because == "the spec links no technical report"


def test_each_component_has_the_licence_of_its_type(tiny: Path) -> None:
    _edit_spec(
        tiny,
        "licenses: {weights: Apache-2.0, data: MIT, code: Apache-2.0, documents: CC-BY-4.0}",
        "licenses: {weights: CC-BY-NC-4.0, data: MIT}",
    )
    found = _of_folder(tiny)
    assert (found[FINAL].status, found[FINAL].license) == (ComponentStatus.NOT_OPEN, "CC-BY-NC-4.0")
    assert found[TRAINING].status is ComponentStatus.UNLICENSED
    assert found["Datasets"].license == "MIT"


def test_weights_that_are_not_listed_are_missing(tiny: Path) -> None:
    for file in (tiny / "runs" / "tiny" / "checkpoints").glob("*/model.safetensors"):
        file.unlink()
    found = _of_folder(tiny)
    assert found[FINAL].status is ComponentStatus.MISSING
    assert found[INTERMEDIATE].status is ComponentStatus.MISSING


def test_chunks_that_are_not_listed_are_missing(tiny: Path) -> None:
    next((tiny / "runs" / "tiny" / "chunks").iterdir()).unlink()
    assert _of_folder(tiny)["Datasets"].status is ComponentStatus.MISSING


def test_at_level_declared_nothing_is_said_of_files(tiny: Path) -> None:
    found = _of_folder(tiny, EvidenceLevel.DECLARED)
    for name in (FINAL, INTERMEDIATE, DATA_CARD, "Datasets"):
        assert found[name].status is ComponentStatus.UNKNOWN, name


def test_a_report_and_a_paper_that_are_linked_count(tiny: Path) -> None:
    _edit_spec(
        tiny,
        "code:\n",
        "links:\n  - {name: paper, url: 'https://example.org/p'}\n"
        "  - {name: technical report, url: 'https://example.org/r'}\ncode:\n",
    )
    found = _of_folder(tiny)
    assert found[PAPER].path == "https://example.org/p"
    assert found[REPORT].status is ComponentStatus.OPEN


def test_a_spec_that_cannot_be_read_gives_no_verdict(tiny: Path) -> None:
    (tiny / "release.yaml").write_text("open360: [")
    report = validate(FolderTarget(tiny), level=EvidenceLevel.LISTED, rules=RULES)
    assert report.openness is None
    assert report.dial is not None and report.dial.degrees < 72


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where foreign releases lie."""

    url: str
    folder: HubFolder
    pages: Pages


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running, page_server() as pages:
        yield Elsewhere(url=running.url, folder=HubFolder(running.directory), pages=pages)


def _foreign_view(name: str, place: Elsewhere, folder: Path, do: list[dict[str, Any]]) -> ReleaseView:
    release = RELEASES[name]()
    change(release, do)
    place.folder.clear()
    file = folder / "spec.yaml"
    file.write_bytes(put_on_hub(release, place.folder, place.pages))
    repo = next(name for name in release.repos if not name.startswith("datasets/"))
    target = open_any_target(repo, spec=file, endpoint=place.url)
    return ReleaseView(target, EvidenceLevel.LISTED)


def _of_foreign(view: ReleaseView, findings: list[Finding] | None = None) -> tuple[Openness, dict[str, Component]]:
    openness = openness_of(view, findings or [])
    assert openness is not None
    return openness, {component.name: component for component in openness.components}


@pytest.mark.parametrize("name", ["pythia", "olmo", "amber", "k2"])
def test_of_a_foreign_release_is_said_what_spec_and_listing_show(
    name: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    openness, found = _of_foreign(_foreign_view(name, elsewhere, tmp_path, []))
    assert openness.model_class == "III"
    for component in (FINAL, INTERMEDIATE, RESULTS, DATA_CARD, EVALUATION):
        assert found[component].status is ComponentStatus.OPEN, found[component]
    # Benchmarks belong to others, and no spec states their licence: it is not guessed.
    assert found[EVALUATION_DATA].status is ComponentStatus.UNKNOWN
    assert found["Sample model outputs"].status is ComponentStatus.UNKNOWN


def test_a_foreign_repository_without_a_card_lacks_it(elsewhere: Elsewhere, tmp_path: Path) -> None:
    do = [{"remove": "datasets/LLM360/AmberTinyDatasets@main/README.md"}]
    openness, found = _of_foreign(_foreign_view("amber", elsewhere, tmp_path, do))
    assert found[DATA_CARD].status is ComponentStatus.MISSING
    assert openness.model_class is None


def test_what_a_finding_shows_to_be_gone_is_missing(elsewhere: Elsewhere, tmp_path: Path) -> None:
    view = _foreign_view("amber", elsewhere, tmp_path, [])
    index = next(index for index, link in enumerate(view.spec.links) if link.name == "paper")
    dead = Finding(
        code="HUB003",
        name="dead-address",
        severity=Severity.ERROR,
        location=Location(path="spec.yaml", pointer=f"/links/{index}/url"),
        subject="paper",
        message="link: is gone",
        fix="name another",
    )
    elsewhere_dead = dead.model_copy(update={"location": Location(path="spec.yaml", pointer="/links/99/url/x")})
    assert _of_foreign(view, [elsewhere_dead])[1][PAPER].status is ComponentStatus.OPEN
    assert _of_foreign(view)[1][PAPER].status is ComponentStatus.OPEN
    assert _of_foreign(view, [dead])[1][PAPER].status is ComponentStatus.MISSING


# mof.yml

# The main constraints of the Model Openness Tool's own schema.
TEXT = {"type": "string"}
NAMED = {"type": "object", "properties": {"name": TEXT, "path": TEXT}}
MOF_SCHEMA = {
    "type": "object",
    "required": ["framework", "release"],
    "properties": {
        "framework": {
            "type": "object",
            "required": ["name", "version", "date"],
            "properties": {"name": {"const": "Model Openness Framework"}, "version": TEXT, "date": TEXT},
        },
        "release": {
            "type": "object",
            "required": ["name", "license", "producer", "components"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "version": TEXT,
                "date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
                "license": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"code": NAMED, "data": NAMED, "document": NAMED},
                },
                "type": {"const": "language"},
                "architecture": {"enum": ["", "transformer decoder"]},
                "treatment": {"enum": ["pre-trained", "instruct fine-tuned", "chat fine-tuned"]},
                "origin": TEXT,
                "producer": TEXT,
                "contact": TEXT,
                "components": {
                    "type": "array",
                    "maxItems": 17,
                    "items": {
                        "type": "object",
                        "required": ["name", "description"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"enum": NAMES},
                            "description": TEXT,
                            "license": TEXT,
                            "component_path": TEXT,
                        },
                    },
                },
            },
        },
    },
}


def _mof(folder: Path) -> dict[str, Any]:
    spec = load_spec((folder / "release.yaml").read_bytes())
    openness = openness_of(ReleaseView(FolderTarget(folder), EvidenceLevel.LISTED), [])
    assert openness is not None
    plain, _ = parse_yaml(mof_file(spec, openness), "mof.yml")
    jsonschema.validate(plain, MOF_SCHEMA)
    return dict(plain)


def test_the_file_of_the_tool_holds_what_is_there_and_the_licences_by_type(tiny: Path) -> None:
    file = _mof(tiny)["release"]
    components = {component["name"]: component for component in file["components"]}
    assert file["license"] == {
        "code": {"name": "Apache-2.0", "path": ""},
        "data": {"name": "MIT", "path": ""},
        "document": {"name": "CC-BY-4.0", "path": ""},
    }
    assert components[FINAL]["license"] == "Apache-2.0"  # not that of the data
    assert "license" not in components[TRAINING]  # inherited
    assert PAPER not in components
    assert file["producer"] == "The open360 authors"


def test_a_component_without_licence_says_so_in_the_file(tiny: Path) -> None:
    _edit_spec(tiny, "code: Apache-2.0, documents: CC-BY-4.0}", "documents: CC-BY-4.0}")
    components = {component["name"]: component for component in _mof(tiny)["release"]["components"]}
    assert components[TRAINING]["license"] == "unlicensed"


def test_the_report_holds_the_verdict(tiny: Path) -> None:
    rules = [rule for rule in RULES if rule.code != "CKP014"]
    report: Report = validate(FolderTarget(tiny), level=EvidenceLevel.LISTED, rules=rules)
    assert report.openness is not None
    assert report.openness.framework == "Model Openness Framework 1.0"
