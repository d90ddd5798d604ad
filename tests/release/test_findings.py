"""Findings and reports as data: ordered, equal after a round trip, with no trace of where and when."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from open360.release.findings import EvidenceLevel, Finding, Location, Report, Severity
from open360.release.quoted import MAX_QUOTED_CHARS, quotable
from open360.release.reports.reporters import json_report, parse_report
from tests.support.report_strategies import findings, reports


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


def test_half_a_surrogate_pair_and_endless_text_can_be_written() -> None:
    finding = Finding(
        code="INT001",
        name="missing-file",
        severity=Severity.ERROR,
        location=Location(path="\ud800.txt"),
        subject="x",
        message="y" * 100_000,
        fix="\udfff",
    )
    assert finding.location.path == "\\ud800.txt"
    assert finding.fix == "\\udfff"
    assert len(finding.message) <= MAX_QUOTED_CHARS and "100,000 characters" in finding.message


@given(st.text(st.characters(), max_size=2 * MAX_QUOTED_CHARS) | st.integers(3990, 4100).map(lambda n: "ü" * n))
def test_text_that_can_be_quoted_is_quoted_as_it_is(text: str) -> None:
    once = quotable(text)
    assert quotable(once) == once
    once.encode()
