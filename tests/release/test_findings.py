"""Findings and reports as data: ordered, equal after a round trip, with no trace of where and when."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

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
from open360.release.reporters import json_report, parse_report

words = st.text(max_size=12)
locations = st.builds(
    Location, path=words, line=st.none() | st.integers(1, 99), column=st.none() | st.integers(1, 99), pointer=words
)
findings = st.builds(
    Finding,
    code=words,
    name=words,
    severity=st.sampled_from(Severity),
    location=locations,
    subject=words,
    message=words,
    fix=words,
)
reports = st.builds(
    Report,
    report_version=st.just(1),
    target=words,
    release=st.none() | words,
    version=st.none() | words,
    level=st.sampled_from(EvidenceLevel),
    findings=st.lists(findings, max_size=4).map(tuple),
    skipped=st.lists(st.builds(SkippedRule, code=words, name=words, reason=words), max_size=3).map(tuple),
    waived=st.lists(st.builds(WaivedFinding, finding=findings, reason=words, until=st.none() | words), max_size=2).map(
        tuple
    ),
    checked=st.builds(Checked, rules=st.integers(0, 99)),
)


@given(reports)
def test_a_report_is_the_same_after_a_round_trip(report: Report) -> None:
    text = json_report(report)
    assert parse_report(text) == report
    assert json_report(parse_report(text)) == text


@given(st.lists(findings, max_size=6))
def test_findings_have_one_order(found: list[Finding]) -> None:
    orders = {tuple(sorted(order, key=Finding.sort_key)) for order in itertools.permutations(found[:4])}
    assert len(orders) == 1


def test_a_severity_is_at_least_as_grave_as_itself_and_what_follows() -> None:
    assert Severity.ERROR.is_at_least(Severity.WARNING)
    assert Severity.WARNING.is_at_least(Severity.WARNING)
    assert not Severity.NOTE.is_at_least(Severity.WARNING)


def test_a_level_includes_those_before_it() -> None:
    levels = list(EvidenceLevel)
    assert [str(level) for level in levels] == ["declared", "listed", "hashed", "loaded", "replayed"]
    for a, b in itertools.product(levels, levels):
        assert a.includes(b) == (levels.index(a) >= levels.index(b))


def test_the_text_of_a_finding_names_its_subject_once() -> None:
    finding = Finding(
        code="INT001",
        name="missing-file",
        severity=Severity.ERROR,
        location=Location(path="a.txt"),
        subject="a.txt",
        message="found none",
        fix="build it",
    )
    assert finding.text == "found none"
    other = finding.model_copy(update={"subject": "ckpt_001"})
    assert other.text == "ckpt_001: found none"
    assert other.model_copy(update={"message": "'ckpt_001' is gone"}).text == "'ckpt_001' is gone"
