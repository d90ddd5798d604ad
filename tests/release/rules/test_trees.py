"""Rules on releases of several runs: a run starts from the weights of its parent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from open360.pipelines.plan import segments_table
from open360.release.findings import EvidenceLevel, Finding
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.serialization import canonical_json, load_spec
from tests.support.mutations import mutate
from tests.support.tiny_release import SPEC, build_tiny_release

NAMES = ("ckpt_init", "ckpt_000", "ckpt_001", "ckpt_002")


def _weights(folder: Path, run: str, name: str) -> Path:
    return folder / "runs" / run / "checkpoints" / name / "model.safetensors"


def _add_child(folder: Path, parent: str) -> None:
    """A second run that goes on from `ckpt_002` of the first, by the same steps as the first."""
    begin, end = SPEC.index("  - name: tiny\n    objective"), SPEC.index("evaluations:")
    child = SPEC[begin:end].replace("name: tiny", "name: child", 1).replace("open360/tiny", "open360/child")
    child = child.replace("    objective: pretrain\n", f"    objective: pretrain\n    parent: {parent}\n")
    text = SPEC[:end] + child + SPEC[end:]
    (folder / "release.yaml").write_text(text)
    (folder / "segments.json").write_bytes(canonical_json(segments_table(load_spec(text.encode()))))
    shutil.copytree(folder / "runs" / "tiny", folder / "runs" / "child")
    first, last = (load_file(_weights(folder, "tiny", name)) for name in (NAMES[0], NAMES[-1]))
    for name in NAMES:
        here = load_file(_weights(folder, "tiny", name))
        moved = {key: last[key] + (here[key] - first[key]) for key in here}
        save_file(moved, _weights(folder, "child", name), metadata={"format": "pt"})
        position = folder / "runs" / "child" / "checkpoints" / name / "training_state" / "position.json"
        position.write_bytes(canonical_json(json.loads(position.read_bytes()) | {"run": "child"}))
    mutate(folder, [{"positions": "again"}, {"build": "manifest"}])


def _findings(folder: Path) -> list[Finding]:
    rules = [rule for rule in RULES if rule.code != "CKP014"]
    return list(validate(FolderTarget(folder), level=EvidenceLevel.LOADED, rules=rules).findings)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build_tiny_release(tmp_path / "tiny")


@pytest.mark.parametrize(
    "parent", ["{run: tiny, final: true}", "{run: tiny, step: 6}", "{run: tiny, checkpoint: ckpt_002}"]
)
def test_a_run_that_starts_from_its_parent_is_valid(tiny: Path, parent: str) -> None:
    _add_child(tiny, parent)
    assert _findings(tiny) == []


def test_a_run_that_starts_elsewhere_is_found(tiny: Path) -> None:
    _add_child(tiny, "{run: tiny, checkpoint: ckpt_001}")
    (finding,) = _findings(tiny)
    assert (finding.code, finding.subject) == ("CKP006", "ckpt_init")
    assert "'ckpt_001' of run 'tiny', where run 'child' starts" in finding.message


def test_weights_of_another_run_are_found(tiny: Path) -> None:
    _add_child(tiny, "{run: tiny, final: true}")
    shutil.copy(_weights(tiny, "tiny", "ckpt_001"), _weights(tiny, "child", "ckpt_001"))
    mutate(tiny, [{"positions": "again"}, {"build": "manifest"}])
    codes = [finding.code for finding in _findings(tiny)]
    assert "CKP003" in codes
