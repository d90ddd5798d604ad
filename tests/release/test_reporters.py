"""Reports as text for people and programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from open360.release.findings import (
    Checked,
    EvidenceLevel,
    Finding,
    Location,
    Report,
    Severity,
    SkippedRule,
    WaivedFinding,
)
from open360.release.reporters import (
    REPORTERS,
    github_report,
    json_report,
    parse_report,
    printable,
    sarif_report,
    text_report,
)
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
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
REPORT = Report(
    target=".",
    release="tiny",
    version="1.0.0",
    level=EvidenceLevel.HASHED,
    findings=(HOSTILE, WARNING),
    skipped=(SkippedRule(sector=Sector.DATA, code="DAT002", name="chunk-rows", reason="it looks closer"),),
    waived=(WaivedFinding(finding=WARNING, reason="it was published so", until="2027-01-01"),),
    checked=Checked(rules=3, listed_files=5, hashed_files=1, hashed_bytes=12_345),
)


def test_the_text_shows_each_finding_in_one_place_with_its_fix_and_counts_at_the_end() -> None:
    lines = text_report(REPORT).splitlines()
    assert lines[0] == ("release.yaml:9:3: error LIC001 co,de: 50% of\\n::error::it\\x1b[31m is, well: missing")
    assert lines[1] == "  fix: add\\r\\n'code: <SPDX id>'"
    assert lines[2] == "runs/a b/x.bin: warning CKP007 ckpt_001: it is a pickle"
    assert lines[4].startswith("runs/a b/x.bin: waived CKP007") and "it was published so" in lines[4]
    assert lines[5] == "skipped DAT002 chunk-rows, because it looks closer"
    assert lines[6] == "tiny 1.0.0: 1 error, 1 warning, 0 notes, 1 waived, 1 rule skipped."
    assert lines[7] == "Evidence level 'hashed': 3 rules checked, 5 files listed, 1 file hashed (12,345 bytes)."
    assert lines[8] == "'open360 rules LIC001' explains a rule."


def test_long_messages_are_not_broken_into_lines() -> None:
    long = REPORT.model_copy(update={"findings": (WARNING.model_copy(update={"message": "word " * 5000}),)})
    assert "word " * 4999 in text_report(long)


def test_colours_are_written_only_when_asked_for() -> None:
    assert "\x1b[" not in text_report(REPORT)
    assert "\x1b[" in text_report(REPORT, color=True)


def test_a_report_as_json_has_a_version_and_reads_back() -> None:
    text = json_report(REPORT)
    assert json.loads(text)["report_version"] == 1
    assert parse_report(text) == REPORT


def test_annotations_cannot_be_broken_out_of() -> None:
    lines = github_report(REPORT).splitlines()
    assert lines[0] == (
        "::error file=release.yaml,line=9,col=3,title=LIC001 license-missing::"
        "co,de: 50%25 of%0A::error::it\x1b[31m is, well: missing%0Afix: add%0D%0A'code: <SPDX id>'"
    ).replace("\x1b", "\\x1b")
    assert lines[1].startswith("::warning file=runs/a b/x.bin,title=CKP007 pickle-weights::")
    assert len(lines) == 3


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
