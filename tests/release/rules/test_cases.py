"""Every rule on small releases: each `bad_*` case gives exactly the listed findings, each `good_*` case gives none."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from open360.release.findings import EvidenceLevel, Report
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.rules import RULES, weights
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.serialization import parse_yaml
from tests.support.foreign_release import RELEASES, change, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.mutations import mutate
from tests.support.page_server import Pages, page_server
from tests.support.tiny_release import build_tiny_release

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rules"
CASES = sorted(path.parent.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/*/case.yaml"))
FORWARD = "CKP014"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """A local Hub and an http server, to be filled by each case."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running, page_server() as pages:
        yield Elsewhere(url=running.url, folder=HubFolder(running.directory), pages=pages)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where foreign releases lie."""

    url: str
    folder: HubFolder
    pages: Pages


def _case(name: str) -> dict[str, Any]:
    plain, _ = parse_yaml((GOLDEN / name / "case.yaml").read_bytes(), name)
    assert set(plain) <= {"about", "do", "finds", "says", "line", "forward", "release", "level"}, name
    return dict(plain)


def _validate_folder(case: dict[str, Any], tiny: Path, tmp_path: Path) -> Report:
    folder = tmp_path / "release"
    shutil.copytree(tiny, folder, symlinks=True)
    mutate(folder, case["do"])
    rules = [rule for rule in RULES if case.get("forward") or rule.code != FORWARD]
    return validate(FolderTarget(folder), level=EvidenceLevel.LOADED, rules=rules)


def _validate_foreign(case: dict[str, Any], elsewhere: Elsewhere, tmp_path: Path) -> Report:
    release = RELEASES[case["release"]]()
    change(release, case.get("do", []))
    elsewhere.folder.clear()
    file = tmp_path / "spec.yaml"
    file.write_bytes(put_on_hub(release, elsewhere.folder, elsewhere.pages))
    name = next(name for name in release.repos if not name.startswith("datasets/"))
    target = open_any_target(name, spec=file, endpoint=elsewhere.url)
    rules = [rule for rule in RULES if rule.code != FORWARD]
    return validate(target, level=EvidenceLevel(case.get("level", "listed")), rules=rules)


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_exactly_its_findings(
    name: str, tiny: Path, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _case(name)
    monkeypatch.setattr(weights, "FORWARD_FUNCTION", "tests.support.forward_pass:is_finite")
    foreign = "release" in case
    report = _validate_foreign(case, elsewhere, tmp_path) if foreign else _validate_folder(case, tiny, tmp_path)

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


@pytest.mark.parametrize("level", ["listed", "hashed", "loaded"])
@pytest.mark.parametrize("name", sorted(RELEASES))
def test_a_flawless_foreign_release_gives_no_finding(
    name: str, level: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    report = _validate_foreign({"release": name, "level": level}, elsewhere, tmp_path)
    assert [f"{f.code} {f.location}: {f.message}" for f in report.findings] == []


@pytest.mark.parametrize(("name", "finds"), [("amber", []), ("k2", []), ("olmo", []), ("pythia", ["CKP003"])])
def test_by_a_guess_a_flawless_release_has_no_finding_but_what_is_seen(
    name: str, finds: list[str], elsewhere: Elsewhere
) -> None:
    """That step0 and step1 are equal is seen, and that it is meant is not."""
    release = RELEASES[name]()
    elsewhere.folder.clear()
    put_on_hub(release, elsewhere.folder, elsewhere.pages)
    repo = next(name for name in release.repos if not name.startswith("datasets/"))
    target = open_any_target(repo, endpoint=elsewhere.url)
    report = validate(target, level=EvidenceLevel.LISTED, rules=[rule for rule in RULES if rule.code != FORWARD])
    assert report.spec_is_guess
    assert [f.code for f in report.findings] == finds, [f"{f.code} {f.location}: {f.message}" for f in report.findings]


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
    assert headings[4:] == ["Seen in practice"]
    assert len(text.splitlines()[0]) < 100


def test_a_rule_requires_rules_that_exist_and_look_no_closer() -> None:
    by_code = {rule.code: rule for rule in RULES}
    for rule in RULES:
        for code in rule.requires:
            assert rule.level.includes(by_code[code].level), f"{rule.code} requires {code}"
