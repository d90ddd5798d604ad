"""Strategies of hypothesis for reports: every field, with text of any kind."""

from __future__ import annotations

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
from open360.release.reports.dial import dial_of
from open360.release.reports.openness import KINDS, Evidence, judge

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
outcomes = st.builds(
    lambda code, name, sector, level, part, held, broken, unseen: Outcome(
        code=code,
        name=name,
        sector=sector,
        level=level,
        part=part,
        claims=held + broken + unseen,
        broken=broken,
        unseen=unseen,
    ),
    words,
    words,
    st.sampled_from(Sector),
    st.sampled_from(EvidenceLevel),
    st.sampled_from(Part),
    st.integers(0, 400),
    st.integers(0, 9),
    st.integers(0, 9),
)
skipped = st.builds(SkippedRule, code=words, name=words, sector=st.sampled_from(Sector), reason=words)
waived = st.builds(WaivedFinding, finding=findings, reason=words, until=st.none() | words)
evidence = st.builds(Evidence, there=st.sampled_from([True, False, None]), because=words, license=st.none() | words)
openness = st.builds(
    judge,
    st.fixed_dictionaries({kind.name: evidence for kind in KINDS}),
    st.sampled_from([True, False, None]),
)
reports = st.builds(
    Report,
    report_version=st.just(1),
    target=words,
    release=st.none() | words,
    version=st.none() | words,
    level=st.sampled_from(EvidenceLevel),
    sample=st.builds(Sample, share=st.floats(0, 1, exclude_min=True), seed=st.integers()),
    spec_origin=st.none() | words,
    spec_is_guess=st.booleans(),
    findings=st.lists(findings, max_size=4).map(tuple),
    outcomes=st.lists(outcomes, max_size=4).map(tuple),
    skipped=st.lists(skipped, max_size=3).map(tuple),
    waived=st.lists(waived, max_size=2).map(tuple),
    checked=st.builds(Checked, rules=st.integers(0, 99)),
    openness=st.none() | openness,
).map(lambda report: report.model_copy(update={"dial": dial_of(report)}))
