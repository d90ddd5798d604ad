"""The JSON Schema of reports that is shipped is the one that the models give, and every report agrees with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from open360.release.findings import EvidenceLevel, Report
from open360.release.reports.report_schema import report_schema
from open360.release.reports.reporters import json_report
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.serialization import canonical_json
from tests.support.report_strategies import reports
from tests.support.tiny_release import build_tiny_release

FILE = Path(__file__).parents[2] / "release" / "reports" / "report.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(FILE.read_bytes())
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    return kind(schema)


def test_the_kept_json_schema_of_reports_is_fresh() -> None:
    advice = "run 'python -P -m open360.release.reports.report_schema', and commit what it prints"
    assert FILE.read_bytes() == canonical_json(report_schema()), advice


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-P", "-m", "open360.release.reports.report_schema"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == FILE.read_bytes()


def test_the_report_of_a_release_is_valid_by_it(tmp_path: Path, validator: Any) -> None:
    folder = FolderTarget(build_tiny_release(tmp_path / "tiny"))
    validator.validate(json.loads(json_report(validate(folder, level=EvidenceLevel.LISTED))))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(report=reports)
def test_any_report_is_valid_by_it(report: Report, validator: Any) -> None:
    validator.validate(json.loads(json_report(report)))


@pytest.mark.parametrize(
    "change",
    [{"report_version": 2}, {"level": "seen"}, {"findings": None}, {"sample": {"share": 0, "seed": 0}}],
)
def test_what_is_no_report_is_not_valid_by_it(change: dict[str, Any], tmp_path: Path, validator: Any) -> None:
    folder = FolderTarget(build_tiny_release(tmp_path / "tiny"))
    plain = json.loads(json_report(validate(folder, level=EvidenceLevel.DECLARED)))
    assert not validator.is_valid({**plain, **change})
