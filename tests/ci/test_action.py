"""The GitHub Action: its script, run from a clean checkout as the runner would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from open360.schema.serialization import parse_yaml

EXPRESSION = re.compile(r"\$\{\{ ([^}]+) \}\}")


@pytest.fixture(scope="module")
def action(project_root: Path) -> dict[str, Any]:
    plain, _ = parse_yaml((project_root / "action.yml").read_bytes(), "action.yml")
    assert isinstance(plain, dict)
    return plain


class Runner:
    """Runs the action's step with its inputs put in, and nothing else in the environment."""

    def __init__(self, action: dict[str, Any], checkout: Path, offline: dict[str, str], temporary: Path) -> None:
        self.action, self.checkout, self.offline, self.temporary = action, checkout, offline, temporary
        self.output = temporary / "output"

    def run(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        (step,) = self.action["runs"]["steps"]
        given = {name: str(declared["default"]) for name, declared in self.action["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        values = {f"inputs.{name}": value for name, value in given.items()}
        values["github.action_path"] = str(self.checkout)
        told = {name: EXPRESSION.sub(lambda found: values[found[1]], text) for name, text in step["env"].items()}
        environment = {**self.offline, **told, "RUNNER_TEMP": str(self.temporary), "GITHUB_OUTPUT": str(self.output)}
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            env=environment,
            cwd=self.temporary,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def runner(
    action: dict[str, Any], checkout: Path, offline: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Runner:
    return Runner(action, checkout, offline, tmp_path_factory.mktemp("runner"))


def test_every_input_reaches_the_script_through_the_environment_alone(
    action: dict[str, Any], project_root: Path
) -> None:
    (step,) = action["runs"]["steps"]
    script = (project_root / ".ci" / "validate-release").read_text()
    assert "${{" not in step["run"]
    assert {EXPRESSION.search(text)[1] for text in step["env"].values()} == {  # type: ignore[index]
        *(f"inputs.{name}" for name in action["inputs"]),
        "github.action_path",
    }
    assert all(name in script for name in step["env"])
    assert all(declared["description"] and "default" in declared for declared in action["inputs"].values())


def test_a_sound_release_passes(runner: Runner, release: Path) -> None:
    result = runner.run(target=str(release), level="listed", python=sys.executable)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "::error" not in result.stdout
    assert "0 errors" in result.stdout


def test_a_release_without_a_file_fails_with_annotations_and_a_sarif_report(runner: Runner, release: Path) -> None:
    next(release.glob("runs/*/chunks/*.parquet")).unlink()
    report = runner.temporary / "report.sarif"
    result = runner.run(target=str(release), level="listed", sarif=str(report), python=sys.executable)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "::error file=" in result.stdout
    found = json.loads(report.read_text())
    assert found["version"] == "2.1.0"
    assert any(entry["ruleId"] == "INT001" for entry in found["runs"][0]["results"])
    assert runner.output.read_text().endswith(f"sarif={report}\n")


def test_text_of_an_input_is_never_run_nor_taken_for_an_option(runner: Runner) -> None:
    mark = runner.temporary / "mark"
    result = runner.run(target=f"--help; touch {mark}; $(touch {mark})", python=sys.executable)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "expected a folder that exists" in result.stderr
    assert not mark.exists()
