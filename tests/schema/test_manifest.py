"""The manifest: its two forms, unknown fields, duplicates, versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from open360.schema.errors import SpecError, UnsupportedVersionError
from open360.schema.manifest import Manifest
from open360.schema.serialization import dump_json, load_manifest

A, B, C = "a" * 64, "b" * 64, "c" * 64
COMMIT = "0" * 40


def built() -> dict[str, Any]:
    """A small built manifest as plain data."""
    return {
        "open360": 1, "form": "built", "name": "tiny", "version": "1.0.0", "spec_sha256": A, "environment_sha256": None,
        "code": [{"stage": "train", "sha256": B}],
        "corpora": [],
        "runs": [
            {
                "name": "r", "corpus": None, "tokens": 64, "tokens_left_over": 3,
                "chunks": [
                    {
                        "name": "chunk_000", "first_step": 0, "end_step": 4, "first_row": 0, "end_row": 8, "row_len": 9,
                        "file": {"path": "runs/r/chunks/chunk_000.parquet", "bytes": 5, "sha256": A},
                        "step_table": {"path": "runs/r/steps/chunk_000.parquet", "bytes": 5, "sha256": B},
                        "rows_sha256": C,
                    }
                ],
                "checkpoints": [
                    {
                        "name": "ckpt_000", "step": 4, "tokens": 64, "learning_rate": 0.25, "parent": None,
                        "chunk": "chunk_000", "first_row": 0, "end_row": 8, "holds": ["weights"],
                        "folder": "runs/r/checkpoints/ckpt_000",
                        "files": [{"path": "model.safetensors", "bytes": 9, "sha256": C}],
                        "tensors": {"weights": A},
                        "trace": {"path": "runs/r/traces/ckpt_000.jsonl", "bytes": 9, "sha256": A},
                    }
                ],
            }
        ],
        "files": [{"path": "release.yaml", "bytes": 9, "sha256": A}],
    }  # fmt: skip


def built_manifest() -> bytes:
    """The same as JSON."""
    return json.dumps(built(), indent=1).encode()


def _published() -> dict[str, Any]:
    place = {"repo": "o/m", "repo_type": "model", "revision": "main", "commit": COMMIT}
    release = {
        "code_commit": None,
        "code_swhid": None,
        "dirty": None,
        "primary": "o/m",
        "tag": "v1",
        "repositories": [place],
    }
    return {**built(), "form": "published", "published": release}


def _record(path: str) -> dict[str, Any]:
    return {"path": path, "bytes": 1, "sha256": A}


def _codes(plain: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_manifest(json.dumps(plain).encode())
    return [problem.code for problem in caught.value.problems]


def test_all_files_are_relative_to_the_release_and_sorted() -> None:
    manifest = load_manifest(built_manifest())
    assert [record.path for record in manifest.all_files()] == [
        "release.yaml",
        "runs/r/checkpoints/ckpt_000/model.safetensors",
        "runs/r/chunks/chunk_000.parquet",
        "runs/r/steps/chunk_000.parquet",
        "runs/r/traces/ckpt_000.jsonl",
    ]


def test_runs_chunks_and_checkpoints_are_found_by_name() -> None:
    run = load_manifest(built_manifest()).run("r")
    assert (run.chunk("chunk_000").rows, run.checkpoint("ckpt_000").step) == (8, 4)
    for missing in (
        lambda: run.chunk("x"),
        lambda: run.checkpoint("x"),
        lambda: load_manifest(built_manifest()).run("x"),
    ):
        with pytest.raises(KeyError):
            missing()


def test_fields_of_a_newer_writer_are_kept_at_every_level() -> None:
    plain = built()
    plain["new"] = {"deep": [1, None, "x"]}
    plain["runs"][0]["new"] = 1
    plain["runs"][0]["checkpoints"][0]["new"] = [2]
    plain["runs"][0]["checkpoints"][0]["files"][0]["xet"] = "f" * 64
    again = json.loads(dump_json(load_manifest(json.dumps(plain).encode())))
    assert again["new"] == plain["new"]
    assert again["runs"][0]["new"] == 1
    assert again["runs"][0]["checkpoints"][0]["new"] == [2]
    assert again["runs"][0]["checkpoints"][0]["files"][0]["xet"] == "f" * 64


def test_the_form_and_the_published_part_go_together() -> None:
    assert load_manifest(json.dumps(_published()).encode()).form == "published"
    assert _codes({**built(), "form": "published"}) == ["form"]
    assert _codes({**_published(), "form": "built"}) == ["form"]


def test_a_manifest_of_another_version_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedVersionError, match="newer open360"):
        load_manifest(json.dumps({**built(), "open360": 2}).encode())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: m["files"].append(m["files"][0]), "duplicate_path"),
        (lambda m: m["files"].append(_record("runs/r/chunks/chunk_000.parquet")), "duplicate_path"),
        (lambda m: m["runs"][0]["chunks"].append(m["runs"][0]["chunks"][0]), "duplicate_name"),
        (lambda m: m["runs"][0]["checkpoints"].append(m["runs"][0]["checkpoints"][0]), "duplicate_name"),
        (lambda m: m["runs"][0]["checkpoints"][0]["files"].append(_record("model.safetensors")), "duplicate_path"),
        (lambda m: m["runs"][0]["checkpoints"][0].update(files=[]), "too_short"),
        (lambda m: m["runs"][0]["chunks"][0].update(end_row=0), "greater_than_equal"),
        (lambda m: m["runs"][0]["chunks"][0].update(first_row=8), "empty_range"),
        (lambda m: m["files"][0].update(path="../x"), "path_leaves_root"),
        (lambda m: m["files"][0].update(sha256=A.upper()), "string_pattern_mismatch"),
        (lambda m: m["files"][0].update(sha256=A + "\n"), "string_pattern_mismatch"),
        (lambda m: m["files"][0].update(bytes=-1), "greater_than_equal"),
        (lambda m: m["files"][0].update(bytes=1 << 60), "less_than_equal"),
        (lambda m: m["files"][0].update(bytes="9"), "int_type"),
        (lambda m: m["files"][0].update(bytes=9.5), "int_type"),
        (lambda m: m.update(form="draft"), "literal_error"),
        (lambda m: m["runs"][0]["checkpoints"][0].pop("parent"), "missing"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_is_refused(change: Any, code: str) -> None:
    plain = built()
    change(plain)
    assert code in _codes(plain)


def test_a_manifest_is_frozen() -> None:
    manifest = load_manifest(built_manifest())
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]
    assert isinstance(manifest, Manifest)
