"""What was not looked at does not hold: files that are gone, things outside the sample, curves too short to judge."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from open360.release.findings import EvidenceLevel, Outcome, Part, Report, Sample, Sector
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.reports.github_report import github_report
from open360.release.reports.report_words import claims_text
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from tests.support.foreign_release import RELEASES, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server
from tests.support.tiny_release import build_tiny_release

LOADED = [rule for rule in RULES if rule.code != "CKP014"]
READ_CHUNKS = ("DAT002", "DAT009")
READ_CHECKPOINTS = ("CKP004", "CKP006", "CKP010", "CKP011", "CKP012", "CKP013", "CKP015")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


def _judge(folder: Path, share: float = 1.0) -> Report:
    return validate(FolderTarget(folder), level=EvidenceLevel.LOADED, rules=LOADED, sample=Sample(share=share))


def _outcomes(report: Report) -> dict[str, Outcome]:
    return {outcome.code: outcome for outcome in report.outcomes}


def _degrees(report: Report) -> float:
    assert report.dial is not None
    return report.dial.degrees


def test_of_a_whole_release_nothing_is_passed_over(tiny: Path) -> None:
    assert [outcome.code for outcome in _judge(tiny).outcomes if outcome.unseen] == []


@pytest.mark.parametrize(
    ("folder", "codes"), [("chunks", READ_CHUNKS), ("checkpoints", READ_CHECKPOINTS), ("traces", ("MET002", "DAT003"))]
)
def test_a_rule_whose_files_are_gone_holds_nothing(
    tiny: Path, tmp_path: Path, folder: str, codes: tuple[str, ...]
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(tiny, clone, symlinks=True)
    for gone in clone.glob(f"runs/*/{folder}"):
        shutil.rmtree(gone)
    report = _judge(clone)
    outcomes = _outcomes(report)
    assert {code: outcomes[code].held for code in codes} == dict.fromkeys(codes, 0)
    assert all(outcomes[code].unseen == outcomes[code].claims > 0 for code in codes)
    assert _degrees(report) < _degrees(_judge(tiny))


def test_a_missing_file_that_a_rule_tried_to_read_is_told_once(tiny: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(tiny, clone, symlinks=True)
    for tokenizer in clone.glob("corpora/*/tokenizer/tokenizer.json"):
        tokenizer.unlink()
    report = _judge(clone)
    assert [finding.code for finding in report.findings] == ["INT001"]
    assert str(tmp_path) not in report.model_dump_json()


def test_what_is_outside_the_sample_does_not_hold(tiny: Path) -> None:
    report = _judge(tiny, 0.5)
    outcome = _outcomes(report)["CKP012"]
    assert (outcome.claims, outcome.broken, outcome.unseen, outcome.held) == (4, 0, 2, 2)
    assert _degrees(report) < _degrees(_judge(tiny))
    assert "looked at level loaded, sample 50 %25" in github_report(report)


def test_records_and_files_of_others_outside_the_sample_do_not_hold(tmp_path: Path) -> None:
    with running_hub(tmp_path / "hub") as running, page_server() as pages:
        release = RELEASES["pythia-dense"]()
        spec = tmp_path / "spec.yaml"
        spec.write_bytes(put_on_hub(release, HubFolder(running.directory), pages))
        name = next(name for name in release.repos if not name.startswith("datasets/"))
        found = []
        for share in (1.0, 0.3):
            target = open_any_target(name, spec=spec, endpoint=running.url)
            found.append(validate(target, level=EvidenceLevel.LOADED, rules=LOADED, sample=Sample(share=share)))
    whole, part = found
    assert [outcome.code for outcome in whole.outcomes if outcome.unseen] == []
    assert {code for code, o in _outcomes(part).items() if o.unseen} >= {"MET007", "MET009", "DAT009", "CKP015"}
    assert all(o.claims == _outcomes(whole)[code].claims for code, o in _outcomes(part).items() if o.unseen)
    assert _degrees(part) < _degrees(whole)


def test_a_curve_too_short_to_judge_makes_no_claim(tiny: Path, tmp_path: Path) -> None:
    assert _outcomes(_judge(tiny))["MET009"].claims == 0
    with running_hub(tmp_path / "hub") as running, page_server() as pages:
        release = RELEASES["pythia"]()
        spec = tmp_path / "spec.yaml"
        spec.write_bytes(put_on_hub(release, HubFolder(running.directory), pages))
        name = next(name for name in release.repos if not name.startswith("datasets/"))
        target = open_any_target(name, spec=spec, endpoint=running.url)
        report = validate(target, level=EvidenceLevel.LISTED, rules=LOADED)
    assert _outcomes(report)["MET009"].claims == 0


def test_a_rule_says_how_much_it_did_not_look_at() -> None:
    outcome = Outcome(
        code="DAT002",
        name="chunk-rows",
        sector=Sector.DATA,
        level=EvidenceLevel.LOADED,
        part=Part.CHUNK,
        claims=12,
        broken=1,
        unseen=3,
    )
    assert claims_text(outcome) == "8 of 12 chunks hold, 3 were not looked at"
