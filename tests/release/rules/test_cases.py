"""Every rule on small releases: each `bad_*` case gives exactly the listed findings, each `good_*` case gives none."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from open360.release.findings import EvidenceLevel
from open360.release.rules import RULES, weights
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.serialization import parse_yaml
from tests.support.mutations import mutate
from tests.support.tiny_release import build_tiny_release

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rules"
CASES = sorted(path.parent.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/*/case.yaml"))
FORWARD = "CKP014"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


def _case(name: str) -> dict[str, Any]:
    plain, _ = parse_yaml((GOLDEN / name / "case.yaml").read_bytes(), name)
    assert set(plain) <= {"about", "do", "finds", "says", "line", "forward"}, name
    return dict(plain)


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_exactly_its_findings(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _case(name)
    folder = tmp_path / "release"
    shutil.copytree(tiny, folder, symlinks=True)
    mutate(folder, case["do"])
    monkeypatch.setattr(weights, "FORWARD_FUNCTION", "tests.support.forward_pass:is_finite")
    rules = [rule for rule in RULES if case.get("forward") or rule.code != FORWARD]
    report = validate(FolderTarget(folder), level=EvidenceLevel.LOADED, rules=rules)

    code, kind = name.split("/")[0], name.split("/")[1].split("_")[0]
    found = sorted(finding.code for finding in report.findings)
    assert found == sorted(case.get("finds", [])), "\n".join(
        f"{f.code} {f.location}: {f.message}" for f in report.findings
    )
    assert kind in ("bad", "good")
    assert (code in found) == (kind == "bad")
    own = [finding for finding in report.findings if finding.code == code]
    if "says" in case:
        assert any(case["says"] in finding.message for finding in own), [finding.message for finding in own]
    if "line" in case:
        assert case["line"] in [finding.location.line for finding in own]


def test_every_rule_has_a_bad_and_a_good_case() -> None:
    kinds = {code: {name.split("/")[1].split("_")[0] for name in CASES if name.startswith(code)} for code in _codes()}
    assert {code for code, found in kinds.items() if found != {"bad", "good"}} == set()
    assert {name.split("/")[0] for name in CASES} <= set(_codes())


def _codes() -> list[str]:
    return [rule.code for rule in RULES]


def test_codes_and_names_are_unique_and_in_order() -> None:
    assert _codes() == sorted(_codes(), key=_codes().index)
    assert len(set(_codes())) == len(RULES) == len({rule.name for rule in RULES})
    assert all(re.fullmatch(r"[A-Z]{3}\d{3}", code) for code in _codes())


@pytest.mark.parametrize("rule", RULES, ids=_codes())
def test_a_rule_is_its_own_documentation(rule: Any) -> None:
    text = inspect.getdoc(rule) or ""
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[:4] == ["What it does", "Why is this bad?", "Example", "Remedy"]
    assert headings[4:] in ([], ["Seen in practice"])
    assert len(text.splitlines()[0]) < 100


def test_a_rule_requires_rules_that_exist_and_look_no_closer() -> None:
    by_code = {rule.code: rule for rule in RULES}
    for rule in RULES:
        for code in rule.requires:
            assert rule.level.includes(by_code[code].level), f"{rule.code} requires {code}"
