"""The dial and the badge as SVG: a few arcs, drawn by hand (see docs/adr/0006-the-dial-is-drawn-by-hand.md).

Every picture is valid XML, has a title and a description, loads nothing, and is readable on light and dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from open360.release.findings import Arc, Dial, EvidenceLevel, Sample
from open360.release.reports.dial import DEGREES_OF_A_SECTOR, arc_text, degrees_text, level_text

OUTER, INNER, GAP = 100.0, 68.0, 3.0
LABEL_RADIUS, LINE = 113.0, 14
STYLE = """
.o360 { --held: #1a7f4b; --broken: #c4302b; --line: #8a9099; --ink: #1c2128; font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .o360 { --held: #3fb97c; --broken: #f2675f; --line: #7d8590; --ink: #e6e9ed } }
.o360 .held { fill: var(--held) } .o360 .broken { fill: url(#o360-hatch); stroke: var(--broken) }
.o360 .unseen { fill: none; stroke: var(--line); stroke-dasharray: 2 3 }
.o360 text { fill: var(--ink) } .o360 .degrees { font-size: 44px; font-weight: 650 }
.o360 .level { font-size: 13px } .o360 .label { font-size: 12px }
"""
HATCH = (
    '<pattern id="o360-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="2.5" height="6" style="fill: var(--broken)"/></pattern>'
)
# Colours of the badge by the degrees from which they hold; each has a contrast above 4.5 with white letters.
BADGE_COLORS = ((330.0, "#1a7f4b"), (240.0, "#5f6f12"), (120.0, "#9a5b00"), (0.0, "#b3261e"))
BADGE_HEIGHT, BADGE_PADDING, DIGIT_WIDTH = 20, 7, 6.4


def dial_svg(dial: Dial, level: EvidenceLevel) -> str:
    """The dial as a picture: what holds is solid, what is broken hatched, what was not looked at hollow."""
    title = f"{degrees_text(dial.degrees)} of 360°, looked at level {level}"
    words = "; ".join(f"{arc.sector}: {arc_text(arc)}" for arc in dial.arcs)
    shapes = "".join("".join(_sector(number, arc)) for number, arc in enumerate(dial.arcs))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="o360" viewBox="-200 -110 400 240" role="img" '
        'aria-labelledby="o360-title o360-desc">'
        f'<title id="o360-title">{escape(title)}</title><desc id="o360-desc">{escape(words)}</desc>'
        f"<style>{STYLE}</style><defs>{HATCH}</defs>{shapes}"
        f'<text class="degrees" text-anchor="middle" y="8">{degrees_text(dial.degrees)}</text>'
        f'<text class="level" text-anchor="middle" y="30">{escape(str(level))}</text></svg>'
    )


def _sector(number: int, arc: Arc) -> Iterator[str]:
    """Shapes of one sector: its shares one after the other, and its name outside."""
    begin, span = number * DEGREES_OF_A_SECTOR + GAP / 2, DEGREES_OF_A_SECTOR - GAP
    for name, share in (("held", arc.held), ("broken", arc.broken), ("unseen", arc.unseen)):
        if share > 0:
            yield f'<path class="{name}" d="{_ring(begin, begin + share * span)}"/>'
            begin += share * span
    x, y = _point(LABEL_RADIUS, number * DEGREES_OF_A_SECTOR + DEGREES_OF_A_SECTOR / 2)
    anchor = "middle" if abs(x) < 1 else "start" if x > 0 else "end"
    first, _, rest = str(arc.sector).partition(" and ")
    lines = [f"{first} and", rest] if rest else [first]
    for line, text in enumerate(lines):
        at = y + 4 + LINE * (line - (len(lines) - 1) / 2)
        yield f'<text class="label" x="{x:.1f}" y="{at:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ring(begin: float, end: float) -> str:
    """A piece of the ring between two angles in degrees, clockwise from the top."""
    large = int(end - begin > 180)
    (a, b), (c, d) = _point(OUTER, begin), _point(OUTER, end)
    (e, f), (g, h) = _point(INNER, end), _point(INNER, begin)
    outer = f"M{a:.2f} {b:.2f}A{OUTER:g} {OUTER:g} 0 {large} 1 {c:.2f} {d:.2f}"
    return f"{outer}L{e:.2f} {f:.2f}A{INNER:g} {INNER:g} 0 {large} 0 {g:.2f} {h:.2f}Z"


def _point(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.sin(math.radians(degrees)), -radius * math.cos(math.radians(degrees))


def badge_svg(
    dial: Dial,
    level: EvidenceLevel,
    *,
    is_guess: bool = False,
    sample: Sample = Sample(),  # noqa: B008
) -> str:
    """A badge for a README: "open360 | 312°, listed", with the share that was looked at: "312°, loaded, sample 1 %"."""
    told = f"{degrees_text(dial.degrees)}, {level_text(level, sample)}" + (", by a guess" if is_guess else "")
    color = next(color for least, color in BADGE_COLORS if dial.degrees >= least)
    left, right = _width("open360"), _width(told)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{BADGE_HEIGHT}" role="img" '
        f'aria-label="{escape(f"open360: {told}")}"><title>{escape(f"open360: {told}")}</title>'
        f'<rect width="{left + right}" height="{BADGE_HEIGHT}" rx="3" fill="#444b54"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{right - 3}z" fill="{color}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14" textLength="{left - 2 * BADGE_PADDING}">open360</text>'
        f'<text x="{left + right / 2:g}" y="14" textLength="{right - 2 * BADGE_PADDING}">{escape(told)}</text>'
        "</g></svg>\n"
    )


def _width(text: str) -> int:
    """Width of a field of the badge; `textLength` makes any font fit it."""
    return round(len(text) * DIGIT_WIDTH) + 2 * BADGE_PADDING
