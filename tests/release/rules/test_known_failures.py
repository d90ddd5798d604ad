"""Every known failure of a real release is put into a small one and found, by exactly the rule that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from open360.release.findings import EvidenceLevel
from open360.release.rules import RULES
from open360.schema.serialization import parse_yaml

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
DOCUMENT = GOLDEN.parents[1] / "docs" / "known-failures.md"
FAILURES: dict[str, dict[str, Any]] = parse_yaml((GOLDEN / "known_failures.yaml").read_bytes(), "known_failures.yaml")[
    0
]
NAMES = {rule.code: rule for rule in RULES}


def _case(name: str) -> dict[str, Any]:
    plain, _ = parse_yaml((GOLDEN / "rules" / name / "case.yaml").read_bytes(), name)
    return dict(plain)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_known_failure_is_found_by_the_rule_that_names_it_alone(failure: str) -> None:
    """That each case gives exactly its findings is tested with all other cases."""
    for name in FAILURES[failure]["cases"]:
        case = _case(name)
        assert set(case["finds"]) == {name.split("/")[0]}
        in_bytes = FAILURES[failure].get("where") == "bytes"
        if "release" in case:
            assert case.get("level", "listed") == "listed" or in_bytes, name
        else:
            rule = NAMES[name.split("/")[0]]
            assert EvidenceLevel.LISTED.includes(rule.level) or in_bytes, name


@pytest.mark.parametrize("failure", FAILURES)
def test_a_known_failure_is_shown_on_a_release_laid_out_like_the_real_one(failure: str) -> None:
    assert any("release" in _case(name) for name in FAILURES[failure]["cases"])


def test_the_document_names_every_failure_with_its_rules() -> None:
    assert DOCUMENT.read_text() == document()


def document() -> str:
    """The page of known failures, made from the table."""
    lines = [
        "# Known failures, and the rules that find them",
        "",
        "All of these were found by outsiders, by hand. Each is put into a small release with the layout and names of",
        "the real one, on a local Hub, and found there by exactly the rule that names it; the same release without it",
        "gives no finding. *The listing* means that no weights and no data are downloaded.",
        "",
        "| failure | seen in | rule | seen from |",
        "|---|---|---|---|",
    ]
    for failure, facts in FAILURES.items():
        codes = dict.fromkeys(name.split("/")[0] for name in facts["cases"])
        rules = ", ".join(f"{code} {NAMES[code].name}" for code in codes)
        seen = "the bytes" if facts.get("where") == "bytes" else "the listing"
        lines.append(f"| {failure.replace('-', ' ')} | {facts['was']} | {rules} | {seen} |")
    lines += ["", "`open360 rules CODE` explains a rule.", ""]
    return "\n".join(lines)
