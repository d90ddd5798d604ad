"""`open360 validate` and `open360 rules` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from open360.release.cli.main import cli
from open360.release.findings import Sector
from open360.release.reports.reporters import parse_report
from open360.release.rules import RULES
from open360.schema.serialization import parse_yaml
from tests.support.tiny_release import build_tiny_release


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "tiny")
    return tmp_path / "tiny"


def _run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_clean_release_is_done_with_code_0_and_findings_give_code_1(tiny: Path) -> None:
    assert _run("validate", tiny, "--level", "listed").exit_code == 0
    (tiny / "runs" / "tiny" / "checkpoints" / "ckpt_001" / "model.safetensors").unlink()
    done = _run("validate", tiny, "--level", "listed")
    assert done.exit_code == 1
    assert "INT001 missing-file: error" in done.output


def test_all_shows_every_finding(tiny: Path) -> None:
    spec = tiny / "release.yaml"
    sources = "".join(f"      - {{name: source-{number:02d}}}\n" for number in range(14))
    spec.write_text(spec.read_text().replace("    deduplicate: exact\n", f"{sources}    deduplicate: exact\n"))
    some = _run("validate", tiny, "--level", "declared")
    every = _run("validate", tiny, "--level", "declared", "--all")
    assert "LIC001 license-missing: error, 14 findings" in some.output
    assert "and 4 more: --all shows them" in some.output
    assert "'source-13' has no licence" not in some.output
    assert "'source-13' has no licence" in every.output


def test_the_badge_is_written_beside_the_report(tiny: Path, tmp_path: Path) -> None:
    done = _run("validate", tiny, "--level", "listed", "--format", "json", "--badge", tmp_path / "badge.svg")
    report = parse_report(done.stdout)
    assert report.dial is not None
    root = ElementTree.parse(tmp_path / "badge.svg").getroot()
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["open360", f"{int(report.dial.degrees)}°, listed"]


def test_the_file_of_the_model_openness_tool_is_written(tiny: Path, tmp_path: Path) -> None:
    assert _run("validate", tiny, "--level", "listed", "--mof", tmp_path / "mof.yml").exit_code == 0
    plain, _ = parse_yaml((tmp_path / "mof.yml").read_bytes(), "mof.yml")
    assert plain["release"]["name"] == "tiny"
    assert "Model parameters (Final)" in [component["name"] for component in plain["release"]["components"]]


def test_without_a_readable_spec_no_file_of_the_tool_is_written_and_the_code_is_2(tiny: Path, tmp_path: Path) -> None:
    (tiny / "release.yaml").write_text("open360: [")
    done = _run("validate", tiny, "--level", "declared", "--mof", tmp_path / "mof.yml")
    assert done.exit_code == 2
    assert not (tmp_path / "mof.yml").exists()
    assert "the spec cannot be read" in done.stderr


def test_the_page_is_written_to_a_file(tiny: Path, tmp_path: Path) -> None:
    done = _run("validate", tiny, "--level", "listed", "--format", "html", "-o", tmp_path / "report.html")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_output_that_is_no_terminal_has_no_colours(tiny: Path) -> None:
    assert "\x1b[" not in _run("validate", tiny, "--level", "declared").output


def test_help_names_the_levels_and_the_exit_codes() -> None:
    text = _run("validate", "--help").output
    for word in ("declared", "listed", "hashed", "loaded", "Exit code 0", "--badge", "--mof", "--all"):
        assert word in text


def test_rules_are_listed_by_sector() -> None:
    lines = _run("rules").output.splitlines()
    assert [line for line in lines if line in list(Sector)] == list(Sector)
    for rule in RULES:
        assert any(line.startswith(f"  {rule.code}  {rule.severity}") and rule.name in line for line in lines)


@pytest.mark.parametrize("word", ["CKP003", "ckp003", "repeated-weights"])
def test_a_rule_is_explained_with_its_facts_and_all_its_parts(word: str) -> None:
    text = _run("rules", word).output
    for part in ("CKP003 repeated-weights", "checkpoints", "listed", "SPC001", "What it does", "Remedy"):
        assert part in text
    assert "## " not in text


def test_rules_as_json_have_their_sections_as_fields() -> None:
    facts = {rule["code"]: rule for rule in json.loads(_run("rules", "--json").output)}
    assert set(facts) == {rule.code for rule in RULES}
    for rule in facts.values():
        assert {"summary", "what_it_does", "why_is_this_bad", "example", "remedy", "seen_in_practice"} <= rule.keys()
        assert rule["sector"] in list(Sector)
    assert (facts["CKP003"]["part"], facts["CKP003"]["level"]) == ("checkpoint", "listed")


def test_an_unknown_rule_is_wrong_usage_and_is_not_echoed_raw() -> None:
    done = _run("rules", "\x1b[31mX")
    assert done.exit_code == 2
    assert "\x1b" not in done.output
    assert "CKP003" in done.output
