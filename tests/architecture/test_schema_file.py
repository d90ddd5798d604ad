"""The JSON Schema that is shipped is the one that the models give, and every spec here agrees with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from open360.schema.serialization import canonical_json, dump_json, parse_yaml
from open360.schema.spec import ReleaseSpec, json_schema
from tests.schema.strategies import specs

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "schema" / "release.schema.json"
SPECS = [
    ROOT / "release.yaml",
    *sorted((ROOT / "release" / "catalogue").glob("*.yaml")),
    *sorted((ROOT / "tests" / "golden" / "compat").rglob("release.yaml")),
]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(FILE.read_bytes())
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def test_the_kept_json_schema_is_fresh() -> None:
    advice = "run 'python -P -m open360.schema > schema/release.schema.json' and commit the result"
    assert FILE.read_bytes() == canonical_json(json_schema()), advice


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-P", "-m", "open360.schema"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == FILE.read_bytes()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_spec_of_the_project_is_valid_by_the_json_schema(path: Path, validator: Any) -> None:
    plain, _ = parse_yaml(path.read_bytes(), path.name)
    problems = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(plain)]
    assert problems == []


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=specs())
def test_whatever_a_spec_says_is_valid_by_the_json_schema(spec: ReleaseSpec, validator: Any) -> None:
    validator.validate(json.loads(dump_json(spec)))


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "x"},
        {"open360": 2},
        {"name": "a b"},
        {"runs": [{"name": "r", "objective": "pretraining"}]},
        {"runs": [{"name": "r", "objective": "sft", "order": {"kind": "random"}}]},
        {"runs": [{"name": "r", "objective": "sft", "batch": [[0]]}]},
        {"corpora": [{"name": "c", "row": {"row_len": 9}}]},
        {"code": [{"commit": "main"}]},
    ],
)
def test_an_editor_that_reads_the_json_schema_sees_mistakes(change: dict[str, Any], validator: Any) -> None:
    assert not validator.is_valid({"open360": 1, "name": "x", **change})


def test_the_reference_release_names_the_schema_for_editors(project_root: Path) -> None:
    assert "$schema=schema/release.schema.json" in (project_root / "release.yaml").read_text()
