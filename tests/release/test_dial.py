"""The dial: bounds, what widens it and what never does, and the pictures that are drawn of it."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.findings import (
    Arc,
    Checked,
    Dial,
    EvidenceLevel,
    Outcome,
    Part,
    Report,
    Sample,
    Sector,
    SkippedRule,
)
from open360.release.reports.dial import arc_text, degrees_text, dial_of
from open360.release.reports.dial_svg import badge_svg, dial_svg

SVG = "{http://www.w3.org/2000/svg}"


def _outcome(sector: Sector, claims: int, broken: int, unseen: int = 0) -> Outcome:
    return Outcome(
        code="CKP001",
        name="series-incomplete",
        sector=sector,
        level=EvidenceLevel.LISTED,
        part=Part.CHECKPOINT,
        claims=claims,
        broken=broken,
        unseen=unseen,
    )


def _skipped(sector: Sector) -> SkippedRule:
    return SkippedRule(code="CKP013", name="unlike-neighbours", sector=sector, reason="it looks closer")


def _report(outcomes: list[Outcome], skipped: list[SkippedRule]) -> Report:
    return Report(
        target=".",
        release="tiny",
        version="1.0.0",
        level=EvidenceLevel.LISTED,
        findings=(),
        outcomes=tuple(outcomes),
        skipped=tuple(skipped),
        waived=(),
        checked=Checked(),
    )


outcomes = st.builds(
    lambda sector, held, broken, unseen: _outcome(sector, held + broken + unseen, broken, unseen),
    st.sampled_from(Sector),
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(0, 400),
)
skips = st.builds(_skipped, st.sampled_from(Sector))
reports = st.builds(_report, st.lists(outcomes, max_size=12), st.lists(skips, max_size=6))


def test_the_dial_of_a_known_report_is_what_the_formula_says() -> None:
    report = _report(
        [
            _outcome(Sector.DATA, 4, 1),  # 3/4
            _outcome(Sector.DATA, 10, 0),  # 1
            _outcome(Sector.DATA, 0, 0),  # does not apply
            _outcome(Sector.CODE, 1, 1),  # 0
            _outcome(Sector.LINEAGE, 2, 0),  # 1
        ],
        [_skipped(Sector.DATA), _skipped(Sector.METRICS)],
    )
    dial = dial_of(report)
    data, code, checkpoints, metrics, lineage = dial.arcs
    assert data.held == pytest.approx(1.75 / 3)
    assert data.broken == pytest.approx(0.25 / 3)
    assert data.unseen == pytest.approx(1 / 3)
    assert (data.rules, data.skipped, data.claims, data.broken_claims) == (2, 1, 14, 1)
    assert (code.held, code.broken, code.unseen) == (0, 1, 0)
    assert (checkpoints.held, checkpoints.broken, checkpoints.unseen) == (0, 0, 1)
    assert (metrics.held, metrics.broken, metrics.unseen) == (0, 0, 1)
    assert (lineage.held, lineage.broken, lineage.unseen) == (1, 0, 0)
    assert dial.degrees == pytest.approx(72 * (1.75 / 3 + 1))


def test_a_dial_is_full_when_everything_was_looked_at_and_holds() -> None:
    dial = dial_of(_report([_outcome(sector, claims, 0) for sector in Sector for claims in (1, 3, 7)], []))
    assert dial.degrees == 360
    assert degrees_text(dial.degrees) == "360°"


@given(reports)
def test_the_dial_stays_within_its_bounds_and_its_shares_make_one(report: Report) -> None:
    dial = dial_of(report)
    assert [arc.sector for arc in dial.arcs] == list(Sector)
    assert 0 <= dial.degrees <= 360
    assert dial.degrees == pytest.approx(sum(72 * arc.held for arc in dial.arcs))
    for arc in dial.arcs:
        assert arc.held + arc.broken + arc.unseen == pytest.approx(1)


@pytest.mark.parametrize(("count", "other"), [("broken", "unseen"), ("unseen", "broken")])
@given(reports, st.data())
def test_more_that_is_broken_or_was_not_looked_at_never_widens_the_dial(
    count: str, other: str, report: Report, data: st.DataObject
) -> None:
    worse = [
        outcome.model_copy(
            update={count: data.draw(st.integers(getattr(outcome, count), outcome.claims - getattr(outcome, other)))}
        )
        for outcome in report.outcomes
    ]
    assert dial_of(_report(worse, list(report.skipped))).degrees <= dial_of(report).degrees


def test_a_rule_that_looked_at_nothing_counts_as_one_that_was_skipped() -> None:
    blind, skipped = (
        dial_of(_report([_outcome(Sector.DATA, 12, 0, 12)], [])),
        dial_of(_report([], [_skipped(Sector.DATA)])),
    )
    assert [(a.held, a.broken, a.unseen) for a in blind.arcs] == [(a.held, a.broken, a.unseen) for a in skipped.arcs]


@given(reports, skips)
def test_a_further_skipped_rule_never_widens_the_dial(report: Report, skipped: SkippedRule) -> None:
    more = _report(list(report.outcomes), [*report.skipped, skipped])
    assert dial_of(more).degrees <= dial_of(report).degrees


@given(reports.filter(lambda report: report.outcomes), st.data())
def test_skipping_a_rule_that_was_checked_never_makes_more_claims_hold(report: Report, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(report.outcomes) - 1))
    chosen = report.outcomes[index]
    left = [*report.outcomes[:index], *report.outcomes[index + 1 :]]
    skipped = _report(left, [*report.skipped, _skipped(chosen.sector)])
    assert dial_of(skipped).degrees <= dial_of(report).degrees + 1e-9


@given(reports, st.randoms(use_true_random=False))
def test_the_dial_does_not_depend_on_the_order(report: Report, chance: random.Random) -> None:
    mixed, skipped = list(report.outcomes), list(report.skipped)
    chance.shuffle(mixed)
    chance.shuffle(skipped)
    assert dial_of(_report(mixed, skipped)) == dial_of(report)


@given(st.floats(0, 359.99))
def test_only_a_full_dial_is_called_full(degrees: float) -> None:
    assert degrees_text(degrees) != "360°"


def test_a_sector_in_words_says_how_much_holds_is_broken_and_was_not_looked_at() -> None:
    arc = dial_of(_report([_outcome(Sector.DATA, 4, 2)], [_skipped(Sector.DATA)])).arcs[0]
    assert arc_text(arc) == "18° of 72°: 25% held, 25% broken, 50% not looked at"
    empty = Arc(sector=Sector.DATA, held=0, broken=0, unseen=1, rules=0, skipped=0, claims=0, broken_claims=0)
    assert "nothing to look at" in arc_text(empty)


@given(reports)
def test_the_picture_is_valid_says_what_it_shows_and_draws_each_share_once(report: Report) -> None:
    dial = dial_of(report)
    root = ElementTree.fromstring(dial_svg(dial, report.level))
    assert degrees_text(dial.degrees) in (root.findtext(f"{SVG}title") or "")
    for sector in Sector:
        assert sector in (root.findtext(f"{SVG}desc") or "")
    drawn = [path.get("class") for path in root.iter(f"{SVG}path")]
    for name in ("held", "broken", "unseen"):
        assert drawn.count(name) == sum(getattr(arc, name) > 0 for arc in dial.arcs)
    numbers = re.findall(r"-?\d+\.\d+", " ".join(path.get("d") or "" for path in root.iter(f"{SVG}path")))
    assert all(abs(float(number)) <= 100 for number in numbers)


@pytest.mark.parametrize(
    ("share", "told"), [(0.01, "sample 1 %"), (0.125, "sample 12.5 %"), (0.99999, "sample over 99.9 %"), (1.0, "")]
)
def test_the_badge_names_the_share_that_was_looked_at_when_it_is_not_all(share: float, told: str) -> None:
    picture = badge_svg(Dial(degrees=312, arcs=()), EvidenceLevel.LOADED, sample=Sample(share=share))
    title = ElementTree.fromstring(picture).findtext(f"{SVG}title")
    assert title == "open360: 312°, loaded" + (f", {told}" if told else "")


@pytest.mark.parametrize("is_guess", [False, True])
@given(degrees=st.floats(0, 360), level=st.sampled_from(EvidenceLevel))
def test_the_badge_is_valid_and_reads_the_degrees_and_the_level(
    degrees: float, level: EvidenceLevel, is_guess: bool
) -> None:
    root = ElementTree.fromstring(badge_svg(Dial(degrees=degrees, arcs=()), level, is_guess=is_guess))
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert texts[0] == "open360"
    assert texts[1].startswith(f"{degrees_text(degrees)}, {level}")
    assert ("guess" in texts[1]) == is_guess
    assert root.findtext(f"{SVG}title") == f"open360: {texts[1]}"


def test_pictures_load_nothing() -> None:
    dial = dial_of(_report([_outcome(sector, 3, 1) for sector in Sector], []))
    for picture in (dial_svg(dial, EvidenceLevel.LISTED), badge_svg(dial, EvidenceLevel.LISTED)):
        rest = picture.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in rest and "href" not in rest and "<script" not in rest
