"""The committed tables and texts agree with the spec and the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from open360.pipelines.code_digests import STAGES, code_digests
from open360.pipelines.plan import lock_text, segments_table
from open360.schema.serialization import load_spec


def test_segments_json_and_code_json_are_fresh(project_root: Path) -> None:
    spec = load_spec((project_root / "release.yaml").read_bytes())
    advice = "run 'python -P -m open360.pipelines.plan' and commit the result"
    assert json.loads((project_root / "segments.json").read_bytes()) == segments_table(spec), advice
    assert json.loads((project_root / "code.json").read_bytes()) == code_digests(lock_text(spec, project_root)), advice


def test_a_comment_or_docstring_changes_no_code_digest_and_a_statement_does(tmp_path: Path) -> None:
    import ast

    from open360.pipelines import code_digests as module

    def tree(text: str) -> object:
        return module._tree(ast.parse(text))

    plain = "def f(x):\n    return x + 1\n"
    assert tree(plain) == tree('def f(x):  # why\n    """What."""\n\n    return (x + 1)\n')
    assert tree(plain) != tree("def f(x):\n    return x + 2\n")


def test_the_evaluation_code_is_no_part_of_the_training_code() -> None:
    from open360.pipelines.code_digests import _closure

    training, _ = _closure("open360.pipelines.train_stage")
    assert "open360.trainer.segment" in training
    assert not {name for name in training if "evaluat" in name or name.startswith("open360.release")}


def test_every_stage_has_a_module_and_every_module_a_stage(project_root: Path) -> None:
    modules = {path.name.removesuffix("_stage.py") for path in (project_root / "pipelines").glob("*_stage.py")}
    assert modules == set(STAGES)


def test_import_contracts_hold(project_root: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=project_root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
