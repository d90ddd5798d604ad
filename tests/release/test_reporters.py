"""Reports as text for people and programs."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.findings import (
    Checked,
    EvidenceLevel,
    Finding,
    Location,
    Outcome,
    Part,
    Report,
    Sample,
    Sector,
    Severity,
    SkippedRule,
    WaivedFinding,
)
from open360.release.reports.reporters import (
    REPORTERS,
    github_report,
    html_report,
    json_report,
    parse_report,
    printable,
    sarif_report,
    text_report,
)
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from tests.support.report_strategies import reports
from tests.support.tiny_release import build_tiny_release

HOSTILE = Finding(
    code="LIC001",
    name="license-missing",
    severity=Severity.ERROR,
    location=Location(path="release.yaml", line=9, column=3, pointer="/licenses/code"),
    subject="co,de",
    message="50% of\n::error::it\x1b[31m is, well: missing",
    fix="add\r\n'code: <SPDX id>'",
)
WARNING = Finding(
    code="CKP007",
    name="pickle-weights",
    severity=Severity.WARNING,
    location=Location(path="runs/a b/x.bin"),
    subject="ckpt_001",
    message="it is a pickle",
    fix="save it again",
)


def _outcome(code: str, name: str, sector: Sector, part: Part, claims: int, broken: int) -> Outcome:
    return Outcome(
        code=code, name=name, sector=sector, level=EvidenceLevel.LISTED, part=part, claims=claims, broken=broken
    )


REPORT = Report(
    target=".",
    release="tiny",
    version="1.0.0",
    level=EvidenceLevel.HASHED,
    findings=(HOSTILE, WARNING),
    outcomes=(
        _outcome("CKP007", "pickle-weights", Sector.CHECKPOINTS, Part.CHECKPOINT, 4, 1),
        _outcome("CKP016", "label-differs", Sector.CHECKPOINTS, Part.CHECKPOINT, 0, 0),
        _outcome("LIC001", "license-missing", Sector.LINEAGE, Part.RELEASE, 1, 1),
    ),
    skipped=(
        SkippedRule(sector=Sector.DATA, code="DAT002", name="chunk-rows", reason="it looks closer"),
        SkippedRule(sector=Sector.DATA, code="DAT003", name="trained-on-other-rows", reason="it looks closer"),
    ),
    waived=(WaivedFinding(finding=WARNING, reason="it was published so", until="2027-01-01"),),
    checked=Checked(rules=3, listed_files=5, hashed_files=1, hashed_bytes=12_345),
)


def _many(count: int, **changes: Any) -> Report:
    found = [
        WARNING.model_copy(update={"location": Location(path=f"x{n}.bin"), "subject": f"ckpt_{n:03d}"})
        for n in range(count)
    ]
    return REPORT.model_copy(update={"findings": tuple(found), **changes})


# Text


def test_the_text_groups_findings_by_rule_with_the_fix_once() -> None:
    lines = text_report(REPORT).splitlines()
    assert lines[:8] == [
        "LIC001 license-missing: error, 1 finding (lineage and licences)",
        "  release.yaml:9:3: co,de: 50% of\\n::error::it\\x1b[31m is, well: missing",
        "  fix: add\\r\\n'code: <SPDX id>'",
        "",
        "CKP007 pickle-weights: warning, 1 finding (checkpoints)",
        "  runs/a b/x.bin: ckpt_001: it is a pickle",
        "  fix: save it again",
        "",
    ]
    assert lines[8] == "CKP007 pickle-weights: waived, 1 finding (checkpoints)"
    assert "  accepted in the spec: it was published so (until 2027-01-01)" in lines


def test_the_text_tells_what_was_skipped_and_why_what_holds_at_which_level_and_counts_at_the_end() -> None:
    text = text_report(REPORT)
    lines = text.splitlines()
    at = lines.index("Not looked at")
    assert lines[at + 1 : at + 3] == [
        "  DAT002 chunk-rows, DAT003 trained-on-other-rows",
        "    because it looks closer",
    ]
    assert re.search(r"CKP007 pickle-weights +listed +3 of 4 checkpoints hold", text)
    assert re.search(r"LIC001 license-missing +listed +broken", text)
    assert "  nothing to look at: CKP016 label-differs" in lines
    assert "Dial: 54° of 360°, looked at level hashed" in lines
    assert re.search(r"  checkpoints +54° of 72°: 75% held, 25% broken, 0% not looked at", text)
    assert lines[-3:] == [
        "Evidence level 'hashed': 3 rules checked, 5 files listed, 1 file hashed (12,345 bytes).",
        "'open360 rules LIC001' explains a rule.",
        "tiny 1.0.0: 1 error, 1 warning, 0 notes, 1 waived, 2 rules skipped.",
    ]


def test_of_many_findings_of_a_rule_ten_are_shown_unless_all_are_asked_for() -> None:
    text = text_report(_many(86))
    assert "CKP007 pickle-weights: warning, 86 findings" in text
    assert text.count("it is a pickle") == 11  # and the waived one
    assert "  … and 76 more: --all shows them" in text.splitlines()
    assert text.count("  fix: save it again") == 1
    every = text_report(_many(86), every=True)
    assert every.count("it is a pickle") == 87
    assert "--all" not in every


def test_fixes_that_differ_stand_below_their_findings() -> None:
    other = WARNING.model_copy(update={"fix": "remove it", "subject": "ckpt_002"})
    lines = text_report(REPORT.model_copy(update={"findings": (WARNING, other)})).splitlines()
    assert lines[1:5] == [
        "  runs/a b/x.bin: ckpt_001: it is a pickle",
        "    fix: save it again",
        "  runs/a b/x.bin: ckpt_002: it is a pickle",
        "    fix: remove it",
    ]


def test_the_text_says_where_the_spec_is_from_and_what_share_was_looked_at() -> None:
    assert "Judged" not in text_report(REPORT) and "sample" not in text_report(REPORT)
    foreign = REPORT.model_copy(
        update={"spec_origin": "catalogue entry 'pythia'", "sample": Sample(share=0.1, seed=7), "target": "a/b"}
    )
    text = text_report(foreign)
    assert "Judged by catalogue entry 'pythia'." in text
    assert "A sample: 0.1 of what costs much to look at, chosen by seed 7" in text
    guess = text_report(foreign.model_copy(update={"spec_is_guess": True}))
    assert "Judged by a guess: no spec is known; '--save-draft FILE' writes it down" in guess


def test_the_text_names_the_class_of_openness_and_what_the_next_one_lacks(tmp_path: Path) -> None:
    report = validate(FolderTarget(build_tiny_release(tmp_path / "tiny")), level=EvidenceLevel.LISTED)
    text = text_report(report)
    assert "Model Openness Framework 1.0: no class; class III (Open Model) lacks Technical report" in text
    assert "  Technical report: missing, the spec links no technical report" in text.splitlines()
    assert re.search(r"  parameters +met", text)
    assert "no certification" in text


def test_long_messages_are_not_broken_into_lines() -> None:
    long = REPORT.model_copy(update={"findings": (WARNING.model_copy(update={"message": "word " * 5000}),)})
    assert "word " * 4999 in text_report(long)


def test_colours_are_written_only_when_asked_for() -> None:
    assert "\x1b[" not in text_report(REPORT)
    assert "\x1b[" in text_report(REPORT, color=True)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(reports)
def test_no_text_of_a_release_steers_the_terminal(report: Report) -> None:
    for text in (text_report(report, every=True), github_report(report)):
        assert all(character.isprintable() or character == "\n" for character in text)


# JSON


def test_a_report_as_json_has_a_version_and_reads_back() -> None:
    text = json_report(REPORT)
    assert json.loads(text)["report_version"] == 1
    assert parse_report(text) == REPORT


# GitHub


def test_annotations_cannot_be_broken_out_of() -> None:
    lines = github_report(REPORT).splitlines()
    assert lines[0] == (
        "::error file=release.yaml,line=9,col=3,title=LIC001 license-missing::"
        "co,de: 50%25 of%0A::error::it\x1b[31m is, well: missing%0Afix: add%0D%0A'code: <SPDX id>'"
    ).replace("\x1b", "\\x1b")
    assert lines[1].startswith("::warning file=runs/a b/x.bin,title=CKP007 pickle-weights::")
    assert lines[2] == "::notice title=open360::tiny 1.0.0: 54° of 360°, looked at level hashed"
    assert len(lines) == 4


def test_annotations_of_a_release_elsewhere_name_the_place_in_the_text() -> None:
    line = github_report(REPORT.model_copy(update={"target": "a/b"})).splitlines()[0]
    assert line.startswith("::error title=LIC001 license-missing::release.yaml:9:3: co,de:")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(reports)
def test_every_finding_is_one_annotation(report: Report) -> None:
    lines = github_report(report).splitlines()
    assert len(lines) == len(report.findings) + 2
    assert all(re.match(r"::(error|warning|notice) ", line) for line in lines[:-1])


# SARIF: the constraints of the standard's own JSON Schema on the parts that are written.

_MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_URI = {"type": "string", "pattern": r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*$"}
_RESULT = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "ruleId": {"type": "string"},
        "level": _LEVEL,
        "message": _MESSAGE,
        "locations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "physicalLocation": {
                        "type": "object",
                        "required": ["artifactLocation"],
                        "properties": {
                            "artifactLocation": {"type": "object", "properties": {"uri": _URI}},
                            "region": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "startLine": {"type": "integer", "minimum": 1},
                                    "startColumn": {"type": "integer", "minimum": 1},
                                },
                            },
                        },
                    },
                    "logicalLocations": {"type": "array", "uniqueItems": True},
                },
            },
        },
        "suppressions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"enum": ["inSource", "external"]}, "status": {"enum": ["accepted"]}},
            },
        },
    },
}
_RULE = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "shortDescription": _MESSAGE,
        "fullDescription": _MESSAGE,
        "help": _MESSAGE,
        "defaultConfiguration": {"type": "object", "properties": {"level": _LEVEL}},
        "properties": {"type": "object"},
    },
}
SARIF_CONSTRAINTS = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {"rules": {"type": "array", "uniqueItems": True, "items": _RULE}},
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "properties": {
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["message"],
                                        "properties": {"level": _LEVEL, "message": _MESSAGE},
                                    },
                                }
                            },
                        },
                    },
                    "results": {"type": "array", "items": _RESULT},
                    "properties": {"type": "object"},
                },
            },
        },
    },
}


def test_sarif_tells_rules_results_places_and_suppressions() -> None:
    sarif = json.loads(sarif_report(REPORT))
    (run,) = sarif["runs"]
    assert sarif["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.code for rule in RULES]
    first, second, waived = run["results"]
    assert (first["ruleId"], first["level"]) == ("LIC001", "error")
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "release.yaml", "uriBaseId": "RELEASE"}
    assert place["region"] == {"startLine": 9, "startColumn": 3}
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "runs/a%20b/x.bin"
    assert "suppressions" not in second
    assert waived["suppressions"][0]["justification"] == "it was published so"
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert notes[0]["associatedRule"] == {"id": "DAT002"}
    assert run["properties"]["degrees"] == 54


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(reports)
def test_sarif_keeps_the_constraints_of_its_standard(report: Report) -> None:
    jsonschema.validate(json.loads(sarif_report(report)), SARIF_CONSTRAINTS)


def test_a_message_brings_no_link_into_sarif() -> None:
    bait = WARNING.model_copy(update={"message": "see [the fix](https://example.org/bait)"})
    (result, _) = json.loads(sarif_report(REPORT.model_copy(update={"findings": (bait,)})))["runs"][0]["results"]
    assert "\\[the fix\\](" in result["message"]["text"]


# HTML


class _Page(HTMLParser):
    """Collects tags with their attributes, and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


BAIT = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202etxt.exe {{ 7*7 }} ' \" &lt;"


def _hostile() -> Report:
    finding = Finding(
        code=BAIT,
        name=BAIT,
        severity=Severity.ERROR,
        location=Location(path=BAIT),
        subject=BAIT,
        message=BAIT,
        fix=BAIT,
    )
    return REPORT.model_copy(
        update={
            "target": BAIT,
            "release": BAIT,
            "version": BAIT,
            "spec_origin": BAIT,
            "findings": (finding, finding.model_copy(update={"fix": "other"}), WARNING),
            "skipped": (SkippedRule(sector=Sector.DATA, code=BAIT, name=BAIT, reason=BAIT),),
            "waived": (WaivedFinding(finding=finding, reason=BAIT, until=BAIT),),
            "outcomes": (_outcome(BAIT, BAIT, Sector.DATA, Part.FILE, 3, 1),),
        }
    )


def test_hostile_text_stays_text_in_the_page() -> None:
    page = html_report(_hostile())
    assert "\x1b" not in page and "\u202e" not in page
    parsed = _Page(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "iframe", "object", "embed", "form"}
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in parsed.text  # shown, not run
    assert "{{ 7*7 }}" in parsed.text and "49 '" not in parsed.text
    assert "\\u202etxt.exe" in parsed.text


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(reports, st.text(alphabet="<>&'\"/ascript\x1b\u202e{}%=", max_size=30))
def test_no_report_changes_which_tags_a_page_has(report: Report, bait: str) -> None:
    plain = report.model_copy(update={"release": "x", "target": "."})
    baited = report.model_copy(update={"release": bait, "target": "."})
    assert [tag for tag, _ in _Page(html_report(baited)).tags] == [tag for tag, _ in _Page(html_report(plain)).tags]


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    page = html_report(REPORT)
    parsed = _Page(page)
    addresses = [
        value
        for tag, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data")
    ]
    assert addresses == ["data:,"]
    assert "@import" not in page and re.findall(r"url\((?!#)", page) == []
    policy = next(a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_the_page_shows_dial_findings_fixes_documentation_claims_and_reasons() -> None:
    page = html_report(_many(86))
    text = _Page(page).text
    assert "54°" in text
    assert "CKP007 pickle-weights warning, 86 findings" in text
    assert text.count("it is a pickle") == 87
    assert "and 76 more" in text
    assert "Fix: save it again" in text
    assert "Seen in practice" in text
    assert "3 of 4 checkpoints hold" in text
    assert "it looks closer" in text
    assert "it was published so (until 2027-01-01)" in text


def test_a_page_of_a_clean_release_says_that_nothing_was_found(tmp_path: Path) -> None:
    report = validate(FolderTarget(build_tiny_release(tmp_path / "tiny")), level=EvidenceLevel.LISTED)
    text = html.unescape(_Page(html_report(report)).text)
    assert "No finding." in text
    assert "Model Openness Framework 1.0" in text and "no certification" in text


# All


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(reports)
def test_no_report_makes_a_reporter_fail(report: Report) -> None:
    for style in REPORTERS.values():
        assert style(report).endswith("\n") or style is html_report


@pytest.mark.parametrize("style", list(REPORTERS))
def test_every_style_is_the_same_for_the_same_release(style: str, tmp_path: Path) -> None:
    folder = build_tiny_release(tmp_path / "tiny")
    (folder / "release.yaml").write_text((folder / "release.yaml").read_text().replace("license: MIT", "license: Mit!"))
    shutil.copytree(folder, tmp_path / "other")
    rules = [rule for rule in RULES if rule.code != "CKP014"]
    texts = {
        REPORTERS[style](validate(FolderTarget(tmp_path / name), level=EvidenceLevel.LOADED, rules=rules))
        for name in ("tiny", "other")
    }
    assert len(texts) == 1


def test_printable_text_shows_everything_else_as_escapes() -> None:
    assert printable("a\x1b]0;x\x07\nü\u202e") == "a\\x1b]0;x\\x07\\nü\\u202e"


def test_a_report_of_a_folder_below_names_places_from_above() -> None:
    moved = REPORT.below("releases/tiny")
    assert {f.location.path for f in moved.findings} == {f"releases/tiny/{f.location.path}" for f in REPORT.findings}
    assert "file=releases/tiny/release.yaml" in github_report(moved)
