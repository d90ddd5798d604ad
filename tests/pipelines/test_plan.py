"""The tables that drive DVC follow everything that a stage reads, and the stages refuse what they cannot honour."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from open360.pipelines.code_digests import _tree, check_environment
from open360.pipelines.plan import left_over, segments_table
from open360.schema.errors import IntegrityError, Open360Error
from open360.schema.run import Run
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec
from open360.trainer.errors import UntrainableRunError
from open360.trainer.recipe import MADE_ELSEWHERE, UNUSED, recipe_of
from open360.trainer.slices import training_slice

# What a run declares that changes nothing of its training.
NO_MATTER = {
    "name", "description", "evidence", "parameters", "custom_code", "parallelism", "seed_rule", "hub", "logs",
    "variants", "series", "steps", "order", "corpus", "seq_len", "configuration", "golden_batches",
}  # fmt: skip


@pytest.fixture
def text(project_root: Path) -> str:
    return (project_root / "release.yaml").read_text()


def _spec(text: str) -> ReleaseSpec:
    return load_spec(text.encode())


def test_another_domain_runs_the_evaluations_again_and_nothing_else(text: str) -> None:
    before, after = segments_table(_spec(text)), segments_table(_spec(text.replace("domain: prose", "domain: essays")))
    assert before["checkpoints"]["ckpt_003"] != after["checkpoints"]["ckpt_003"]
    assert {key: before[key] for key in ("corpora", "runs", "segments")} == {
        key: after[key] for key in ("corpora", "runs", "segments")
    }


def test_every_field_of_a_run_is_read_by_training_refused_or_of_no_matter() -> None:
    read = {"objective", "parent", "architecture", "optimizer", "schedule", "batch", "precision", "seed", "determinism"}
    assert read | set(UNUSED) | set(MADE_ELSEWHERE) | NO_MATTER == set(Run.model_fields)


def test_what_training_reads_is_in_its_slice(text: str) -> None:
    spec = _spec(text)
    for old, new in [("peak: 3.0e-3", "peak: 2.0e-3"), ("seed: 11111", "seed: 1"), ("batch: 8", "batch: 4")]:
        other = _spec(text.replace(old, new))
        assert training_slice(spec, spec.runs[0]) != training_slice(other, other.runs[0])


def test_a_declared_z_loss_is_refused_rather_than_left_out(text: str) -> None:
    spec = _spec(text.replace("    batch: 8\n", "    batch: 8\n    z_loss: 1.0e-4\n"))
    with pytest.raises(UntrainableRunError, match="z_loss"):
        recipe_of(spec, spec.runs[0])


def test_local_sources_are_watched_by_dvc(text: str) -> None:
    local = text.replace("pypi: sqlalchemy==2.0.44", "local: texts/mine")
    assert segments_table(_spec(local))["corpora"]["docs-and-code"]["watch"] == "texts/mine"
    assert segments_table(_spec(text))["corpora"]["docs-and-code"]["watch"] == ".dvcignore"


def test_local_sources_without_a_common_folder_are_refused(text: str) -> None:
    both = text.replace("pypi: sqlalchemy==2.0.44", "local: mine").replace("pypi: django==5.2.8", "local: theirs")
    with pytest.raises(Open360Error, match="no folder in common"):
        segments_table(_spec(both))


def test_checkpoints_that_the_spec_no_longer_names_are_listed(text: str, tmp_path: Path) -> None:
    for name in ("ckpt_000", "ckpt_012", "ckpt_init"):
        (tmp_path / "runs/amber-nano/checkpoints" / name).mkdir(parents=True)
    assert left_over(_spec(text), tmp_path) == ["runs/amber-nano/checkpoints/ckpt_012"]


@pytest.mark.parametrize(("a", "b"), [("None", "''"), ("True", "'True'"), ("1.5", "'1.5'"), ("b'a'", "\"b'a'\"")])
def test_constants_of_different_types_have_different_trees(a: str, b: str) -> None:
    assert _tree(ast.parse(f"x = {a}")) != _tree(ast.parse(f"x = {b}"))


def test_a_library_that_is_not_the_pinned_one_is_refused(project_root: Path) -> None:
    lock = (project_root / "constraints.txt").read_text()
    check_environment("pack", lock)
    changed = "\n".join("numpy==0.0.1" if line.startswith("numpy==") else line for line in lock.splitlines())
    with pytest.raises(IntegrityError, match=r"numpy: expected 0\.0\.1"):
        check_environment("pack", changed)
