"""What a card says about licences: in its front matter, and in those sentences that speak of the thing itself.

A card also speaks of the licences of its sources, of its code, of the paper and of other models. Only statements that
can be about the thing alone are taken, each with the single licence that it names; what is in doubt is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from open360.schema.errors import SpecError
from open360.schema.serialization import parse_yaml

MAX_CARD_BYTES = 1 << 20
MAX_FRONT_BYTES = 256 << 10
MAX_LINE_CHARS = 2000

_FRONT = re.compile(rb"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)[\s#]*$")
_MARKUP = re.compile(r"[*_`>]|^\s*[-+|]\s*|!?\[(?P<text>[^\]]*)\]\([^)]*\)|\s*\|\s*$")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z])")
# Names of licences in running text. A pattern never takes a part of a longer name.
_NAMES = {
    "apache-2.0": r"apache(?:[- ]licen[sc]e)?,?(?:[- ]version)?[- ]?v?2(?:\.0)?(?!\.?\d)",
    "mit": r"\bMIT[ -]licen[sc]e|(?:\bunder(?: the)?|[:|]) ?MIT\b|^\W*MIT\W*$",
    "odc-by": r"odc[- ]by(?:[- ]v?1\.0)?|open data commons attribution",
    "odbl-1.0": r"\bodbl\b|open database licen[sc]e",
    "cc0-1.0": r"\bcc[- ]?0\b|creative commons zero",
    "cc-by-4.0": r"cc[- ]by[- ]4\.0|creative commons attribution 4\.0",
    "cc-by-sa-4.0": r"cc[- ]by[- ]sa(?:[- ]4\.0)?",
    "cc-by-sa-3.0": r"cc[- ]by[- ]sa[- ]3\.0",
    "cc-by-nc-4.0": r"cc[- ]by[- ]nc(?:[- ]4\.0)?(?![- ](?:sa|nd))",
    "cc-by-nc-sa-4.0": r"cc[- ]by[- ]nc[- ]sa(?:[- ]4\.0)?",
    "gpl-3.0": r"(?<![al])gpl[- ]?v?3(?:\.0)?|(?<!lesser )(?<!affero )gnu general public licen[sc]e",
    "bsd-3-clause": r"bsd[- ]3[- ]clause",
}
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _NAMES.items()}
_THING = (
    r"(?:model|models|weights|checkpoints|dataset|data ?set|datasets|data|corpus|collection|release|artifacts?"
    r"|repository|work|parameters)"
)
_SUBJECT = rf"(?:this|these|our|the|all|all of our)\s+(?:[\w.-]+\s+){{0,3}}?{_THING}"
_MADE = "(?:licen[sc]ed|released|distributed|published|available|shared|provided|open[- ]sourced)"
_MAKE = "(?:licen[sc]e|release|distribute|publish|share|provide|open[- ]source)"
_STATES = re.compile(
    rf"\b{_SUBJECT}\b.{{0,30}}?\b(?:is|are|was|were|has been|have been)\s+(?:\w+\s+){{0,2}}?{_MADE}\b"
    r".{0,40}?\bunder\b"
    rf"|\bwe\s+(?:\w+\s+){{0,2}}?{_MAKE}\b.{{0,40}}?\b{_THING}\b.{{0,30}}?\bunder\b"
    rf"|\blicen[sc]e\s+(?:of|for)\s+{_SUBJECT}\b.{{0,20}}?\bis\b"
    rf"|\b{_SUBJECT}(?:'s|’s)?\s+licen[sc]e\s+is\b",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^licen[sc]e(?:\(s\)|s)?\s*(?:\([^)]*\))?\s*[:|]\s*(?P<value>.+)$", re.IGNORECASE)
# Words that tell that a sentence may be about something else than the thing of the card.
_OTHER = re.compile(
    r"\b(?:code|codebase|scripts?|paper|figures?|documentation|source|sources|original|originally|upstream|subset|subsets"
    r"|parts?|portions?|some|base model|tokenizer|based on|derived|fine-?tuned|inherits?|trained on|contains?|includes?"
    r"|third[- ]party|respective|except|unless|dual|or|either|previous|previously|earlier|formerly|wikipedia|stack|pile"
    r"|github|instead|longer|not|older|benchmark|demo|eval(?:uation)?s?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A licence that a card's text names, and the line in which it does."""

    license: str
    line: int
    text: str


def front_matter(card: bytes) -> dict[str, Any] | None:
    """The front matter of a card; None when it has none that can be read."""
    match = _FRONT.match(card[:MAX_FRONT_BYTES])
    if match is None:
        return None
    try:
        plain, _ = parse_yaml(match[1], "README.md", MAX_FRONT_BYTES)
    except SpecError:
        return None
    return plain if isinstance(plain, dict) else None


def licenses_of(front: dict[str, Any]) -> frozenset[str]:
    """Licences of a front matter, in small letters; `other` is the name that is given beside it, if one is."""
    stated = front.get("license")
    found = {_word(item) for item in (stated if isinstance(stated, list) else [stated])}
    name = _word(front.get("license_name"))
    if "other" in found and name:
        found = found - {"other"} | {name}
    return frozenset(found - {"", "unknown"})


def _word(value: object) -> str:
    return value.strip().casefold() if isinstance(value, str) and len(value) < 200 else ""


def statements(card: bytes) -> list[Statement]:
    """What the text of a card says of the thing's own licence."""
    match = _FRONT.match(card[:MAX_FRONT_BYTES])
    start = match.end() if match is not None else 0
    first_line = card[:start].count(b"\n") + 1
    text = card[start:MAX_CARD_BYTES].decode("utf-8", "replace")
    for pattern in (_CODE_BLOCK, _COMMENT):
        text = pattern.sub(lambda found: "\n" * found[0].count("\n"), text)
    return list(_statements(text.split("\n"), first_line))


def _statements(lines: list[str], first_line: int) -> Iterator[Statement]:
    under_license: list[str] | None = None  # lines of a section that is headed "License"
    for number, line in enumerate([*lines, "# end"], first_line):
        heading = _HEADING.match(line[:MAX_LINE_CHARS])
        if heading is None:
            plain = _plain(line)
            if under_license is not None and plain:
                under_license.append(plain)
            for sentence in _SENTENCE.split(plain):
                name = _own_license(sentence)
                if name is not None:
                    yield Statement(license=name, line=number, text=sentence)
            continue
        if under_license is not None and len(under_license) == 1:
            name = _single(under_license[0])
            if name is not None and not _OTHER.search(under_license[0]) and _own_license(under_license[0]) is None:
                yield Statement(license=name, line=number, text=under_license[0])
        title = _plain(heading[1]).rstrip(":").casefold()
        under_license = [] if title in ("license", "licence", "licensing", "license information") else None
        name = _own_license(_plain(heading[1]))
        if name is not None:
            yield Statement(license=name, line=number, text=_plain(heading[1]))


def _plain(line: str) -> str:
    """A line without its markup; links are their text."""
    return _MARKUP.sub(lambda found: found["text"] or "", line[:MAX_LINE_CHARS]).strip()


def _own_license(sentence: str) -> str | None:
    """The one licence that a sentence gives to the thing of the card."""
    name = _single(sentence)
    if name is None or _OTHER.search(sentence):
        return None
    return name if _FIELD.match(sentence) or _STATES.search(sentence) else None


def _single(text: str) -> str | None:
    """The licence that a text names when it names exactly one."""
    spans: list[tuple[int, int, str]] = []
    for name, pattern in _PATTERNS.items():
        spans += [(*match.span(), name) for match in pattern.finditer(text)]
    longest = {
        name
        for begin, end, name in spans
        if not any(b <= begin and end <= e and (e - b) > (end - begin) for b, e, _ in spans)
    }
    return next(iter(longest)) if len(longest) == 1 else None
