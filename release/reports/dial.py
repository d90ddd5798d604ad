"""The dial: how much of a release holds, of 360 degrees, in five sectors of 72.

In a sector every rule weighs the same. A rule that was checked holds the share `(claims - broken - unseen) / claims`,
and the share `unseen / claims` of it is *not looked at*; one with no claims does not apply and is left out, as is one
that was skipped since the release makes no claim of the kind; any other that was skipped is *not looked at* as a whole.
So a sector has three shares that add up to 1: held, broken, not looked at. Its arc is 72 degrees times the share that
holds; the dial is the sum of the arcs. A finding that the spec waives still breaks its claim. A sector in which no rule
applies was not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from open360.release.findings import Arc, Dial, EvidenceLevel, Outcome, Report, Sample, Sector, SkippedRule

DEGREES_OF_A_SECTOR = 360 // len(Sector)


def dial_of(report: Report) -> Dial:
    """The dial of a report. It depends on outcomes and skipped rules alone, and not on their order."""
    arcs, held = [], Fraction(0)
    for sector in Sector:
        outcomes = [outcome for outcome in report.outcomes if outcome.sector is sector and outcome.claims]
        skipped = [rule for rule in report.skipped if rule.sector is sector and rule.applies]
        share, arc = _arc(sector, outcomes, skipped)
        held += share
        arcs.append(arc)
    return Dial(degrees=float(held * DEGREES_OF_A_SECTOR), arcs=tuple(arcs))


def _arc(sector: Sector, outcomes: Sequence[Outcome], skipped: Sequence[SkippedRule]) -> tuple[Fraction, Arc]:
    rules = len(outcomes) + len(skipped)
    held = sum((Fraction(o.held, o.claims) for o in outcomes), Fraction(0))
    passed_over = sum((Fraction(min(o.unseen, max(o.claims - o.broken, 0)), o.claims) for o in outcomes), Fraction(0))
    share = held / rules if rules else Fraction(0)
    unseen = (len(skipped) + passed_over) / rules if rules else Fraction(1)
    arc = Arc(
        sector=sector,
        held=float(share),
        broken=float(1 - share - unseen),
        unseen=float(unseen),
        rules=len(outcomes),
        skipped=len(skipped),
        claims=sum(outcome.claims for outcome in outcomes),
        broken_claims=sum(outcome.broken for outcome in outcomes),
        unseen_claims=sum(outcome.unseen for outcome in outcomes),
    )
    return share, arc


def arc_text(arc: Arc) -> str:
    """A sector in one line: its degrees, and why it has no more."""
    parts = [f"{arc.held:.0%} held", f"{arc.broken:.0%} broken", f"{arc.unseen:.0%} not looked at"]
    if not arc.rules and not arc.skipped:
        parts = ["nothing to look at"]
    return f"{degrees_text(arc.held * DEGREES_OF_A_SECTOR)} of {DEGREES_OF_A_SECTOR}°: {', '.join(parts)}"


def degrees_text(degrees: float) -> str:
    """Whole degrees; rounded down, so that only a full dial is called 360°."""
    return f"{int(degrees + 1e-9)}°"


def level_text(level: EvidenceLevel, sample: Sample) -> str:
    """How closely was looked, and at which share: `loaded, sample 1 %`. Only the whole is called no sample."""
    percent = f"{sample.share * 100:.3g}" if sample.share <= 0.999 else "over 99.9"
    return str(level) if sample.share >= 1 else f"{level}, sample {percent} %"
